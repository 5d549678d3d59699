/**
 * Processes as the engine remembers them: a pid alone may be another process tomorrow, so it is kept with the boot
 * it belongs to and its start time (proc(5), /proc/PID/stat field 22).
 */
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { reapChild } from '../native/child-reaper.ts';

export const processIdentitySchema = z.object({
  pid: z.number().int().positive(),
  /** In clock ticks since boot. */
  startTime: z.string(),
  boot: z.string(),
});
export type ProcessIdentity = z.infer<typeof processIdentitySchema>;

const reapLimitMs = 1000;

/** The kernel's id of this boot. */
export const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

interface Stat {
  state: string;
  session: number;
  startTime: string;
}

async function readStat(pid: number): Promise<Stat | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything; the fields after the last one are numbers and a letter.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', session: Number(fields[3]), startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

/** The identity of a living process, or undefined where there is none. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readStat(pid);
  return stat === undefined ? undefined : { pid, startTime: stat.startTime, boot: bootId };
}

/** Whether this very process is still there, zombies not counted. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  if (identity.boot !== bootId) return false;
  const stat = await readStat(identity.pid);
  return (
    stat !== undefined && stat.startTime === identity.startTime && stat.state !== 'Z' && stat.state !== 'X'
  );
}

/** Whether the pid is free again: its process has ended and been reaped. */
async function isReaped(identity: ProcessIdentity): Promise<boolean> {
  const stat = await readStat(identity.pid);
  return identity.boot !== bootId || stat === undefined || stat.startTime !== identity.startTime;
}

/**
 * Waits until the process, which must not be one that Node started, has ended and has been reaped. A parent that never reaps is not waited for longer
 * than a second: then the pid stays taken, and all else is free.
 * @returns false where it is still running after the limit.
 */
export async function waitGone(identity: ProcessIdentity, limitMs: number): Promise<boolean> {
  const end = Date.now() + limitMs;
  let endedAt: number | undefined;
  let pause = 1;
  while (!(await isReaped(identity))) {
    if (!(await isAlive(identity))) endedAt ??= Date.now();
    if (endedAt !== undefined) reapChild(identity.pid);
    if (endedAt !== undefined && Date.now() - endedAt > reapLimitMs) return true;
    if (endedAt === undefined && Date.now() > end) return false;
    await sleep(pause);
    pause = Math.min(pause * 2, 20);
  }
  return true;
}

/** Helpers of CRIU's live in the first tenths of a second of its own life; in clock ticks, of which there are 100. */
const helpersStartWithin = 100;

/**
 * Ends every process of a session at once. Only for a session whose leader this engine has started and has just seen
 * the end of: later the number may be another's.
 */
export async function endSession(leader: number): Promise<void> {
  await endMembers(leader, () => true);
}

/**
 * The same for helpers that a leader of long ago forked right after its own start, and which it left behind: what has
 * its number today is not of that age.
 */
export async function endOrphans(leader: ProcessIdentity): Promise<void> {
  if (leader.boot !== bootId || (await isAlive(leader))) return;
  const earliest = Number(leader.startTime);
  await endMembers(leader.pid, (startTime) => {
    const age = Number(startTime) - earliest;
    return age >= 0 && age < helpersStartWithin;
  });
}

async function endMembers(session: number, isMeant: (startTime: string) => boolean): Promise<void> {
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry)).map(Number);
  const killed: ProcessIdentity[] = [];
  for (const pid of pids) {
    const stat = await readStat(pid);
    if (stat?.session !== session || !isMeant(stat.startTime)) continue;
    const identity = { pid, startTime: stat.startTime, boot: bootId };
    await signalProcess(identity, 'SIGKILL');
    killed.push(identity);
  }
  // Their parent has ended: they are ours to reap.
  await Promise.all(killed.map((identity) => waitGone(identity, reapLimitMs)));
}

/** Sends a signal to this very process, if it is still there. */
export async function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  if (!(await isAlive(identity))) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
