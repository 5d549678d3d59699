/** Processes that are in the way of taking the tree as a whole. */
import type { Finding } from '../../../api/types.ts';
import { named, type Rule } from '../rule.ts';

/** In the capsule, but started from outside: CRIU would not find them below the capsule's init. */
export const strangers: Rule = (facts) =>
  facts.strangers.map(
    (process): Finding => ({
      tie: 'exec',
      verdict: 'blocking',
      by: '',
      what:
        facts.place === 'capsule'
          ? `${named(process)}, started by \`torpor exec\`, still runs in it.`
          : `${named(process)} runs in its pid namespace without being below it.`,
      hint: 'Wait for it to end, or end it, and try again.',
    }),
  );

/** Waiting in the kernel for a device or a network file system: such a process cannot be stopped. */
export const stuck: Rule = (facts) =>
  facts.processes
    .filter((process) => process.state === 'D')
    .map(
      (process): Finding => ({
        tie: 'stuck-process',
        verdict: 'blocking',
        by: '',
        what: `${named(process)} waits for a disk or a network file system and cannot be stopped.`,
        hint: 'Try again when that has answered.',
      }),
    );

/** What a tree is that cannot be suspended whatever else is found: the rest then says what it would take. */
export const jobs: Rule = (facts) => {
  const [root] = facts.processes;
  if (facts.place === 'capsule' || root === undefined) return [];
  const isPart = facts.place === 'part of a capsule';
  return [
    {
      tie: 'job',
      verdict: 'blocking',
      by: '',
      what: isPart
        ? `${named(root)} is a part of a capsule, which is suspended as a whole.`
        : `${named(root)} was not started by Torpor, and this version suspends only what it started itself.`,
      hint: isPart
        ? 'Name the capsule; see `torpor ps`.'
        : 'Start the application with `torpor run -- COMMAND`; it can then be suspended at any time.',
    },
  ];
};
