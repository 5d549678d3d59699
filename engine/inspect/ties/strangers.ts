/** Processes that are in the way of taking the tree as a whole. */
import type { Finding } from '../../../api/types.ts';
import { named, type Rule } from '../rule.ts';

/** In the capsule, but started from outside: CRIU would not find them below the capsule's init. */
export const strangers: Rule = (facts) => {
  if (!facts.isCapsule) return [];
  const parents = new Map(facts.processes.map((process) => [process.pid, process.ppid]));
  const belongs = (pid: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined; at = parents.get(at))
      if (at === facts.root) return true;
    return false;
  };
  return facts.processes
    .filter((process) => !belongs(process.pid))
    .map(
      (process): Finding => ({
        tie: 'exec',
        verdict: 'blocking',
        by: '',
        what: `${named(process)}, started by \`torpor exec\`, still runs in it.`,
        hint: 'Wait for it to end, or end it, and try again.',
      }),
    );
};

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
