/**
 * Pids that are refused for what they are, before anything below them is read: below the machine's init that is
 * everything, and what belongs to others is nobody's to read.
 */
import process from 'node:process';
import { TorporError } from '../../api/errors.ts';
import { type Caller, mayUse } from '../workload/registry.ts';
import { textOf } from './kernel-files.ts';
import { hasEnded, type ProcessLine, readProcessLine } from './proc.ts';
import { ownersOf } from './process-facts.ts';

export const noProcess = (pid: number) =>
  new TorporError('not-found', `There is no process ${pid}.`, 'See `ps -e` for those there are.');

/** @param below the process that was named, which may be another one. */
export function notTheirs({ pid, name }: { pid: number; name: string }, below: number): TorporError {
  const where = pid === below ? '' : `, which runs below process ${below},`;
  return new TorporError(
    'not-permitted',
    `Process ${pid} (${name})${where} belongs to another user.`,
    'Ask its owner, or root.',
  );
}

/**
 * @throws TorporError `not-found`, `not-permitted`, or `blocked` for a process that is no application.
 */
export function refuseByPid(pid: number, caller: Caller): ProcessLine {
  const found = readProcessLine(pid);
  const status = textOf(`/proc/${pid}/status`);
  if (found === undefined || status === undefined) throw noProcess(pid);
  refuseThread(pid, found.name, status);
  if (hasEnded({ pid, ...found })) {
    throw new TorporError(
      'not-found',
      `Process ${pid} (${found.name}) has ended; only its parent, process ${found.ppid}, has not taken note of it yet.`,
      'See `ps -e` for those there are.',
    );
  }
  refuseSystem(pid, found);
  if (ownersOf(status).some((uid) => !mayUse(caller, uid))) throw notTheirs({ pid, ...found }, pid);
  return found;
}

/** @throws TorporError `not-permitted` where one of them is not the caller's. One that has ended is nobody's. */
export function refuseOthers(pids: readonly number[], below: number, caller: Caller): void {
  for (const pid of pids) {
    const status = textOf(`/proc/${pid}/status`);
    if (status === undefined || ownersOf(status).every((uid) => mayUse(caller, uid))) continue;
    throw notTheirs({ pid, name: readProcessLine(pid)?.name ?? '?' }, below);
  }
}

/** The kernel finds threads by their numbers too, but lists them nowhere among the processes. */
function refuseThread(pid: number, name: string, status: string): void {
  const group = Number(/^Tgid:\s*(\d+)/m.exec(status)?.[1]);
  if (group === pid) return;
  throw new TorporError(
    'not-found',
    `There is no process ${pid}: that is a thread of process ${group} (${name}).`,
    `Name the process: ${group}.`,
  );
}

function refuseSystem(pid: number, { name, kernelThread }: ProcessLine): void {
  const refusal = (why: string) =>
    new TorporError(
      'blocked',
      `Process ${pid} (${name}) ${why}, not an application. Nothing was touched.`,
      'Name an application of yours; see `torpor ps`.',
    );
  if (kernelThread) throw refusal('is a part of the kernel');
  if (pid === 1) throw refusal("is the machine's init");
  if (pid === process.pid) throw refusal('is the engine itself');
  for (let at = process.ppid; at > 1; at = readProcessLine(at)?.ppid ?? 0)
    if (at === pid) throw refusal('is what the engine runs in');
}
