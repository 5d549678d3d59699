/** What is told of the progress of an operation, and how the command shows it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Phase, Progress } from '../../api/types.ts';
import { ProgressLine } from '../../cli/progress.ts';
import { parseDirty } from '../../engine/store/dirty.ts';
import { type Amount, measureIntervalMs, Reporter } from '../../engine/transaction/progress.ts';

/** Reports of a phase with these measurements one after the other, up to the next phase. */
async function follow(amounts: (Amount | Error)[]): Promise<Progress[]> {
  const told: Progress[] = [];
  using reporter = new Reporter('1a2b', 'suspend', (progress) => told.push(progress));
  const left = [...amounts];
  reporter.report('checkpoint', async () => {
    const next = left.shift();
    if (next === undefined || next instanceof Error) throw next ?? new Error('nothing left');
    return next;
  });
  await sleep(measureIntervalMs * (amounts.length + 1.5));
  reporter.report('commit');
  return told;
}

describe('amounts', () => {
  it('are told once a phase has lasted, and nothing of an earlier phase after the next began', async () => {
    const told = await follow([
      { done: 10, total: 100 },
      { done: 60.4, total: 100 },
    ]);
    expect(told).toEqual(
      (
        [
          ['checkpoint', 0, 0],
          ['checkpoint', 10, 100],
          ['checkpoint', 60, 100],
          ['commit', 0, 0],
        ] as const
      ).map(([phase, bytesDone, bytesTotal]) => ({
        workload: '1a2b',
        operation: 'suspend',
        phase,
        bytesDone,
        bytesTotal,
      })),
    );
  });

  it('never exceed the whole and never go back, whatever is measured', async () => {
    const told = await follow([
      { done: 50, total: 100 },
      new Error('cannot be measured now'),
      { done: 20, total: 100 },
      { done: 170, total: 100 },
      { done: 30, total: 40 },
    ]);
    expect(told.map(({ bytesDone, bytesTotal }) => [bytesDone, bytesTotal])).toEqual([
      [0, 0],
      [50, 100],
      [50, 100],
      [100, 100],
      [0, 0],
    ]);
  });

  it('are not measured any more when the operation has ended', async () => {
    let measured = 0;
    {
      using reporter = new Reporter('1a2b', 'resume', () => {});
      reporter.report('restore', () => ({ done: measured++, total: 100 }));
    }
    await sleep(measureIntervalMs * 2);
    expect(measured).toBe(0);
  });
});

describe('the line on a terminal', () => {
  const mib = 1024 * 1024;
  const report = (phase: Phase, done: number, total: number): Progress => ({
    workload: '1a2b',
    operation: 'suspend',
    phase,
    bytesDone: done * mib,
    bytesTotal: total * mib,
  });

  it('says phase, share, rate and time left where they are known', () => {
    const line = new ProgressLine('gimp');
    expect(line.next(report('inspect', 0, 0), 0)).toBe('gimp: looking at what it holds');
    expect(line.next(report('checkpoint', 0, 0), 10)).toBe('gimp: saving its memory');
    expect(line.next(report('checkpoint', 100, 1000), 200)).toBe('gimp: saving its memory 10 % of 1000 MiB');
    expect(line.next(report('checkpoint', 200, 1000), 700)).toBe(
      'gimp: saving its memory 20 % of 1000 MiB, 200 MiB/s, 4 s left',
    );
    expect(line.next(report('checkpoint', 1000, 1000), 1700)).toMatch(/100 % of 1000 MiB, 360 MiB\/s$/);
    expect(line.next(report('commit', 1, 100), 1800)).toBe('gimp: making it durable 1 % of 100 MiB');
  });

  it('goes by the last seconds, and guesses nothing while nothing moves', () => {
    const line = new ProgressLine('a\u001b[2Jb');
    expect(line.next(report('checkpoint', 0, 10_000), 0)).not.toContain('\u001b');
    line.next(report('checkpoint', 5000, 10_000), 1000);
    for (const at of [2000, 3000, 4000]) line.next(report('checkpoint', 5000, 10_000), at);
    expect(line.next(report('checkpoint', 5000, 10_000), 5000)).toMatch(/50 % of 9\.8 GiB$/);
    expect(line.next(report('checkpoint', 5030, 10_000), 6000)).toMatch(/10\.0 MiB\/s, 8 min 17 s left$/);
  });

  it('adds up what is done of a set', () => {
    const line = new ProgressLine('a, b');
    const of = (workload: string, done: number, total: number) => ({
      ...report('checkpoint', done, total),
      workload,
    });
    line.next(of('1a', 0, 100), 0);
    line.next(of('2b', 0, 300), 0);
    line.next(of('1a', 50, 100), 500);
    expect(line.next(of('2b', 50, 300), 500)).toBe(
      'a, b: saving its memory 25 % of 400 MiB, 200 MiB/s, 2 s left',
    );
    expect(line.next({ ...of('1a', 0, 0), phase: 'commit' }, 600)).toBe('a, b: making it durable');
  });
});

it('what the disk has still to take is read from /proc/meminfo', () => {
  const text =
    'MemTotal:  100 kB\nDirty:              12 kB\nWriteback:           3 kB\nWritebackTmp:        9 kB\n';
  expect(parseDirty(text)).toBe(15 * 1024);
  expect(parseDirty('')).toBe(0);
});
