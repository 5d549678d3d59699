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
const seconds = 25;
/** More than that is no matter of how fast the machine is. */
const tolerance = 8;

interface Clocks {
  monotonic: number;
  boot: number;
  real: number;
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
  async suspendAndResume(choice: ClockChoice | undefined): Promise<{
    stopped: Clocks;
    resumed: Clocks;
    findings: Finding[];
  }> {
    const { real: started } = await this.read('started');
    const { workload } = await engine.json<Snapshot>('suspend', this.target);
    this.target = workload;
    const stopped = await this.read('now');
    expect(await this.wentOff()).toEqual([]);
    await sleep(Math.max(0, (started + seconds + 2) * 1000 - Date.now()));
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
      { timeout: 20_000, interval: 20 },
    );
    return { stopped, resumed, findings: findings.filter(({ tie }) => tie === 'clock') };
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

/** These went off at once, and those with what was left. */
async function expectTimers(
  timers: Timers,
  { stopped, resumed }: { stopped: Clocks; resumed: Clocks },
  names: { atOnce: readonly string[]; withRest: readonly string[] },
): Promise<void> {
  const { real: started } = await timers.read('started');
  const rest = started + seconds - stopped.real;
  const early: string[] = [];
  for (const name of [...names.atOnce, ...names.withRest]) {
    const { real } = await timers.read(name);
    if (real - resumed.real < rest / 2) early.push(name);
    else expect(Math.abs(real - resumed.real - rest), name).toBeLessThan(tolerance);
  }
  expect(early).toEqual(names.atOnce);
  // The kernel's sleeps end, and say what was left; who slept decides. Only one to a moment is taken up again.
  const sleeper = await timers.read('nanosleep');
  expect(sleeper).toMatchObject({ result: 'EINTR' });
  expect(Math.abs((sleeper.rest ?? 0) - rest)).toBeLessThan(tolerance);
  expect(await timers.read('poll')).toMatchObject({ result: 'EINTR' });
  expect(await timers.read('nanosleep-absolute')).toMatchObject({ result: '' });
}

describe.runIf(canCheckpoint).concurrent.each(['capsule', 'job'] as const)('time in a %s', (kind) => {
  it('does not pass: clocks and timers go on where they were, but for times of the day', async () => {
    await using timers = await Timers.start(kind);
    const outcome = await timers.suspendAndResume(undefined);
    const { stopped, resumed, findings } = outcome;
    expect(resumed.real - stopped.real).toBeGreaterThan(seconds / 2);
    expect(resumed.monotonic - stopped.monotonic).toBeLessThan(tolerance);
    expect(resumed.boot - stopped.boot).toBeLessThan(tolerance);
    expect(findings).toMatchObject([
      {
        verdict: 'handled',
        what: expect.stringMatching(
          /stood still for \d+ seconds: its monotonic clock and its timers go on where/,
        ),
      },
    ]);
    await expectTimers(timers, outcome, {
      atOnce: timesOfDay,
      withRest: [...relative, 'nanosleep-absolute'],
    });
  });

  it('has passed where the user wants that', async () => {
    await using timers = await Timers.start(kind);
    const outcome = await timers.suspendAndResume('advance');
    const { stopped, resumed, findings } = outcome;
    const passed = resumed.real - stopped.real;
    expect(passed).toBeGreaterThan(seconds / 2);
    expect(Math.abs(resumed.monotonic - stopped.monotonic - passed)).toBeLessThan(tolerance / 2);
    expect(Math.abs(resumed.boot - stopped.boot - passed)).toBeLessThan(tolerance / 2);
    expect(findings).toMatchObject([
      { verdict: 'handled', what: expect.stringContaining('has gone on by that') },
    ]);
    await expectTimers(timers, outcome, {
      atOnce: [...timesOfDay, ...relative, 'nanosleep-absolute'],
      withRest: [],
    });
  });
});

it('refuses a choice that there is not', async () => {
  const outcome = await engine.run(['resume', 'x', '--clock', 'perhaps']);
  expect(outcome.code).toBe(2);
  expect(outcome.stderr).toContain('keep, advance');
});
