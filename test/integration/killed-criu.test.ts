/**
 * The real CRIU, killed at each step of a dump: whatever it was doing with its target, that goes on as if nothing had
 * been. Every step is struck where TORPOR_TEST_SWEEP is set; otherwise a sample.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { CriuError } from '../../engine/criu/criu-error.ts';
import { killIfThere } from '../support/engine.ts';
import { Counter, canCheckpoint, makeClient, TestCgroup } from './criu-fixture.ts';

const sources = join(import.meta.dirname, 'killed-criu');
const everyStep = process.env.TORPOR_TEST_SWEEP !== undefined;
/** Steps of each sweep of a sample. */
const sampleSize = 25;
/** How many a target gets before there is a new one: what CRIU has mapped into it stays, and makes it slower. */
const killsOfOne = 60;
/** How many signals the target of several threads may have sent itself that have not been handled yet. */
const signalsUnderway = 3;

let folder = '';
const killer = () => join(folder, 'kill-at.so');
const threads = () => join(folder, 'threads');

function killingClient(environment: Record<string, string>) {
  return makeClient({ env: { ...process.env, LD_PRELOAD: killer(), ...environment } });
}

function freezing({ path }: TestCgroup): { freezeCgroup?: string } {
  return path === undefined ? {} : { freezeCgroup: path };
}

/** How many steps a whole dump of this target takes. */
async function countSteps(counter: Counter, cgroup: TestCgroup): Promise<number> {
  const file = join(folder, 'steps');
  const client = killingClient({ KILL_COUNT: file });
  await counter.dump(client, {}, { leaveRunning: true, ...freezing(cgroup) });
  return Number(readFileSync(file, 'utf8'));
}

function chooseSteps(count: number): number[] {
  const size = everyStep ? count : Math.min(count, sampleSize);
  return Array.from({ length: size }, (_, index) => 1 + Math.floor(((index + 0.5) * count) / size));
}

interface Thread {
  id: string;
  blocked: string;
  tracer: string;
  stopped: boolean;
  ended: boolean;
}

/** Every thread of these processes, as far as a dump could leave traces in it. */
function threadsOf(pids: readonly number[]): Thread[] {
  return pids.flatMap((pid) =>
    readdirSync(`/proc/${pid}/task`).map((tid) => {
      const status = readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8');
      const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? '';
      return {
        id: tid,
        blocked: field('SigBlk'),
        tracer: field('TracerPid'),
        stopped: 'tT'.includes(field('State')),
        ended: 'ZX'.includes(field('State')),
      };
    }),
  );
}

/** The beginning of the first executable mapping, where CRIU writes system calls: in memory and in the file. */
function codeOf(pid: number): { memory: string; file: string } {
  const line = readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .find((each) => / r-xp /.test(each));
  const [, start = '', offset = '', path = ''] =
    /^([0-9a-f]+)-\S+ \S+ ([0-9a-f]+) \S+ \d+ +(\S+)/.exec(line ?? '') ?? [];
  return {
    memory: readAt(`/proc/${pid}/mem`, Number.parseInt(start, 16)),
    file: readAt(`/proc/${pid}/root${path}`, Number.parseInt(offset, 16)),
  };
}

function readAt(path: string, position: number): string {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(256);
    readSync(fd, bytes, 0, bytes.length, position);
    return bytes.toString('hex');
  } finally {
    closeSync(fd);
  }
}

function children(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/**
 * Whether one of these still has CRIU's log open, which no dump can take. That comes about once in some thousands of
 * kills, why is not known, and is the one trace that a killed CRIU is known to leave.
 */
function keepsLog(pids: readonly number[]): boolean {
  const targets = pids.flatMap((pid) =>
    readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        return '';
      }
    }),
  );
  return targets.some((target) => target.includes('/dump.log'));
}

/** Most kills of a run of all tests that may leave that trace. */
const mostLogsKept = 1;
let logsKept = 0;

/**
 * Kills CRIU at one step, and looks what has become of the target.
 * @returns whether that dump had so many: CRIU does not wait equally often in each.
 */
async function strike(
  counter: Counter,
  cgroup: TestCgroup,
  step: number,
  before: Thread[],
  pids: number[],
): Promise<boolean> {
  rmSync(counter.imagesDir, { recursive: true });
  mkdirSync(counter.imagesDir);
  const client = killingClient({ KILL_AT: String(step) });
  const error = await counter.dump(client, {}, { leaveRunning: true, ...freezing(cgroup) }).then(
    () => undefined,
    (reason: CriuError) => reason,
  );
  if (error !== undefined) expect(error.message, `step ${step}`).toContain('ended by SIGKILL');
  await expectUntouched(counter, cgroup, step, before, pids);
  return error !== undefined;
}

async function expectUntouched(
  counter: Counter,
  cgroup: TestCgroup,
  step: number,
  before: Thread[],
  pids: number[],
): Promise<void> {
  cgroup.thaw();
  expect(await counter.isAlive(), `alive after step ${step}`).toBe(true);
  await vi.waitFor(
    () => {
      const now = threadsOf(pids);
      expect(now, `threads after step ${step}`).toEqual(before);
    },
    { timeout: 5000, interval: 5 },
  );
  for (const pid of pids) {
    const { memory, file } = codeOf(pid);
    expect(memory, `code after step ${step}`).toBe(file);
  }
  await expectProgress(counter, step);
}

/** Every number rises, except for the last, which tells of what went wrong. */
async function expectProgress(counter: Counter, step: number): Promise<void> {
  const first = counter.numbers();
  await vi.waitFor(
    () => {
      const now = counter.numbers();
      const counting = now.length > 1 ? now.slice(0, -1) : now;
      expect(
        counting.every((number, index) => number > (first[index] ?? 0)),
        `progress after step ${step}: ${first} to ${now}`,
      ).toBe(true);
      if (now.length === 1) return;
      expect(now.at(-1), `what went wrong at step ${step}`).toBe(0);
      const [sent = 0, , , , handled = 0] = now;
      expect(sent - handled, `signals lost at step ${step}`).toBeLessThanOrEqual(signalsUnderway);
    },
    { timeout: 5000, interval: 5 },
  );
}

describe.skipIf(!canCheckpoint)('a CRIU that is killed', { timeout: everyStep ? 1_200_000 : 60_000 }, () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'torpor-killed-'));
    const cc = (...args: string[]) => execFileSync('cc', ['-O1', '-D_GNU_SOURCE', ...args]);
    cc('-shared', '-fPIC', '-o', killer(), join(sources, 'kill-at.c'), '-ldl');
    cc('-pthread', '-o', threads(), join(sources, 'threads.c'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    { target: 'two processes', start: () => Counter.start(1) },
    { target: 'a process of six threads', start: () => Counter.start(1, 0, threads()) },
  ])('leaves $target as they were, whatever it was doing', async ({ start }) => {
    let kills = 0;
    let chosen = [0];
    for (let first = 0; first < chosen.length; first += killsOfOne) {
      await using counter = await start();
      await using cgroup = new TestCgroup(counter.root.pid);
      const pids = [counter.root.pid, ...children(counter.root.pid)];
      await sleep(100);
      const before = threadsOf(pids);
      expect(before.every(({ tracer }) => tracer === '0')).toBe(true);
      if (first === 0) {
        const steps = await countSteps(counter, cgroup);
        expect(steps).toBeGreaterThan(100);
        chosen = chooseSteps(steps - 1);
      }
      for (const step of chosen.slice(first, first + killsOfOne)) {
        if (await strike(counter, cgroup, step, before, pids)) kills++;
        if (!keepsLog(pids)) continue;
        process.stderr.write(`step ${step} left CRIU's log open\n`);
        expect(++logsKept, `logs left open, the last one by step ${step}`).toBeLessThanOrEqual(mostLogsKept);
        break;
      }
      if (keepsLog(pids)) continue;
      rmSync(counter.imagesDir, { recursive: true });
      mkdirSync(counter.imagesDir);
      const client = makeClient();
      await counter.dump(client, {}, freezing(cgroup));
      await counter.restore(client);
      await expectProgress(counter, 0);
    }
    if (everyStep) process.stderr.write(`${kills} kills at ${chosen.length} steps\n`);
    // A dump that waits less often than the one that was counted has no such step.
    expect(kills).toBeGreaterThan(chosen.length * 0.7);
  });

  it('mends its target also where the engine is killed with it', async () => {
    await using counter = await Counter.start(1, 0, threads());
    await using cgroup = new TestCgroup(counter.root.pid);
    const pids = [counter.root.pid];
    const before = threadsOf(pids);
    const steps = await countSteps(counter, cgroup);
    for (const step of [0.2, 0.5, 0.8].map((part) => Math.round(part * steps))) {
      const engine = spawn(
        process.execPath,
        ['--import', 'tsx', join(sources, 'engine.ts'), String(counter.root.pid), counter.imagesDir],
        {
          env: {
            ...process.env,
            ...{ LD_PRELOAD_OF_CRIU: killer(), CGROUP: cgroup.path, KILL_AT: String(step), KILL_PARENT: '1' },
          },
          stdio: 'inherit',
        },
      );
      const [, signal] = await once(engine, 'exit');
      expect(signal).toBe('SIGKILL');
      const areTraced = () => threadsOf(pids).some(({ tracer }) => tracer !== '0');
      await vi.waitFor(() => expect(areTraced()).toBe(false), { timeout: 5000 });
      await expectUntouched(counter, cgroup, step, before, pids);
    }
  });

  it('leaves a stopped target stopped', async () => {
    await using counter = await Counter.start(1, 0, threads());
    await using cgroup = new TestCgroup(counter.root.pid);
    const steps = await countSteps(counter, cgroup);
    process.kill(counter.root.pid, 'SIGSTOP');
    await vi.waitFor(() => expect(threadsOf([counter.root.pid]).every(({ stopped }) => stopped)).toBe(true), {
      timeout: 20_000,
    });
    const before = threadsOf([counter.root.pid]);
    for (const step of [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8].map((part) => Math.round(part * steps))) {
      const dump = counter.dump(
        killingClient({ KILL_AT: String(step) }),
        {},
        { leaveRunning: true, ...freezing(cgroup) },
      );
      await expect(dump).rejects.toThrow('ended by SIGKILL');
      cgroup.thaw();
      await vi.waitFor(() => expect(threadsOf([counter.root.pid]), `step ${step}`).toEqual(before), {
        timeout: 5000,
      });
    }
    process.kill(counter.root.pid, 'SIGCONT');
    await expectProgress(counter, 0);
  });

  it.each([0, 5, 10, 15, 20, 25, 30, 35])(
    'leaves nothing of its own behind where that is %i ms after its start',
    async (delay) => {
      await using counter = await Counter.start();
      let criu = -1;
      const dump = counter.dump(makeClient(), {
        onStarted: (pid) => {
          criu = pid;
          setTimeout(() => killIfThere(pid), delay);
        },
        onNotify: { 'post-dump': () => sleep(10_000, undefined, { ref: false }) },
      });
      await expect(dump).rejects.toThrow('ended by SIGKILL');
      await vi.waitFor(() => expect(membersOf(criu)).toEqual([]), { timeout: 5000 });
      expect(tracers()).toEqual([]);
      expect(await counter.counts()).toBe(true);
    },
  );

  it('goes on alone where the tracer has ended before, and fails where it ends later', async () => {
    await using counter = await Counter.start(1, 0, threads());
    const killTracer = () => {
      for (const pid of tracers()) killIfThere(pid);
      return sleep(50);
    };
    await counter.dump(makeClient(), { onNotify: { 'pre-dump': killTracer } }, { leaveRunning: true });
    await expectProgress(counter, 0);
    const dump = counter.dump(
      makeClient(),
      { onNotify: { 'query-ext-files': killTracer } },
      { leaveRunning: true },
    );
    await expect(dump).rejects.toThrow();
    await expectProgress(counter, 0);
  });
});

/** Those that this process has started. */
function tracers(): number[] {
  return processes(
    (pid, [, parent]) =>
      parent === String(process.pid) &&
      readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('torpor-tracer'),
  );
}

function membersOf(session: number): number[] {
  return processes((_pid, [, , , member]) => member === String(session));
}

/** Those that have not ended, by the fields of /proc/PID/stat after the name. */
function processes(isMeant: (pid: string, fields: string[]) => boolean): number[] {
  return readdirSync('/proc')
    .filter((entry) => {
      try {
        const fields = readFileSync(`/proc/${entry}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
        return /^\d+$/.test(entry) && fields[0] !== 'Z' && isMeant(entry, fields);
      } catch {
        return false;
      }
    })
    .map(Number);
}
