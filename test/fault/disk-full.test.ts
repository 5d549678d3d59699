/** The disk is full: seen before anything is touched, or met by CRIU in the middle of its writing. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Phase } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { Counter, expectSentence, expectTidy, strikeAt } from './scene.ts';

const run = promisify(execFile);
const mebibyte = 1024 * 1024;

let stateDir: string;
let engine: TestEngine;
let counter: Counter;

beforeAll(async () => {
  stateDir = await mkdtemp('/var/tmp/torpor-small-');
  await run('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'none', stateDir]);
  engine = await TestEngine.create({ stateDir });
  counter = await Counter.start(engine, '--name', 'counter');
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

/** Fills the state folder up to this many free bytes. */
async function leaveFree(bytes: number): Promise<void> {
  const path = join(stateDir, 'ballast');
  await rm(path, { force: true });
  const { stdout } = await run('stat', ['-f', '-c', '%a %S', stateDir]);
  const [blocks = 0, size = 0] = stdout.trim().split(' ').map(Number);
  // Where CRIU takes space meanwhile, less than that is left.
  const fill = 'fallocate -l "$1" "$2" 2>/dev/null || head -c "$1" /dev/zero >"$2" 2>/dev/null || true';
  await run('sh', ['-c', fill, 'sh', String(blocks * size - bytes), path]);
}

async function makeRoom(): Promise<void> {
  await rm(join(stateDir, 'ballast'), { force: true });
}

it('is seen by the inspection, and nothing is touched', async () => {
  await leaveFree(20 * mebibyte);
  const error = await engine.failure(3, 'suspend', 'counter');
  expect(error.message).toMatch(/cannot be suspended: .+MiB.+ are free\. Nothing was touched\./);
  expect(error.hint).toContain('torpor rm');
  expect(await counter.expectUsable()).toBe('running');
  await makeRoom();
  await expectTidy(engine);
});

it.each<[Phase, number]>([
  ['freeze', 8],
  ['freeze', 0],
])('is met while the snapshot is written: at %s only %i MiB are left', async (phase, left) => {
  const outcome = await strikeAt(engine, phase, ['suspend', 'counter'], () => leaveFree(left * mebibyte));
  // With nothing left at all CRIU cannot even log why it failed, and what it gave up may have made room again.
  const reason = left > 0 ? '.*(space|ENOSPC).*' : '.+';
  expectSentence(outcome, 1, new RegExp(`counter could not be suspended: ${reason} It runs on as before\\.`));
  expect(await counter.expectUsable()).toBe('running');
  await makeRoom();
  await expectTidy(engine);
  expect(await engine.snapshots()).toEqual([]);
});
