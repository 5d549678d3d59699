/** Pipes and fifos that lead out of the tree. */
import type { Finding } from '../../../api/types.ts';
import { endKey } from '../facts.ts';
import { descriptorsOf, named, ownerOutside, type Rule } from '../rule.ts';

export const pipes: Rule = (facts) => {
  const seen = new Set<string>();
  return descriptorsOf(facts).flatMap(({ process, descriptor }): Finding[] => {
    const key = endKey(descriptor);
    if (key === undefined || (descriptor.kind !== 'pipe' && descriptor.kind !== 'fifo')) return [];
    const owner = ownerOutside(facts, key);
    if (owner === undefined || owner === 'stranger' || seen.has(key)) return [];
    seen.add(key);
    const thing = descriptor.kind === 'fifo' ? `the named pipe ${descriptor.target}` : 'a pipe';
    return [
      {
        tie: 'pipe',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} has ${thing} to ${named(owner)}, which is outside.`,
        hint: `Wait until ${owner.name} has ended, or end it, and try again.`,
      },
    ];
  });
};
