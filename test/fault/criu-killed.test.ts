/** CRIU is killed in the middle of a dump and of a restore: the application runs on, the snapshot is unharmed. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Phase, Snapshot } from '../../api/types.ts';
import { findInstallation } from '../../engine/installation.ts';
import { type Outcome, TestEngine } from '../support/engine.ts';
import {
  Counter,
  expectSentence,
  expectTidy,
  isRunning,
  jobs,
  killCriu,
  killRoom,
  removeSnapshots,
  strikeAt,
} from './scene.ts';

let engine: TestEngine;
let counter: Counter;
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/torpor-criu-killed-');
  engine = await TestEngine.create();
  counter = await Counter.start(engine, '--name', 'counter');
});
afterEach(() => removeSnapshots(engine));
afterAll(async () => {
  await counter[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/**
 * A CRIU that is killed at a moment of its own work, by what is named so beside this file, unless there is a file of its
 * name with `.spared` behind. @returns its path.
 */
async function killedBy(name: 'kill-at-release' | 'kill-at-resume'): Promise<string> {
  const library = join(folder, `${name}.so`);
  const source = join(import.meta.dirname, `criu-killed/${name}.c`);
  execFileSync('cc', ['-shared', '-fPIC', '-D_GNU_SOURCE', '-o', library, source]);
  const path = join(folder, `criu-${name}`);
  const real = findInstallation().criu;
  await writeFile(
    path,
    `#!/bin/sh
    [ -e "$0.spared" ] || export LD_PRELOAD="${library}:$LD_PRELOAD"
    exec ${real} "$@"
  `,
    {
      mode: 0o755,
    },
  );
  return path;
}

/** How long a command takes from that phase on, in milliseconds. */
async function timeFrom(phase: Phase, args: readonly string[]): Promise<number> {
  let startedAt = 0;
  await strikeAt(engine, phase, args, () => {
    startedAt = performance.now();
  });
  return performance.now() - startedAt;
}

type Killer = typeof killCriu;

/** It may not have been started yet, or be gone already. */
async function killSoon(kill: Killer, pid: number): Promise<void> {
  for (const end = Date.now() + 1000; Date.now() < end && !(await kill(pid)); ) await sleep(1);
}

async function expectSurvivesDump(
  { engine, name, target }: Counter,
  [phase, later, kill]: [Phase, number, Killer],
): Promise<[Outcome, boolean]> {
  const isJob = name !== 'counter';
  const outcome = await strikeAt(engine, phase, ['suspend', target], async (pid) => {
    await sleep(later);
    // A job is done in a moment: CRIU waits for the engine to answer.
    if (isJob) process.kill(pid, 'SIGSTOP');
    await killSoon(kill, pid);
    if (isJob) process.kill(pid, 'SIGCONT');
  });
  // At the commit CRIU may be quicker than its killer: then the suspend has simply worked.
  const inTime = phase !== 'commit' || outcome.code !== 0;
  const sentence = `${name} could not be suspended: .+(It runs on as before|can be resumed)\\.`;
  if (inTime) expectSentence(outcome, 1, new RegExp(sentence));
  return [outcome, inTime];
}

async function expectUsableAfter(counter: Counter, [outcome, inTime]: [Outcome, boolean]): Promise<void> {
  const state = await counter.expectUsable();
  if (inTime) expect(outcome.stderr).toContain(state === 'running' ? 'It runs on' : 'can be resumed');
  await expectTidy(counter.engine);
}

it.each<[Phase, number]>([
  ['freeze', 0],
  ['checkpoint', 0],
  ['checkpoint', 40],
  ['commit', 0],
])('runs on when CRIU is killed during a dump, at %s and %i ms later', async (phase, later) => {
  await expectUsableAfter(counter, await expectSurvivesDump(counter, [phase, later, killCriu]));
});

describe.each(jobs)('$what', ({ what, start }) => {
  let job: Counter;
  const isInRoom = what.includes('of its own');
  beforeAll(async () => {
    job = await start(engine);
  });
  beforeEach(() => job.lookUp());
  afterAll(() => job[Symbol.asyncDispose]());

  const strikes: [Phase, string, Killer][] = [
    ['freeze', 'CRIU', killCriu],
    ['checkpoint', 'CRIU', killCriu],
    ['commit', 'CRIU', killCriu],
  ];
  if (isInRoom) strikes.push(['checkpoint', 'what takes CRIU there', killRoom]);

  it.each(strikes)('runs on where it did when at %s %s is killed', async (phase, _which, kill) => {
    const { target } = job;
    const [outcome, inTime] = await expectSurvivesDump(job, [phase, 0, kill]);
    if (inTime && outcome.stderr.includes('It runs on')) {
      expect(job.target).toBe(target);
      if (!isInRoom) expect(await isRunning(job.pid)).toBe(true);
    }
    await expectUsableAfter(job, [outcome, inTime]);
  });

  it.each<[string, Killer]>([
    ['CRIU', killCriu],
    ['what makes the room', killRoom],
  ])('stays suspended when %s is killed during its resume', async (_which, kill) => {
    for (const moment of [0, 0.3]) {
      const { id, workload } = await engine.json<Snapshot>('suspend', job.target);
      job.adopted(workload);
      const outcome = await strikeAt(engine, 'restore', ['resume', workload], async (pid) => {
        await sleep(moment * 300);
        await killSoon(kill, pid);
      });
      if (outcome.code !== 0) {
        expectSentence(outcome, 1, new RegExp(`could not be resumed: .+Its snapshot ${id} is as it was`));
        expect((await engine.workload(workload)).state).toBe('suspended');
        await expectTidy(engine);
      }
      await job.expectUsable();
      await expectTidy(engine);
    }
  });
});

it.each([
  ['before', {}],
  ['after', { KILL_AFTER: '1' }],
])('is suspended when CRIU is killed %s it ended the first process', async (_when, environment) => {
  await using engine = await TestEngine.create({
    env: { TORPOR_CRIU: await killedBy('kill-at-release'), ...environment },
  });
  await using counter = await Counter.start(engine);
  const { id } = await engine.json<{ id: string }>('suspend', counter.id);
  expect(await engine.logTail()).toContain('CRIU did not end the application');
  expect(await engine.workload(counter.id)).toMatchObject({ state: 'suspended', snapshot: id, pids: [] });
  await expectTidy(engine);
  expect(await counter.expectUsable()).toBe('suspended');
});

it('is suspended when the engine is killed with CRIU while that ends the application', async () => {
  await using engine = await TestEngine.create({
    env: { TORPOR_CRIU: await killedBy('kill-at-release'), KILL_AFTER: '1', KILL_PARENT: '1' },
  });
  await using counter = await Counter.start(engine);
  await engine.run(['suspend', counter.id]);
  expect(await counter.expectUsable()).toBe('suspended');
  await expectTidy(engine);
});

it('runs nothing of the application when CRIU is killed just before it lets go of it', async () => {
  const criu = await killedBy('kill-at-resume');
  const spared = `${criu}.spared`;
  await writeFile(spared, '');
  await using engine = await TestEngine.create({ env: { TORPOR_CRIU: criu } });
  await using counter = await Counter.start(engine);
  for (let round = 0; round < 5; round++) {
    await engine.json('suspend', counter.id);
    const standing = await counter.count();
    await rm(spared);
    expectSentence(await engine.run(['resume', counter.id]), 1, /could not be resumed: .+is as it was/);
    expect(await counter.count()).toBe(standing);
    await writeFile(spared, '');
    expect(await counter.expectUsable()).toBe('suspended');
  }
  await expectTidy(engine);
});

it('leaves the snapshot unharmed when CRIU is killed during a restore', async () => {
  await engine.json('suspend', 'counter');
  const length = await timeFrom('restore', ['resume', 'counter']);
  let failures = 0;
  // Shares of the time until the whole is done: CRIU itself is done soon, as it leaves memory to be fetched later.
  for (const moment of [0, 0.1, 0.2]) {
    const snapshot = await engine.json<{ id: string }>('suspend', 'counter');
    const outcome = await strikeAt(engine, 'restore', ['resume', 'counter'], async (pid) => {
      await sleep(moment * length);
      for (let tries = 0; tries < 200 && !(await killCriu(pid)); tries++) await sleep(1);
    });
    const { state } = await engine.workload(counter.id);
    if (outcome.code !== 0) {
      failures++;
      expectSentence(
        outcome,
        1,
        new RegExp(`could not be resumed: .+Its snapshot ${snapshot.id} is as it was`),
      );
      expect(state).toBe('suspended');
      await expectTidy(engine);
    }
    await counter.expectUsable();
    await expectTidy(engine);
  }
  expect(failures).toBeGreaterThan(1);
});
