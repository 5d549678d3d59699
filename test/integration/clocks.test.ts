/** Time: what a suspend does to clocks and to timers of every kind, in a capsule and in a job, for each choice. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ClockChoice, Finding, Snapshot, Workload } from '../../api/types.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { canCheckpoint } from './criu-fixture.ts';

/** How long the timers are set for: long enough that a loaded machine has suspended before. */
const seconds = 35;
/** What clocks are read in, and what they are compared in. */
const grain = 0.5;

interface Clocks {
  monotonic: number;
  boot: number;
  real: number;
}

/** Around a time in which it stood still. What was between these moments bounds what the machine has needed for it. */
interface Standstill {
  /** The last that it wrote before. */
  stopped: Clocks;
  /** By the clock on the wall. */
  suspended: number;
  asked: number;
  /** The first that it wrote after. */
  resumed: Clocks;
}

interface WentOff extends Clocks {
  result?: string;
  rest?: number;
}

const fixture = new URL('../fixtures/clocks.py', import.meta.url).pathname;
let engine: TestEngine;

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());

/** The timers of the fixture, set. */
class Timers implements AsyncDisposable {
  readonly #folder: string;
  readonly #pid: number | undefined;
  target: string;

  private constructor(folder: string, target: string, pid?: number) {
    this.#folder = folder;
    this.target = target;
    this.#pid = pid;
  }

  static async start(kind: 'capsule' | 'job'): Promise<Timers> {
    const folder = await mkdtemp('/var/tmp/torpor-clocks-');
    await chmod(folder, 0o755);
    const command = ['python3', fixture, folder, String(seconds)] as const;
    if (kind === 'capsule') return new Timers(folder, (await engine.start(command)).id);
    const [program, ...args] = command;
    const child = spawn(program, args, { stdio: 'ignore', detached: true, cwd: '/' });
    await once(child, 'spawn');
    const timers = new Timers(folder, String(child.pid), child.pid);
    await timers.read('now');
    return timers;
  }

  async read(name: string): Promise<WentOff> {
    const text = await vi.waitFor(() => readFile(join(this.#folder, name), 'utf8'), {
      timeout: 60_000,
      interval: 50,
    });
    return JSON.parse(text) as WentOff;
  }

  /** The names of the timers that have gone off. */
  async wentOff(): Promise<string[]> {
    const names = await readdir(this.#folder);
    return names.filter((name) => !name.startsWith('.') && name !== 'started' && name !== 'now').sort();
  }

  /** Suspends it until all its timers would have gone off. @returns the clocks when it stopped and at its resume. */
  async suspendAndResume(choice: ClockChoice | undefined): Promise<Standstill & { findings: Finding[] }> {
    const { real: started } = await this.read('started');
    const { workload } = await engine.json<Snapshot>('suspend', this.target);
    const suspended = Date.now() / 1000;
    this.target = workload;
    const stopped = await this.read('now');
    expect(await this.wentOff()).toEqual([]);
    await sleep(Math.max(0, (started + seconds + 2) * 1000 - Date.now()));
    const asked = Date.now() / 1000;
    const options = choice === undefined ? [] : ['--clock', choice];
    const { findings } = await engine.json<Workload & { findings: Finding[] }>(
      'resume',
      workload,
      ...options,
    );
    const resumed = await vi.waitFor(
      async () => {
        const now = await this.read('now');
        expect(now.real).toBeGreaterThan(stopped.real + 1);
        return now;
      },
      { timeout: 60_000, interval: 20 },
    );
    return { stopped, suspended, asked, resumed, findings: findings.filter(({ tie }) => tie === 'clock') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await engine.run(['end', this.target]);
    if (this.#pid !== undefined && isThere(this.#pid)) process.kill(this.#pid, 'SIGKILL');
    await rm(this.#folder, { recursive: true, force: true });
  }
}

const timesOfDay = ['timerfd-real-absolute'];
const relative = [
  ...['itimer', 'timer', 'timer-absolute', 'timer-real-absolute'],
  ...['timerfd', 'timerfd-absolute', 'timerfd-boot-absolute', 'timerfd-real'],
];

/**
 * These went off at once, and those with what was left. It stopped at some moment from the last that it wrote to the end of
 * the suspend, and how long that took is a matter of the machine; so is how late a timer is heard.
 */
async function expectTimers(
  timers: Timers,
  { stopped, suspended, asked, resumed }: Standstill,
  names: { atOnce: readonly string[]; withRest: readonly string[] },
): Promise<void> {
  const started = await timers.read('started');
  const most = started.real + seconds - stopped.real + grain;
  const least = started.real + seconds - suspended - grain;
  const early: string[] = [];
  for (const name of [...names.atOnce, ...names.withRest]) {
    const { real } = await timers.read(name);
    if (real < asked + least) early.push(name);
    else expect(real - resumed.real, name).toBeLessThan(2 * seconds);
  }
  expect(early).toEqual(names.atOnce);
  // The kernel's sleeps end, and say what was left; who slept decides. Only one to a moment is taken up again.
  const sleeper = await timers.read('nanosleep');
  expect(sleeper).toMatchObject({ result: 'EINTR' });
  expect(sleeper.rest).toBeGreaterThan(least);
  expect(sleeper.rest).toBeLessThan(most);
  expect(await timers.read('poll')).toMatchObject({ result: 'EINTR' });
  expect(await timers.read('nanosleep-absolute')).toMatchObject({ result: '' });
}

const clocksOfItsOwn = ['monotonic', 'boot'] as const;
const limitMs = 300_000;

describe.runIf(canCheckpoint).concurrent.each(['capsule', 'job'] as const)('time in a %s', (kind) => {
  it(
    'does not pass: clocks and timers go on where they were, but for times of the day',
    async () => {
      await using timers = await Timers.start(kind);
      const outcome = await timers.suspendAndResume(undefined);
      const { stopped, suspended, asked, resumed, findings } = outcome;
      for (const clock of clocksOfItsOwn) {
        const passed = resumed[clock] - stopped[clock];
        expect(passed).toBeGreaterThan(0);
        expect(passed).toBeLessThan(suspended - stopped.real + (resumed.real - asked) + grain);
      }
      expect(findings).toMatchObject([
        {
          verdict: 'handled',
          what: expect.stringMatching(/stood still for .*: its monotonic clock and its timers go on where/),
        },
      ]);
      await expectTimers(timers, outcome, {
        atOnce: timesOfDay,
        withRest: [...relative, 'nanosleep-absolute'],
      });
    },
    limitMs,
  );

  it(
    'has passed where the user wants that',
    async () => {
      await using timers = await Timers.start(kind);
      const outcome = await timers.suspendAndResume('advance');
      const { stopped, suspended, asked, resumed, findings } = outcome;
      for (const clock of clocksOfItsOwn) {
        const difference = resumed[clock] - stopped[clock] - (resumed.real - stopped.real);
        // The engine counts from just before the freeze, and not what CRIU needs to set them.
        expect(difference).toBeLessThan(suspended - stopped.real + grain);
        expect(difference).toBeGreaterThan(asked - resumed.real - grain);
      }
      expect(findings).toMatchObject([
        { verdict: 'handled', what: expect.stringContaining('has gone on by that') },
      ]);
      await expectTimers(timers, outcome, {
        atOnce: [...timesOfDay, ...relative, 'nanosleep-absolute'],
        withRest: [],
      });
    },
    limitMs,
  );
});

it('refuses a choice that there is not', async () => {
  const outcome = await engine.run(['resume', 'x', '--clock', 'perhaps']);
  expect(outcome.code).toBe(2);
  expect(outcome.stderr).toContain('keep, advance');
});
