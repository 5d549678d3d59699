/** When an application that was started is ready to be used: it shows a window, and has come to rest. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';

const intervalMs = 100;
/** So long nothing is to happen: splash screens stand for less while what they hide goes on. */
const restMs = 1000;
/** Of one CPU: a cursor that blinks is rest. */
const restShare = 0.05;
/** Of the kernel's times in /proc (sysconf(_SC_CLK_TCK) is 100 on every Linux). */
const ticksPerMs = 0.1;
const windowLimitMs = 120_000;
/** What moves by itself never comes to rest. */
const restLimitMs = 30_000;

export interface Starting {
  /** Made once it has shown a window. */
  windowFile: string;
  pids: () => Promise<readonly number[]>;
  isAlive: () => Promise<boolean>;
}

/** @throws TorporError `failed` where it ends, or shows no window in two minutes. */
export async function untilReady({ windowFile, pids, isAlive }: Starting): Promise<void> {
  const start = performance.now();
  let shownAt: number | undefined;
  const samples: { at: number; ticks: number }[] = [];
  for (;;) {
    if (!(await isAlive()))
      throw new TorporError('failed', 'It ended before it was ready.', 'Start it without `--warm`.');
    const now = performance.now();
    if (shownAt === undefined) {
      if (existsSync(windowFile)) shownAt = now;
      else if (now - start > windowLimitMs)
        throw new TorporError(
          'failed',
          'It shows no window, so it cannot be told when it is ready.',
          'Start it without `--warm`.',
        );
    } else {
      const { ticks, waits } = await loadOf(await pids());
      if (waits) samples.length = 0;
      samples.push({ at: now, ticks });
      while ((samples[1]?.at ?? Number.POSITIVE_INFINITY) <= now - restMs) samples.shift();
      const [first = { at: now, ticks }] = samples;
      const isResting =
        now - first.at >= restMs && ticks - first.ticks <= (now - first.at) * ticksPerMs * restShare;
      if (isResting || now - shownAt > restLimitMs) return;
    }
    await sleep(intervalMs);
  }
}

/** What its processes have used of the CPU, and whether one waits for a disk (proc_pid_stat(5)). */
async function loadOf(pids: readonly number[]): Promise<{ ticks: number; waits: boolean }> {
  const texts = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined)),
  );
  let ticks = 0;
  let waits = false;
  for (const text of texts) {
    if (text === undefined) continue;
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    waits ||= fields[0] === 'D';
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return { ticks, waits };
}
