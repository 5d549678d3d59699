/** What threads have for themselves, and main threads that have ended: CRIU asks the main thread for everything. */
import type { Finding } from '../../../api/types.ts';
import type { Apart } from '../facts.ts';
import { named, oncePerProcess, type Rule } from '../rule.ts';

export const threads: Rule = (facts) => [...apart(facts), ...headless(facts)];

const words: Readonly<Record<Exclude<Apart['what'], 'tracer' | 'processors'>, string>> = {
  descriptors: 'open files',
  folder: 'a working folder',
  namespace: 'a sandbox (namespace)',
};

const apart: Rule = (facts) => {
  const tied = facts.hidden.threads.flatMap(({ pid, what }) => {
    const process = facts.processes.find((each) => each.pid === pid);
    return process === undefined || what === 'tracer' || what === 'processors'
      ? []
      : [{ process, what: words[what] }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'thread',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has a thread with ${whats.join(' and ')} of its own, which cannot be saved.`,
      hint: `End ${process.name} and try again.`,
    }),
  );
};

const headless: Rule = (facts) =>
  facts.processes
    .filter(({ threadsLeft }) => threadsLeft)
    .map(
      (process): Finding => ({
        tie: 'thread',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} has ended its main thread while others of it go on, which cannot be saved.`,
        hint: `Wait until ${process.name} has ended, or end it, and try again.`,
      }),
    );
