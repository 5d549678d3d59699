/** The disk is full: seen before anything is touched, or met by CRIU in the middle of its writing. */
import { execFile } from 'node:child_process';
import { closeSync, openSync, readdirSync, statfsSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Phase, Workload } from '../../api/types.ts';
import { type Outcome, TestEngine } from '../support/engine.ts';
import { Counter, expectSentence, expectTidy, strikeAt } from './scene.ts';

const run = promisify(execFile);
const mebibyte = 1024 * 1024;

let stateDir: string;
let engine: TestEngine;
let counter: Counter;

beforeAll(async () => {
  stateDir = await mkdtemp('/var/tmp/torpor-small-');
  await run('mount', ['-t', 'tmpfs', '-o', 'size=480m', 'none', stateDir]);
  engine = await TestEngine.create({ stateDir });
  // More than is preallocated, so that nothing of a suspend can be through before the disk is full.
  counter = await Counter.startHolding(engine, 128, '--name', 'counter');
});
afterAll(async () => {
  // An engine cannot write down its end on a full disk.
  await makeRoom();
  await counter?.[Symbol.asyncDispose]();
  await engine?.kill('SIGTERM');
  await run('umount', ['-l', stateDir]);
  await engine?.[Symbol.asyncDispose]();
  await rm(stateDir, { recursive: true, force: true });
});

/** Fills the state folder up to this many free bytes, without giving way to anything while CRIU writes beside it. */
function leaveFree(bytes: number, name = 'ballast'): void {
  const path = join(stateDir, name);
  const zeros = Buffer.alloc(mebibyte);
  const file = openSync(path, 'w');
  try {
    for (;;) {
      const { bavail, bsize } = statfsSync(stateDir);
      const more = Math.min(zeros.length, bavail * bsize - bytes);
      if (more <= 0) return;
      writeSync(file, zeros, 0, more);
    }
  } catch (error) {
    // Where CRIU took the last of it meanwhile, less than that is left.
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(file);
  }
}

async function makeRoom(): Promise<void> {
  await rm(join(stateDir, 'ballast'), { force: true });
  await rm(join(stateDir, 'ballast-before'), { force: true });
}

/** And waits until their pages have gone too: the next suspend would not write again what is still there. */
async function removeSnapshots(): Promise<void> {
  for (const { id } of await engine.snapshots()) await engine.json('rm', id);
  const packs = () => readdirSync(join(stateDir, 'packs')).filter((name) => name.endsWith('.pack'));
  await expect.poll(packs, { timeout: 20_000 }).toEqual([]);
}

/** On a fast or a busy machine CRIU may have written everything before it is told of: then again. */
async function suspendWhileFilling(phase: Phase, left: number): Promise<Outcome> {
  for (let tries = 1; ; tries++) {
    // Enough for the inspection, so that little is to be filled once it is under way.
    leaveFree(256 * mebibyte, 'ballast-before');
    const outcome = await strikeAt(engine, phase, ['suspend', 'counter'], () => leaveFree(left));
    if (outcome.code !== 0 || tries === 5) return outcome;
    await makeRoom();
    await engine.json('resume', 'counter');
    await removeSnapshots();
  }
}

it('is seen by the inspection, and nothing is touched', async () => {
  leaveFree(20 * mebibyte);
  const error = await engine.failure(3, 'suspend', 'counter');
  expect(error.message).toMatch(/cannot be suspended: .+MiB.+ are free\. Nothing was touched\./);
  expect(error.hint).toContain('torpor rm');
  expect(await counter.expectUsable()).toBe('running');
  await makeRoom();
  await expectTidy(engine);
});

it('starts nothing where not even a record can be written, and leaves nothing of it', async () => {
  leaveFree(0);
  const error = await engine.failure(1, 'run', '--name', 'late', '--', 'xterm');
  expect(error.message).toMatch(/space/);
  expect((await engine.json<Workload[]>('ps')).map(({ name }) => name)).toEqual(['counter']);
  await makeRoom();
  await expectTidy(engine);
});

it('is named where a resume meets it, and the snapshot is kept', async () => {
  await engine.json('suspend', 'counter');
  leaveFree(0);
  const refused = await engine.run(['resume', 'counter']);
  expectSentence(refused, 1, /counter could not be resumed: .*space.* Its snapshot \w+ is as it was\./);
  await makeRoom();
  expect(await counter.expectUsable()).toBe('suspended');
  await removeSnapshots();
  await expectTidy(engine);
});

it.each<[Phase, number]>([
  ['freeze', 8],
  ['freeze', 0],
])('is met while the snapshot is written: at %s only %i MiB are left', async (phase, left) => {
  const outcome = await suspendWhileFilling(phase, left * mebibyte);
  // With nothing left at all CRIU cannot even log why it failed, and what it gave up may have made room again.
  const reason = left > 0 ? '.*(space|ENOSPC).*' : '.+';
  expectSentence(outcome, 1, new RegExp(`counter could not be suspended: ${reason} It runs on as before\\.`));
  expect(await counter.expectUsable()).toBe('running');
  await makeRoom();
  await expectTidy(engine);
  expect(await engine.snapshots()).toEqual([]);
});
