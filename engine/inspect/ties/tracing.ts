/** A process has one tracer at most, and CRIU must be it. */
import type { Finding } from '../../../api/types.ts';
import { named, namedPid, type Rule } from '../rule.ts';

export const tracing: Rule = (facts) => [
  ...facts.processes
    .filter(({ tracer }) => tracer !== 0)
    .map((process) =>
      traced(
        process.pid,
        `${named(process)} is being debugged or traced by`,
        namedPid(facts, process.tracer),
      ),
    ),
  ...facts.hidden.threads.flatMap((each) => {
    const isKnown = facts.processes.some(({ pid, tracer }) => pid === each.pid && tracer !== 0);
    if (each.what !== 'tracer' || isKnown) return [];
    return [
      traced(
        each.pid,
        `A thread of ${namedPid(facts, each.pid)} is being debugged or traced by`,
        named({ pid: each.tracer, name: each.name }),
      ),
    ];
  }),
];

const traced = (pid: number, what: string, tracer: string): Finding => ({
  tie: 'tracing',
  verdict: 'blocking',
  by: '',
  pid,
  what: `${what} ${tracer}.`,
  hint: 'Detach the debugger (in gdb: `detach`) and try again.',
});
