/** A process has one tracer at most, and CRIU must be it. */
import type { Finding } from '../../../api/types.ts';
import type { Facts } from '../facts.ts';
import { named, namedPid, type Rule } from '../rule.ts';

/**
 * While memory is still fetched after a resume, the pager traces the first process, and lets go of it before the freeze
 * (native/pages/pager-keeper.c). What only calls itself that keeps CRIU from its work, and nothing is lost.
 */
const pagerName = 'torpor-pager-t';

/** Not one that has ended before its name could be read, as the pager's does when all memory is there. */
const isForeign = ({ processes, names }: Facts, tracer: number) =>
  names.has(tracer) ? names.get(tracer) !== pagerName : processes.some(({ pid }) => pid === tracer);

export const tracing: Rule = (facts) => [
  ...facts.processes
    .filter(({ tracer }) => tracer !== 0 && isForeign(facts, tracer))
    .map((process) =>
      traced(
        process.pid,
        `${named(process)} is being debugged or traced by`,
        namedPid(facts, process.tracer),
      ),
    ),
  ...facts.hidden.threads.flatMap((each) => {
    const isKnown = facts.processes.some(({ pid, tracer }) => pid === each.pid && tracer !== 0);
    if (each.what !== 'tracer' || isKnown || each.name === pagerName) return [];
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
