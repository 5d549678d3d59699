/** What a user does to the store: freeing disk, checking a part of it, limiting it; and snapshots of version 1. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CollectResult, Settings, Snapshot, VerifyResult } from '../../api/types.ts';
import { Counter } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { makeVersion1 } from '../support/store.ts';

/** games, which every Debian has. */
const other = 5;

let engine: TestEngine;
beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());

describe('settings', () => {
  const none = { quotaBytes: null, leaveOutFreed: null, trimHeaps: null };

  it('are shown and changed', async () => {
    expect(await engine.json<Settings>('settings')).toEqual(none);
    expect(await engine.json('settings', 'quotaBytes', '1.5G')).toEqual({ quotaBytes: 1.5 * 1024 ** 3 });
    expect((await engine.run(['settings', 'quotaBytes'])).stdout).toBe('quotaBytes: 1.5 GiB\n');
    await engine.kill();
    expect(await engine.json('settings')).toEqual({ ...none, quotaBytes: 1.5 * 1024 ** 3 });
    expect((await engine.run(['settings', 'quotaBytes', 'none'])).stdout).toBe('quotaBytes: none\n');
    expect((await engine.run(['settings', 'leaveOutFreed', 'yes'])).stdout).toBe('leaveOutFreed: yes\n');
    expect(await engine.json('settings', 'leaveOutFreed', 'none')).toEqual({ leaveOutFreed: null });
  });

  it.each([
    [['quota'], /There is no setting "quota".*quotaBytes/s],
    [['quotaBytes', 'much'], /"much" is not an amount of disk.*20G/s],
    [['quotaBytes', '0'], /"0" is not an amount of disk/],
    [['leaveOutFreed', 'perhaps'], /"perhaps" is not yes or no.*yes, no/s],
    [['trimHeaps', '1'], /"1" is not yes or no.*yes, no/s],
  ])('%j is refused', async (words, sentence) => {
    const outcome = await engine.run(['settings', ...words]);
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toMatch(sentence);
    expect(await engine.json('settings')).toEqual(none);
  });

  it("are root's alone", async () => {
    for (const words of [[], ['quotaBytes', '1G']]) {
      const outcome = await engine.run(['settings', ...words], { uid: other });
      expect(outcome.code, outcome.stdout).toBe(5);
      expect(outcome.stderr).toContain('root alone');
    }
  });
});

describe('gc', () => {
  it('has nothing to do in an empty store', async () => {
    expect(await engine.json<CollectResult>('gc')).toEqual({ freedBytes: 0, storedBytes: 0, skipped: [] });
    expect((await engine.run(['gc'])).stdout).toBe('0 B freed; the memory of all snapshots takes 0 B.\n');
  });
});

describe('verify', () => {
  it.each(['11/10', '0/3', '0%', '101%', 'half'])('refuses %s as a part', async (part) => {
    const outcome = await engine.run(['verify', '--read-data-subset', part]);
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain(`"${part}" names no part of the data`);
  });
});

describe('snapshots', () => {
  let counter: Counter;
  beforeAll(async () => {
    counter = await Counter.start(engine, '--name', 'counter');
  });
  afterAll(() => counter[Symbol.asyncDispose]());

  it('are verified in parts, and their disk is free once they are removed', async () => {
    const first = await engine.json<Snapshot>('suspend', '--leave-running', 'counter');
    const second = await engine.json<Snapshot>('suspend', '--leave-running', 'counter');
    expect(second.bytesOnDisk).toBeLessThan(first.bytesOnDisk / 2);
    const read = async (...options: string[]) => {
      const results = await engine.json<VerifyResult[]>('verify', ...options);
      for (const result of results) expect(result).toMatchObject({ ok: true });
      return results.reduce((sum, { bytesRead }) => sum + bytesRead, 0);
    };
    const all = await read('--read-data');
    const parts = [await read('--read-data-subset', '1/2'), await read('--read-data-subset', '2/2')];
    for (const part of parts) expect(part).toBeLessThan(all);
    expect(await read('--read-data-subset', '100%')).toBe(all);
    await engine.run(['rm', first.id]);
    await engine.run(['rm', second.id]);
    expect(await engine.json<CollectResult>('gc')).toMatchObject({ storedBytes: 0 });
    expect(await readdir(join(engine.paths.stateDir, 'packs'))).toEqual([]);
    await counter.expectUsable();
  });

  it('of version 1 resume', async () => {
    const { id } = await engine.json<Snapshot>('suspend', 'counter');
    await engine.kill('SIGTERM');
    await makeVersion1(engine.paths.stateDir, id);
    expect(await engine.json<VerifyResult[]>('verify', '--read-data')).toMatchObject([
      { snapshot: id, ok: true },
    ]);
    await engine.json('gc');
    expect(await readdir(join(engine.paths.stateDir, 'packs'))).toEqual([]);
    expect(await counter.expectUsable()).toBe('suspended');
  });
});
