/** An application runs again before its memory is there, and can be suspended again meanwhile. */
import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Snapshot, Workload } from '../../api/types.ts';
import { Pager } from '../../engine/pages/pager.ts';
import { isThere, killIfThere, TestEngine } from '../support/engine.ts';
import { MemoryApp } from '../support/memory-app.ts';
import { childrenOf } from '../support/terminal.ts';

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

/** The processes of the workload's pager: the one that holds its memory together, and the one that reads the store. */
async function pagerPids(): Promise<{ keeper: number; workers: number[] }> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const words = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
    if (!words.includes('torpor-pager') || !words.includes(control())) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const parent = Number(stat.slice(stat.lastIndexOf(')')).split(' ')[2]);
    const parentWords = await readFile(`/proc/${parent}/cmdline`, 'utf8').catch(() => '');
    if (parentWords.includes(control())) continue;
    return { keeper: Number(name), workers: await childrenOf(Number(name)) };
  }
  throw new Error('there is no pager');
}

/** Resumes it, and has its pager fetch nothing but what is touched: its reader is stopped at once. */
async function resumeSlowly(): Promise<void> {
  const pager = await Pager.find(control());
  expect(pager).toBeUndefined();
  await engine.json<Workload>('resume', 'app');
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

it('goes on where the reader of its memory is killed, again and again', async () => {
  await engine.json('suspend', 'app');
  await engine.json('resume', 'app');
  await app.askOnly('memory');
  for (let round = 0; round < 10 && existsSync(control()) && !app.hasAnswered; round++) {
    const pids = await pagerPids().catch(() => undefined);
    for (const pid of pids?.workers ?? []) killIfThere(pid);
  }
  expect(await app.answer()).toBe('right');
});

it('goes on where the engine and the reader of its memory are killed together', async () => {
  await engine.json('suspend', 'app');
  await resumeSlowly();
  const pid = (await engine.pid()) ?? 0;
  await app.askOnly('memory');
  const pids = await pagerPids().catch(() => undefined);
  for (const each of [pid, ...(pids?.workers ?? [])]) killIfThere(each);
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
  const pids = await pagerPids().catch(() => undefined);
  for (const each of [pids?.keeper ?? 0, ...(pids?.workers ?? [])]) if (each > 1) killIfThere(each);
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
