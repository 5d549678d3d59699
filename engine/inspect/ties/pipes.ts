/** Pipes and fifos that lead out of the tree, and those that CRIU does not know. */
import type { Finding } from '../../../api/types.ts';
import { endKey, type Facts, type Outsider } from '../facts.ts';
import { descriptorsOf, named, oncePerProcess, ownerOutside, type Rule } from '../rule.ts';
import { heldByPlugin } from './held-by-plugin.ts';
import { holdsInhibitor } from './inhibitors.ts';

export const pipes: Rule = (facts) => [...leadingOut(facts), ...ofPackets(facts)];

/** O_DIRECT of open(2), by which a pipe keeps apart what is written to it (pipe(2)). */
const direct = 0o40000;

const ofPackets: Rule = (facts) =>
  oncePerProcess(
    descriptorsOf(facts)
      .filter(({ descriptor }) => descriptor.kind === 'pipe' && (descriptor.flags & direct) !== 0)
      .map(({ process }) => ({ process, what: '' })),
    (process): Finding => ({
      tie: 'pipe',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has a pipe that keeps packets apart (O_DIRECT), which cannot be saved.`,
      hint: `End ${process.name} and try again.`,
    }),
  );

/** Started by what has started the job too, as the parts of a pipeline are. */
function isSibling(facts: Facts, { ppid = 0 }: Outsider): boolean {
  const root = facts.processes.find(({ pid }) => pid === facts.root);
  return !facts.isCapsule && ppid > 1 && ppid === root?.ppid;
}

const leadingOut: Rule = (facts) => {
  const seen = new Set<string>();
  return descriptorsOf(facts).flatMap(({ process, descriptor }): Finding[] => {
    const key = endKey(descriptor);
    if (key === undefined || (descriptor.kind !== 'pipe' && descriptor.kind !== 'fifo')) return [];
    if (holdsInhibitor(facts, descriptor)) return [];
    const owner = ownerOutside(facts, key);
    if (owner === undefined || owner === 'stranger' || seen.has(key)) return [];
    seen.add(key);
    const companion = facts.companions?.get(owner.pid);
    const thing = descriptor.kind === 'fifo' ? `the named pipe ${descriptor.target}` : 'a pipe';
    const common = { tie: 'pipe', pid: process.pid } as const;
    if (companion !== undefined) {
      return [
        {
          ...{ ...common, verdict: 'handled', by: 'engine' },
          what: `${named(process)} has ${thing} to ${named(owner)}.`,
          hint: `They are connected again where it is resumed together with ${companion}.`,
        },
      ];
    }
    const plugin = facts.plugins?.get(owner.pid);
    if (plugin !== undefined) {
      const what = `${named(process)} has ${thing} to the plugin ${plugin}.`;
      return [heldByPlugin('pipe', process, plugin, what)];
    }
    return [
      {
        ...{ ...common, verdict: 'blocking', by: '' },
        what: `${named(process)} has ${thing} to ${named(owner)}, which is outside.`,
        hint: isSibling(facts, owner)
          ? `Both were started by process ${owner.ppid}; suspend that, with all that it runs: \`torpor suspend ${owner.ppid}\`.`
          : `Wait until ${owner.name} has ended, or end it, and try again.`,
      },
    ];
  });
};
