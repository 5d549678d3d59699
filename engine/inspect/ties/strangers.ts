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
      pid: process.pid,
      what: facts.isCapsule
        ? `${named(process)}, started by \`torpor exec\`, still runs in it.`
        : `${named(process)} belongs to it, but what started it has ended, so it stands alone.`,
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
        pid: process.pid,
        what: `${named(process)} waits for a disk or a network file system and cannot be stopped.`,
        hint: 'Try again when that has answered.',
      }),
    );
