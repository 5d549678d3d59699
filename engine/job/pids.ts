/** The numbers of processes: which are free on this machine, and what those of another pid namespace are here. */
import { readdirSync, readFileSync } from 'node:fs';
import type { Images } from '../criu/images.ts';
import { treeBelow } from '../inspect/proc.ts';

const numbers = (folder: string) =>
  readdirSync(folder)
    .filter((name) => /^\d+$/.test(name))
    .map(Number);

function unlessGone<T>(ask: () => T, otherwise: T): T {
  try {
    return ask();
  } catch {
    return otherwise;
  }
}

/** Every number that the kernel will not give to a new process: of processes, threads, groups and sessions. */
function taken(): Set<number> {
  const found = new Set<number>();
  for (const pid of numbers('/proc')) {
    for (const thread of unlessGone(() => numbers(`/proc/${pid}/task`), [])) found.add(thread);
    const line = unlessGone(() => readFileSync(`/proc/${pid}/stat`, 'latin1'), '');
    const [, , group = 0, session = 0] = line
      .slice(line.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    for (const number of [pid, group, session]) found.add(number);
  }
  return found;
}

/** All numbers that a restore of these images needs: of processes, threads, and groups and sessions of their own. */
export function pidsOf({ processes }: Pick<Images, 'processes'>): number[] {
  const [first] = processes;
  const all = processes.flatMap((each) => [
    each.pid,
    each.pgid,
    each.sid,
    ...(each.kind === 'alive' ? each.threads.map(({ tid }) => tid) : []),
  ]);
  // The group and the session that the first one was put into by others become those of whatever it comes back in.
  const given = new Set([first?.pgid, first?.sid].filter((number) => number !== first?.pid));
  return [...new Set(all)].filter((number) => number > 0 && !given.has(number));
}

/**
 * Which of these are taken on this machine.
 * @param promised to others, who are about to have them.
 */
export function pidsTaken(wanted: readonly number[], promised: ReadonlySet<number>): number[] {
  const used = taken();
  return wanted.filter((number) => used.has(number) || promised.has(number));
}

/** What a process is called in the innermost of its pid namespaces; 0 where it has gone. */
export function innermostPid(pid: number): number {
  const status = unlessGone(() => readFileSync(`/proc/${pid}/status`, 'latin1'), '');
  return Number(/^NSpid:.*?(\d+)$/m.exec(status)?.[1] ?? 0);
}

/** The host's number of the process below one that has this number in its own pid namespace. */
export function hostPidBelow(top: number, inner: number): number | undefined {
  return treeBelow(top).find((pid) => innermostPid(pid) === inner);
}
