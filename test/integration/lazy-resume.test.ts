/** An application runs again before its memory is there, and can be suspended again meanwhile. */
import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Snapshot, Workload } from '../../api/types.ts';
import { isThere, killIfThere, TestEngine } from '../support/engine.ts';
import { MemoryApp } from '../support/memory-app.ts';

const megabytes = 200;

let engine: TestEngine;
let app: MemoryApp;
let id: string;

beforeEach(async () => {
  engine = await TestEngine.create();
  app = await MemoryApp.create(megabytes);
  ({ id } = await engine.start([...app.command], '--name', 'app'));
  await app.ready();
});
afterEach(async () => {
  await engine[Symbol.asyncDispose]();
  await app[Symbol.asyncDispose]();
});

const control = () => join(engine.paths.runDir, 'pagers', `${id}.sock`);

/** The processes of the workload's pager, as far as they are there: one reads the store, the others hold its memory. */
async function pagerPids(): Promise<{ reader: number[]; all: number[] }> {
  const reader: number[] = [];
  const all: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const words = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
    if (!words.includes('torpor-pager') || !words.includes(engine.paths.stateDir)) continue;
    all.push(Number(name));
    if (words.startsWith('torpor-pager worker')) reader.push(Number(name));
  }
  return { reader, all };
}

function kill(pids: readonly number[]): void {
  for (const pid of pids) killIfThere(pid);
}

it('runs while its memory is fetched, and has all of it in the end', async () => {
  const snapshot = await engine.json<Snapshot>('suspend', 'app');
  const images = await readdir(join(engine.paths.stateDir, 'snapshots', snapshot.id, 'images'));
  expect(images.filter((name) => name.startsWith('pages-'))).toEqual([]);
  const resumed = await engine.json<Workload & { state: string }>('resume', 'app');
  expect(resumed.state).toBe('running');
  expect(await app.ask('alive')).toBe('alive');
  expect(await app.ask('memory')).toBe('right');
  await expect.poll(async () => (await engine.workload(id)).loading).toBeUndefined();
  expect(await app.ask('fork')).toBe('right');
  expect(existsSync(control())).toBe(false);
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  expect(mounts).not.toContain(engine.paths.runDir);
});

it('has all of it before it runs where the user wants that', async () => {
  await engine.json('suspend', 'app');
  await engine.json('resume', 'app', '--eager');
  expect((await engine.workload(id)).loading).toBeUndefined();
  expect(existsSync(control())).toBe(false);
  expect(await app.ask('memory')).toBe('right');
});

it('is suspended again at once, without what it has not touched being read', async () => {
  const first = await engine.json<Snapshot>('suspend', 'app');
  await engine.json('resume', 'app');
  const second = await engine.json<Snapshot>('suspend', 'app');
  expect(second.bytesOnDisk).toBeLessThan(first.bytesOnDisk / 5);
  await engine.json('resume', 'app');
  expect(await app.ask('change')).toBe('changed');
  const third = await engine.json<Snapshot>('suspend', 'app');
  await engine.json('rm', first.id);
  await engine.json('rm', second.id);
  await engine.json('gc');
  expect(third.bytesOnDisk).toBeLessThan(first.bytesOnDisk / 3);
  await engine.json('resume', 'app');
  expect(await app.ask('fork')).toBe('right');
  expect(await app.ask('memory')).toBe('right');
});

it('takes little when it is suspended again, of shared memory too, which each resume counts anew', async () => {
  await using sharing = await MemoryApp.create(64, 'shared');
  const { id: other } = await engine.start([...sharing.command], '--name', 'sharing');
  await sharing.ready();
  const first = await engine.json<Snapshot>('suspend', 'sharing');
  await engine.json('resume', 'sharing');
  expect(await sharing.ask('change')).toBe('changed');
  const second = await engine.json<Snapshot>('suspend', 'sharing');
  expect(second.bytesOnDisk).toBeLessThan(first.bytesOnDisk / 4);
  await engine.json('resume', 'sharing');
  expect(await sharing.ask('memory')).toBe('right');
  await engine.json('end', other);
});

it('is suspended again while most of its memory is still to be fetched', async () => {
  await using large = await MemoryApp.create(1500);
  const { id: other } = await engine.start([...large.command], '--name', 'large');
  await large.ready();
  const first = await engine.json<Snapshot>('suspend', 'large');
  await engine.json('resume', 'large');
  const second = await engine.json<Snapshot>('suspend', 'large');
  const log = await engine.logTail(60);
  const [taken] = log.split('\n').filter((line) => line.includes(`"snapshot":"${second.id}"`));
  expect(Number(/"unfetchedPages":(\d+)/.exec(taken ?? '')?.[1])).toBeGreaterThan(10_000);
  await engine.json('rm', first.id);
  await engine.json('gc');
  await engine.json('resume', 'large');
  expect(await large.ask('memory')).toBe('right');
  await engine.json('end', other);
});

it('goes on where the reader of its memory is killed, again and again', async () => {
  await engine.json('suspend', 'app');
  await engine.json('resume', 'app');
  await app.askOnly('memory');
  for (let round = 0; round < 10 && existsSync(control()) && !app.hasAnswered; round++) {
    kill((await pagerPids()).reader);
  }
  expect(await app.answer()).toBe('right');
});

it('goes on where the engine and the reader of its memory are killed together', async () => {
  await engine.json('suspend', 'app');
  await engine.json('resume', 'app');
  const pid = (await engine.pid()) ?? 0;
  await app.askOnly('memory');
  kill([pid, ...(await pagerPids()).reader]);
  await expect.poll(() => isThere(pid)).toBe(false);
  expect(await app.answer()).toBe('right');
  // The next engine finds it, and what it needs.
  expect((await engine.workload(id)).state).toBe('running');
  await engine.json('suspend', 'app');
  await engine.json('resume', 'app');
  expect(await app.ask('fork')).toBe('right');
});

it('never runs on with memory that nobody can give it any more', async () => {
  const snapshot = await engine.json<Snapshot>('suspend', 'app');
  await engine.json('resume', 'app');
  await app.askOnly('memory');
  kill((await pagerPids()).all);
  await expect
    .poll(async () => app.hasAnswered || (await engine.workload(id)).state === 'ended', { timeout: 60_000 })
    .toBe(true);
  if (app.hasAnswered) expect(await app.answer()).toBe('right');
  await rm(join(app.folder, 'answer-1'), { force: true });
  // Its snapshot is as it was.
  if ((await engine.workload(id)).state !== 'ended') await engine.json('end', 'app');
  await engine.json('resume', snapshot.id);
  expect(await app.answer()).toBe('right');
});
