/** What two processes have in common as threads have it (clone(2)), and files whose position somebody outside moves too. */
import type { Finding } from '../../../api/types.ts';
import { descriptorKey, type Facts, type Shared } from '../facts.ts';
import { descriptorsOf, list, named, namedPid, oncePerProcess, type Rule, soon } from '../rule.ts';

export const sharedResources: Rule = (facts) => [...withProcesses(facts), ...positions(facts)];

const words: Readonly<Record<Shared['what'], string>> = {
  memory: 'its memory',
  descriptors: 'its open files',
  folder: 'its working folder',
  handlers: 'its signal handlers',
};

/** CRIU gives each process its own, but makes a common table of open files again. */
const withProcesses: Rule = (facts) =>
  facts.hidden.shared.flatMap(({ what, pid, other }): Finding[] => {
    const isInside = typeof other === 'number';
    // It has ended since, as a child made by vfork does.
    if (!isInside && other.ppid === undefined) return [];
    if (isInside && what === 'descriptors') return [];
    if (isInside && what === 'handlers') return [];
    const who = isInside ? namedPid(facts, other) : `${named(other)}, which is outside`;
    const common = {
      tie: 'shared-resource',
      pid,
      what: `${namedPid(facts, pid)} has ${words[what]} in common with ${who}.`,
    };
    if (!isInside && what !== 'memory') {
      return [{ ...common, verdict: 'degraded', by: 'criu', hint: 'After the resume each has its own.' }];
    }
    // One that was started while the tree was read is not outside; it is looked at again.
    const isBorn = !isInside && facts.processes.some((process) => process.pid === other.ppid);
    const ended = isInside ? 'one of the two' : other.name;
    const hint = isBorn ? soon : `Wait until ${ended} has ended, or end it, and try again.`;
    return [{ ...common, verdict: 'blocking', by: '', hint }];
  });

const accessMode = 0o3;
const pathOnly = 0o10000000;

/** Where both only append, or nothing is read or written, a position means nothing. */
const isShared = (flags: number) =>
  (flags & pathOnly) === 0 && !((flags & accessMode) === 1 && (flags & 0o2000) !== 0);

const positions: Rule = (facts) => {
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const other = ownerOf(facts, process.pid, descriptor.fd);
    if (other === undefined || descriptor.kind !== 'file' || descriptor.locked || !isShared(descriptor.flags))
      return [];
    return [{ process, what: `${descriptor.target} with ${named(other)}` }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'shared-position',
      verdict: 'degraded',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} has its place in a file in common with a process outside: ${list(whats)}.`,
      hint: 'After the resume each has its own: what both write there may overwrite each other.',
    }),
  );
};

/** Who outside has the very same open file. */
export function ownerOf(facts: Facts, pid: number, fd: number) {
  const other = facts.hidden.sameFile.get(descriptorKey(pid, fd));
  return facts.strangers.some((stranger) => stranger.pid === other?.pid) ? undefined : other;
}
