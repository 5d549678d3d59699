/** A job that is stopped (Ctrl+Z) by a shell that does not come back with it. */
import type { Finding } from '../../../api/types.ts';
import { named, type Rule } from '../rule.ts';

export const stopped: Rule = (facts): Finding[] => {
  const root = facts.processes.find(({ pid }) => pid === facts.root);
  // Where the shell is in the job it comes back too, with what it has stopped.
  if (facts.isCapsule || root?.state !== 'T' || root.session === root.pid) return [];
  return [
    {
      tie: 'stopped',
      verdict: 'handled',
      by: 'engine',
      pid: root.pid,
      what: `${named(root)} is stopped, as by Ctrl+Z.`,
      hint: 'It goes on with the resume, where there is no shell that could continue it.',
    },
  ];
};
