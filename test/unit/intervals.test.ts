/** When turns of an interval are due, what becomes of them, and which snapshots go. With a clock of the test's own. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import { type Clock, Intervals, type Turn } from '../../engine/intervals/intervals.ts';
import { surplusOf } from '../../engine/intervals/surplus.ts';
import type { StoredSnapshot } from '../../engine/store/snapshot-store.ts';

const log = pino({ level: 'silent' });

/** Time passes only by {@link TestClock.pass}. */
class TestClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  #due = new Map<object, { at: number; call: () => unknown }>();
  /** What is called is waited for before time passes on, unless it is to take longer. */
  waits = true;
  called: unknown[] = [];

  now(): number {
    return this.#now;
  }

  after(milliseconds: number, call: () => unknown): () => void {
    const key = {};
    this.#due.set(key, { at: this.#now + milliseconds, call });
    return () => this.#due.delete(key);
  }

  async pass(seconds: number): Promise<void> {
    for (let left = seconds * 10; left > 0; left--) {
      this.#now += 100;
      for (const [key, { at, call }] of this.#due) {
        if (at > this.#now) continue;
        this.#due.delete(key);
        const done = call();
        this.called.push(done);
        if (this.waits) await done;
      }
    }
  }

  /** As a user who sets the clock, or an engine that is not there. */
  set(now: number): void {
    this.#now = now;
  }
}

let folder: string;
let clock: TestClock;
let running: Set<string>;
let taken: string[];
let told: string[];
let answer: () => Promise<Turn>;
let intervals: Intervals;

const taker = {
  runs: (workload: string) => running.has(workload),
  take: async (workload: string) => {
    const turn = await answer();
    if (turn.kind === 'taken') taken.push(workload);
    return turn;
  },
  changed: (workload: string) => told.push(workload),
};

async function open(): Promise<Intervals> {
  const opened = await Intervals.open(folder, clock, log);
  await opened.start(taker, (workload) => workload !== 'dead');
  return opened;
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-intervals-'));
  clock = new TestClock();
  running = new Set(['a1']);
  taken = [];
  told = [];
  answer = async () => ({ kind: 'taken' });
  intervals = await open();
});
afterEach(async () => {
  intervals.stop();
  await rm(folder, { recursive: true });
});

const secondsToNext = (workload = 'a1') => {
  const at = intervals.stateOf(workload)?.nextAt;
  return at === undefined ? undefined : (Date.parse(at) - clock.now()) / 1000;
};

describe('turns', () => {
  it('come at the pace that was asked for', async () => {
    await intervals.set('a1', { everySeconds: 10, keepLast: 3 });
    expect(intervals.stateOf('a1')).toMatchObject({ everySeconds: 10, keepLast: 3, failures: 0 });
    await clock.pass(9);
    expect(taken).toEqual([]);
    expect(secondsToNext()).toBe(1);
    await clock.pass(21);
    expect(taken).toEqual(['a1', 'a1', 'a1']);
    expect(secondsToNext()).toBe(10);
  });

  it('never come one upon the other, also where one takes longer than the interval', async () => {
    await intervals.set('a1', { everySeconds: 2, keepLast: 3 });
    let finish = () => {};
    answer = () =>
      new Promise((resolve) => {
        finish = () => resolve({ kind: 'taken' });
      });
    clock.waits = false;
    await clock.pass(7);
    expect(taken).toEqual([]);
    expect(secondsToNext()).toBe(-5);
    finish();
    await Promise.all(clock.called);
    expect(taken).toEqual(['a1']);
    expect(secondsToNext()).toBe(2);
  });

  it('wait while it does not run, and begin anew when it does', async () => {
    await intervals.set('a1', { everySeconds: 10, keepLast: 3 });
    running.clear();
    expect(secondsToNext()).toBeUndefined();
    await clock.pass(300);
    expect(taken).toEqual([]);
    running.add('a1');
    intervals.follow('a1');
    expect(secondsToNext()).toBe(10);
    // What else changes of it changes nothing of that.
    await clock.pass(6);
    intervals.follow('a1');
    await clock.pass(4);
    expect(taken).toEqual(['a1']);
  });

  it('that are skipped or fail are told, and the next one comes in its turn', async () => {
    await intervals.set('a1', { everySeconds: 10, keepLast: 3 });
    answer = async () => ({ kind: 'skipped', why: 'It was just being suspended.' });
    await clock.pass(10);
    expect(intervals.stateOf('a1')).toMatchObject({
      failures: 0,
      problem: { at: new Date(clock.now()).toISOString(), what: 'It was just being suspended.' },
    });
    answer = async () => {
      throw new TorporError('blocked', 'It holds a device.');
    };
    await clock.pass(20);
    expect(intervals.stateOf('a1')).toMatchObject({ failures: 2, problem: { what: 'It holds a device.' } });
    expect(told.length).toBeGreaterThanOrEqual(3);
    answer = async () => ({ kind: 'taken' });
    await clock.pass(10);
    expect(taken).toEqual(['a1']);
    expect(intervals.stateOf('a1')).toMatchObject({ failures: 0 });
    expect(intervals.stateOf('a1')).not.toHaveProperty('problem');
  });

  it('of one that ends meanwhile are no failure', async () => {
    await intervals.set('a1', { everySeconds: 10, keepLast: 3 });
    answer = async () => {
      running.clear();
      throw new TorporError('failed', 'It has ended meanwhile.');
    };
    await clock.pass(10);
    expect(intervals.stateOf('a1')).toMatchObject({ failures: 0 });
    expect(intervals.stateOf('a1')).not.toHaveProperty('problem');
  });

  it('end when they are no longer wanted, also in the middle of one', async () => {
    await intervals.set('a1', { everySeconds: 10, keepLast: 3 });
    answer = async () => {
      await intervals.end('a1');
      return { kind: 'taken' };
    };
    await clock.pass(60);
    expect(taken).toEqual(['a1']);
    expect(intervals.stateOf('a1')).toBeUndefined();
    expect(await readdir(join(folder, 'intervals'))).toEqual([]);
    expect(await intervals.end('a1')).toBe(false);
  });

  it('go by what was set last', async () => {
    await intervals.set('a1', { everySeconds: 10, keepLast: 3 });
    await intervals.set('a1', { everySeconds: 60, keepLast: 1 });
    await clock.pass(59);
    expect(taken).toEqual([]);
    await clock.pass(1);
    expect(taken).toEqual(['a1']);
  });
});

describe('the next engine', () => {
  it('goes on where the last one stopped, and takes at once what is overdue', async () => {
    await intervals.set('a1', { everySeconds: 10, keepLast: 3 });
    answer = async () => {
      throw new TorporError('failed', 'No room.');
    };
    await clock.pass(10);
    answer = async () => ({ kind: 'taken' });
    intervals.stop();
    await clock.pass(4);
    intervals = await open();
    expect(intervals.stateOf('a1')).toMatchObject({
      keepLast: 3,
      failures: 1,
      problem: { what: 'No room.' },
    });
    expect(secondsToNext()).toBe(6);
    intervals.stop();
    await clock.pass(600);
    expect(taken).toEqual([]);
    intervals = await open();
    await clock.pass(0.1);
    expect(taken).toEqual(['a1']);
  });

  it('does not wait for ever where the clock was set back', async () => {
    await intervals.set('a1', { everySeconds: 10, keepLast: 3 });
    intervals.stop();
    clock.set(clock.now() - 365 * 24 * 3600 * 1000);
    intervals = await open();
    expect(secondsToNext()).toBe(10);
  });

  it('forgets those of workloads that are not known any more, and leaves a damaged file alone', async () => {
    await intervals.set('dead', { everySeconds: 10, keepLast: 3 });
    await writeFile(join(folder, 'intervals', 'b2.json'), '{"version":1,"everySec');
    intervals.stop();
    intervals = await open();
    expect(intervals.stateOf('dead')).toBeUndefined();
    expect(intervals.stateOf('b2')).toBeUndefined();
    expect(await readdir(join(folder, 'intervals'))).toEqual(['b2.json']);
    expect(await readFile(join(folder, 'intervals', 'b2.json'), 'utf8')).toContain('everySec');
  });
});

describe('of the snapshots that were taken at an interval', () => {
  const snapshot = (id: string, workload = 'a1', more: { atInterval?: boolean; kept?: boolean } = {}) =>
    ({
      kind: 'complete',
      id,
      manifest: { workload, atInterval: more.atInterval ?? true },
      kept: more.kept ?? false,
    }) as StoredSnapshot;

  it('the oldest go, and none that is kept, was taken by hand, is another workload’s or is needed', () => {
    const stored = [
      snapshot('9'),
      snapshot('8', 'a1', { atInterval: false }),
      snapshot('7'),
      snapshot('6', 'b2'),
      snapshot('5', 'a1', { kept: true }),
      snapshot('4'),
      snapshot('3'),
      snapshot('2'),
      { kind: 'damaged', id: '1', problem: 'cut' } as const,
    ];
    expect(surplusOf(stored, 'a1', 2, '9')).toEqual(['2', '3', '4']);
    expect(surplusOf(stored, 'a1', 2, '3')).toEqual(['2', '4']);
    expect(surplusOf(stored, 'a1', 5, '9')).toEqual([]);
    expect(surplusOf(stored, 'b2', 1, undefined)).toEqual([]);
  });
});
