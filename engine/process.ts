/**
 * Processes as the engine remembers them: a pid alone may be another process tomorrow, so it is kept with the boot
 * it belongs to and its start time (proc(5), /proc/PID/stat field 22).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
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
  startTime: string;
}

async function readStat(pid: number): Promise<Stat | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything; the fields after the last one are numbers and a letter.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
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

/**
 * Ends every process of a session, at once. Only for a session whose leader this engine started, just after its end: the
 * number may be given to another later.
 */
export function endSession(leader: number): void {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || sessionOf(entry) !== leader) continue;
    try {
      process.kill(Number(entry), 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** The session of a process (proc(5), /proc/PID/stat field 6); undefined where it is gone. */
function sessionOf(pid: string): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[3]);
  } catch {
    return undefined;
  }
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
