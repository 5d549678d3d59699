/** What a process may not do, and how the processor guards it: both come back with it. */
import type { Finding } from '../../../api/types.ts';
import { named, type Rule } from '../rule.ts';

export const protection: Rule = (facts) => [...filters(facts), ...shadowStacks(facts)];

/** All processes of a capsule but its init have the capsule's own filter, which is nothing to speak of. */
const filters: Rule = (facts) => {
  const below = facts.processes.filter(({ pid, state }) => pid !== facts.root && state !== 'Z');
  const common = facts.isCapsule ? Math.min(...below.map(({ filters: count }) => count)) : 0;
  return facts.processes
    .filter(({ seccomp, filters: count }) => seccomp === 'strict' || count > common)
    .map(
      (process): Finding => ({
        tie: 'seccomp',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} has given up some system calls (seccomp); it stays that way.`,
        hint: '',
      }),
    );
};

const shadowStacks: Rule = (facts) =>
  facts.processes
    .filter(({ shadowStack }) => shadowStack)
    .map(
      (process): Finding => ({
        tie: 'processor',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} has its return addresses guarded by the processor (shadow stack); they stay so.`,
        hint: 'It can be resumed only on a processor and a kernel that have this too.',
      }),
    );
