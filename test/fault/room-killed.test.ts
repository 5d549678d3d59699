/** What holds a job after a resume is killed: the keeper of its terminal, and the init of its room. The job is not lost. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Phase, Snapshot } from '../../api/types.ts';
import { killIfThere, TestEngine } from '../support/engine.ts';
import { TestTerminal } from '../support/terminal.ts';
import { Counter, expectTidy, isRunning, removeSnapshots, strikeAt } from './scene.ts';

const torpor = new URL('../../bin/torpor', import.meta.url).pathname;

let engine: TestEngine;
let job: Counter;

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());
beforeEach(async () => {
  job = await Counter.startJob(engine);
  job.adopted((await engine.json<Snapshot>('suspend', job.target)).workload);
  await engine.json('resume', job.id);
});
afterEach(async () => {
  await job[Symbol.asyncDispose]();
  await removeSnapshots(engine);
});

const attach = () => TestTerminal.start([torpor, 'attach', job.id], { env: engine.env });

/** What the room has told of itself. */
async function room(): Promise<{ init: number; keeper: number }> {
  return JSON.parse(await readFile(join(engine.paths.runDir, 'capsules', job.id, 'room'), 'utf8'));
}

/** The program that shows the terminal; what started it starts it anew. */
async function killKeeper(): Promise<void> {
  const { keeper } = await room();
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  for (const pid of pids) {
    const line = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
    const ppid = Number(line.slice(line.lastIndexOf(')') + 2).split(' ')[1]);
    if (ppid === keeper) killIfThere(pid);
  }
}

async function killInit(): Promise<void> {
  const { init } = await room();
  process.kill(init, 'SIGKILL');
  await vi.waitFor(async () => expect(await isRunning(init)).toBe(false), { timeout: 20_000 });
}

/**
 * With a pid namespace a job ends with its init. It has one as long as a number of it is taken, as by a process of the
 * earlier room that has ended and that nobody has taken note of yet.
 */
async function comeBackOutside(): Promise<void> {
  for (let tries = 0; tries < 20; tries++) {
    if ((await engine.workload(job.id)).pids.includes(job.pid)) return;
    await engine.json('suspend', job.id);
    await engine.json('resume', job.id);
  }
}

it('goes on when the keeper of its terminal is killed, and can be attached again', async () => {
  await using viewer = await attach();
  await killKeeper();
  await viewer.ended();
  await job.expectCounting();
  await using second = await vi.waitFor(
    async () => {
      const terminal = await attach();
      terminal.type('\x1d');
      expect(await terminal.ended()).toBe(0);
      return terminal;
    },
    { timeout: 10_000, interval: 100 },
  );
  expect(second.exit).toBe(0);
  await engine.json('suspend', job.id);
  expect(await job.expectUsable()).toBe('suspended');
  await expectTidy(engine);
});

it('goes on when the init of its room is killed, and is suspended, resumed and ended as before', async () => {
  await killInit();
  await job.expectCounting();
  await engine.kill();
  expect(await engine.workload(job.id)).toMatchObject({ state: 'running' });
  await engine.json('suspend', job.id);
  expect(await job.expectUsable()).toBe('suspended');
  await comeBackOutside();
  await killInit();
  await job.expectCounting();
  await engine.json('end', job.id);
  expect(await isRunning(job.pid)).toBe(false);
  await expectTidy(engine);
});

describe.each<[string, () => Promise<void>]>([
  ['the keeper of its terminal', killKeeper],
  ['the init of its room', killInit],
])('when %s is killed during a suspend', (_who, kill) => {
  it.each<Phase>(['detach', 'commit'])('at %s, it is suspended or runs on', async (phase) => {
    const outcome = await strikeAt(engine, phase, ['suspend', job.id], kill);
    expect([0, 1]).toContain(outcome.code);
    expect(await job.expectUsable()).toBe(outcome.code === 0 ? 'suspended' : 'running');
    await expectTidy(engine);
  });
});
