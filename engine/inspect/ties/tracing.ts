/** A process has one tracer at most, and CRIU must be it. */
import type { Finding } from '../../../api/types.ts';
import { named, namedPid, type Rule } from '../rule.ts';

export const tracing: Rule = (facts) =>
  facts.processes
    .filter((process) => process.tracer !== 0)
    .map(
      (process): Finding => ({
        tie: 'tracing',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} is being debugged or traced by ${namedPid(facts, process.tracer)}.`,
        hint: 'Detach the debugger (in gdb: `detach`) and try again.',
      }),
    );
