/** Namespaces within the tree: of one tree CRIU saves one of each kind, and nested mount namespaces. */
import type { Finding } from '../../../api/types.ts';
import { named, oncePerProcess, type Rule } from '../rule.ts';

/** CLONE_SUBNS of CRIU's namespaces.h; net it has too, but only where the root's own is saved, which a capsule's is not. */
const nestable = new Set(['mnt']);

export const namespaces: Rule = (facts) => {
  const root = facts.processes.find((process) => process.pid === facts.root);
  if (root === undefined) return [];
  const tied = facts.processes.flatMap((process) =>
    Object.entries(process.namespaces)
      .filter(([name, link]) => !nestable.has(name) && link !== '' && link !== root.namespaces[name])
      .map(([name]) => ({ process, what: name })),
  );
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'namespace',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} lives in a sandbox of its own (${whats.join(', ')} namespace), which cannot be saved.`,
      hint: 'Start the application with `torpor run`, or turn its own sandbox off.',
    }),
  );
};
