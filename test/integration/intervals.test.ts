/** Snapshots at intervals of what runs on: a job that counts, over a new engine, a suspend, turns that fail, and its end. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Snapshot, Workload } from '../../api/types.ts';
import { Counter, expectTidy, removeSnapshots } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';
import { canCheckpoint } from './criu-fixture.ts';

let engine: TestEngine;

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterEach(() => removeSnapshots(engine));
afterAll(() => engine[Symbol.asyncDispose]());

const limits = { timeout: 60_000, interval: 100 };
const atInterval = async () => (await engine.snapshots()).filter((snapshot) => snapshot.atInterval);

/** Waits until that many more have been taken. */
async function turns(count: number): Promise<void> {
  const seen = new Set((await atInterval()).map(({ id }) => id));
  const before = seen.size;
  await vi.waitFor(async () => {
    for (const { id } of await atInterval()) seen.add(id);
    expect(seen.size).toBeGreaterThanOrEqual(before + count);
  }, limits);
}

describe.runIf(canCheckpoint)('snapshots at intervals', () => {
  it('of a process are taken while it runs on, the last ones and those that somebody wants stay', async () => {
    await using job = await Counter.startJob(engine);
    const set = await engine.json<Workload>('snapshots', '--every', '1s', '--keep-last', '2', job.target);
    job.adopted(set.id);
    expect(set).toMatchObject({ state: 'running', interval: { everySeconds: 1, keepLast: 2, failures: 0 } });
    const [first] = await atInterval();
    expect(first).toMatchObject({ workload: set.id, kept: false });
    await engine.json('keep', first?.id ?? '');
    const byHand = await vi.waitFor(
      () => engine.json<Snapshot>('suspend', '--leave-running', job.id),
      limits,
    );
    expect(byHand.atInterval).toBeUndefined();
    await turns(4);
    const off = await engine.json<Workload>('snapshots', '--every', 'off', job.id);
    expect(off.interval).toBeUndefined();
    // The turn that was under way, if one was, comes to its end.
    await vi.waitFor(async () => expect((await engine.workload(job.id)).state).toBe('running'), limits);
    const left = await engine.snapshots();
    const others = left.filter(({ id }) => id !== first?.id && id !== byHand.id);
    expect(left.length - others.length).toBe(2);
    expect(others.length).toBeLessThanOrEqual(3);
    expect(others.every((snapshot) => snapshot.atInterval)).toBe(true);
    await engine.json('keep', '--no', first?.id ?? '');
    await job.expectCounting();
    await engine.json('end', job.id);
    await expectTidy(engine);
  });

  it('go on with the next engine, wait while it is suspended, and stop when it ends', async () => {
    await using job = await Counter.start(engine, '--name', 'counter');
    await engine.json('snapshots', '--every', '2s', '--keep-last', '1', job.id);
    await engine.kill();
    const found = await engine.workload(job.id);
    expect(found.interval).toMatchObject({ everySeconds: 2, keepLast: 1 });
    await turns(1);
    await vi.waitFor(() => engine.json('suspend', job.id), limits);
    const suspended = await engine.workload(job.id);
    expect(suspended.interval).toMatchObject({ everySeconds: 2 });
    expect(suspended.interval?.nextAt).toBeUndefined();
    const text = (await engine.run(['ps'])).stdout;
    expect(text).toContain('counter: a snapshot every 2 s, when it runs again; the last 1 are there.');
    await engine.json('resume', job.id);
    await turns(1);
    await job.expectCounting();
    await vi.waitFor(() => engine.json('end', job.id), limits);
    const ended = await engine.workload(job.id);
    expect(ended.interval?.nextAt).toBeUndefined();
    // What is too many goes once the turn is over.
    await vi.waitFor(async () => expect(await atInterval()).toHaveLength(1), limits);
    for (const { id } of await engine.snapshots()) await engine.json('rm', id, '--force');
    await engine.json('forget', job.id);
    expect(await readdir(join(engine.paths.stateDir, 'intervals'))).toEqual([]);
    await expectTidy(engine);
  });

  it('give way to what is asked of it meanwhile', async () => {
    await using job = await Counter.start(engine, '--name', 'counter');
    await using client = await clientOf(engine);
    let phases = 0;
    client.on('progress', () => phases++);
    await engine.json('snapshots', '--every', '1s', job.id);
    for (const command of ['suspend', 'end']) {
      const before = phases;
      while (phases === before) await sleep(1);
      const { workload = '' } = await engine.json<{ workload?: string }>(command, job.id);
      if (command === 'suspend') await engine.json('resume', workload);
    }
    expect((await engine.workload(job.id)).state).toBe('ended');
  });

  it('that cannot be taken are told of, to subscribers too, and are tried again in their turn', async () => {
    await using job = await Counter.start(engine, '--name', 'counter');
    await using client = await clientOf(engine);
    const told: Workload[] = [];
    client.on('workloadChanged', (workload) => told.push(workload));
    await engine.json('snapshots', '--every', '1s', job.id);
    const staging = join(engine.paths.stateDir, 'staging');
    const isIdle = async () => expect(await readdir(staging)).toEqual([]);
    await vi.waitFor(async () => {
      await isIdle();
      await rm(staging, { recursive: true });
      await writeFile(staging, 'no folder');
    }, limits);
    await vi.waitFor(
      () => expect(told.some(({ interval }) => (interval?.failures ?? 0) >= 3)).toBe(true),
      limits,
    );
    const { interval } = await engine.workload(job.id);
    expect(interval?.problem?.what).toContain(staging);
    expect((await engine.run(['snapshots', job.id])).stdout).toMatch(/The last \d+ turns failed\./);
    await job.expectCounting();
    await rm(staging);
    await mkdir(staging, { mode: 0o700 });
    await turns(1);
    expect((await engine.workload(job.id)).interval).toMatchObject({ failures: 0 });
    await engine.json('snapshots', '--every', 'off', job.id);
  });

  it('are not set where the first one fails, or for what is no interval', async () => {
    await using job = await Counter.start(engine, '--name', 'counter');
    for (const words of [['0s'], ['5'], ['8d'], ['10m', '--keep-last', '0'], ['10m', '--keep-last', 'all']])
      expect((await engine.failure(2, 'snapshots', job.id, '--every', ...words)).hint).toMatch(/^Give --/);
    expect((await engine.failure(2, 'snapshots', '--keep-last', '2', job.id)).message).toContain(
      '--keep-last',
    );
    expect((await engine.failure(2, 'snapshots', '--every', '10m')).message).toContain('Of which workload');
    await engine.failure(1, 'snapshots', '--every', 'off', job.id);
    await engine.failure(4, 'snapshots', '--every', '10m', 'nobody');
    const staging = join(engine.paths.stateDir, 'staging');
    await rm(staging, { recursive: true });
    await writeFile(staging, 'no folder');
    await engine.failure(1, 'snapshots', '--every', '10m', job.id);
    await rm(staging);
    await mkdir(staging, { mode: 0o700 });
    expect((await engine.workload(job.id)).interval).toBeUndefined();
    await job.expectCounting();
  });
});
