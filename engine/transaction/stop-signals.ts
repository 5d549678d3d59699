/**
 * CRIU takes a process that is stopped by SIGSTOP or SIGTSTP, and none that is stopped because it used its terminal from
 * the background (SIGTTIN, SIGTTOU). To the process that makes no difference, so such a one is stopped anew: continued
 * and stopped while its cgroup is frozen, it runs not one instruction in between.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cgroups } from '../workload/cgroup.ts';

/** Linux, on x86 and ARM. */
const sigstop = 19;
const sigtstp = 20;
const stopLimitMs = 1000;

/** Of /proc/PID/stat (proc(5)), the state and, of a process that is stopped, the signal that did it. */
function stoppedBy(pid: number): number | undefined {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'T' ? Number(fields[49]) : undefined;
  } catch {
    return undefined;
  }
}

function isStoppedOddly(pid: number): boolean {
  const signal = stoppedBy(pid);
  return signal !== undefined && signal !== sigstop && signal !== sigtstp;
}

/** To be called before the freeze, with all processes of a workload, which are in its cgroup. */
export async function stopAnew(cgroups: Cgroups, id: string, pids: readonly number[]): Promise<void> {
  const odd = pids.filter(isStoppedOddly);
  if (odd.length === 0) return;
  await cgroups.freeze([id]);
  try {
    for (const pid of odd) {
      process.kill(pid, 'SIGCONT');
      process.kill(pid, 'SIGSTOP');
    }
  } finally {
    await cgroups.thaw(id);
  }
  for (const end = Date.now() + stopLimitMs; Date.now() < end; await sleep(1))
    if (odd.every((pid) => stoppedBy(pid) === sigstop)) return;
}
