/** Which processors a process is bound to. What it needs of them is compared before a resume. */
import type { Finding } from '../../../api/types.ts';
import { named, oncePerProcess, type Rule } from '../rule.ts';

/** CRIU 4.2 does not save it. */
export const processors: Rule = (facts) => {
  const whole = facts.processes.flatMap((process) =>
    process.processors === facts.processors || process.processors === ''
      ? []
      : [{ process, what: `is bound to processor ${process.processors}` }],
  );
  const threads = facts.hidden.threads.flatMap(({ pid, what }) => {
    const process = facts.processes.find((each) => each.pid === pid);
    return what !== 'processors' || process === undefined
      ? []
      : [{ process, what: 'has threads that are bound to processors of their own' }];
  });
  return oncePerProcess(
    [...whole, ...threads],
    (process, whats): Finding => ({
      tie: 'processor',
      verdict: 'degraded',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} ${whats.join(' and ')}.`,
      hint: 'After the resume it may run on all of them; bind it again with `taskset` if that matters.',
    }),
  );
};
