/** The processor: what of it is in use that another one may not have, and which ones a process is bound to. */
import type { Finding } from '../../../api/types.ts';
import { named, oncePerProcess, type Rule } from '../rule.ts';

export const processors: Rule = (facts) => [...wideRegisters(facts), ...bound(facts)];

const wideRegisters: Rule = (facts) =>
  facts.processes
    .filter(({ avx512 }) => avx512)
    .map(
      (process): Finding => ({
        tie: 'processor',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} calculates with the wide registers of the processor (AVX-512); they are saved.`,
        hint: 'It can be resumed only on a processor that has them too.',
      }),
    );

/** CRIU 4.2 does not save it. */
const bound: Rule = (facts) => {
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
