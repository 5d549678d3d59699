/** A quota on the disk of all snapshots: room is made by removing the right ones, or the suspend is refused. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { EngineSettings } from '../../engine/settings.ts';
import { Quota } from '../../engine/store/quota.ts';
import type { SnapshotStore } from '../../engine/store/snapshot-store.ts';
import { Upkeep } from '../../engine/store/upkeep.ts';
import { bytesBelow } from '../../engine/store/usage.ts';
import {
  type Memory,
  openPages,
  openStore,
  page,
  pageBytes,
  readMemory,
  silent,
  takeSnapshot,
} from '../support/store.ts';

const never = new AbortController().signal;
const pageCount = 64;

let state: string;
let store: SnapshotStore;
let upkeep: Upkeep;
let settings: EngineSettings;
let quota: Quota;
let needed: Set<string>;
let day = 1;
beforeEach(async () => {
  state = await mkdtemp('/var/tmp/torpor-test-');
  store = await openStore(state);
  upkeep = new Upkeep(store, openPages(state), silent);
  settings = await EngineSettings.open(state, silent);
  needed = new Set();
  quota = new Quota({
    ...{ store, upkeep, settings, log: silent },
    isNeeded: (id) => needed.has(id),
    remove: (id) => store.remove(id),
  });
});
afterEach(async () => {
  await upkeep.stop();
  await rm(state, { recursive: true, force: true });
});

const memoryOf = (first: number): Memory =>
  new Map([
    [
      100,
      [{ vaddr: 0x400000n, pages: Array.from({ length: pageCount }, (_, index) => page(first + index)) }],
    ],
  ]);

/** One that shares nothing with the others, a day later than the one before. */
async function take(workload: string): Promise<string> {
  const takenAt = new Date(Date.UTC(2026, 10, ++day)).toISOString();
  return (await takeSnapshot(store, memoryOf(day * 1000), { workload, takenAt }, ['--codec', 'raw'])).id;
}

const taken = async () =>
  (await bytesBelow(join(state, 'packs'))) + (await bytesBelow(join(state, 'snapshots')));
const one = pageCount * pageBytes;

it('does nothing where there is none, or room enough', async () => {
  const ids = [await take('a'), await take('a')];
  await quota.makeRoom(1e12, never);
  await settings.replace({ quotaBytes: (await taken()) + 2 * one });
  await quota.makeRoom(one, never);
  expect((await store.ids()).sort()).toEqual(ids.sort());
});

it('removes as few as possible, of those that were not used for the longest time', async () => {
  const [first, second, third] = [await take('a'), await take('a'), await take('a')];
  await store.markUsed(first);
  await settings.replace({ quotaBytes: (await taken()) + one / 2 });
  await quota.makeRoom(one, never);
  expect((await store.ids()).sort()).toEqual([first, third].sort());
  expect(await store.has(second)).toBe(false);
  const { freedBytes } = await upkeep.collect();
  expect(freedBytes / one).toBeCloseTo(1, 1);
});

it('spares those that are kept or needed, and the newest of each workload', async () => {
  const [kept, used, , newest] = [await take('a'), await take('a'), await take('a'), await take('a')];
  const alone = await take('b');
  await store.keep(kept, true);
  needed.add(used);
  await settings.replace({ quotaBytes: await taken() });
  await quota.makeRoom(one / 2, never);
  const left = [kept, used, newest, alone].sort();
  expect((await store.ids()).sort()).toEqual(left);
  const refused = quota.makeRoom(3 * one, never);
  await expect(refused).rejects.toMatchObject({
    code: 'failed',
    message: expect.stringMatching(
      /may take \d+ MiB of disk and take \d+ MiB; this one needs about \d+ MiB more/,
    ),
    hint: expect.stringContaining('torpor settings quotaBytes'),
  });
  expect((await store.ids()).sort()).toEqual(left);
});

it('knows that what others need too does not come free', async () => {
  const memory = memoryOf(500_000);
  const dates = ['2026-01-01', '2026-01-02', '2026-01-03'].map((date) => `${date}T00:00:00.000Z`);
  const ids: string[] = [];
  for (const takenAt of dates)
    ids.push((await takeSnapshot(store, memory, { workload: 'same', takenAt }, ['--codec', 'raw'])).id);
  await settings.replace({ quotaBytes: await taken() });
  await expect(quota.makeRoom(one, never)).rejects.toThrow('may be removed for it');
  const [newest] = await store.ids();
  expect(newest).toBe(ids[2]);
  expect((await readMemory(state, newest ?? '', 1)).length).toBe(one);
});

it('makes room while the suspend that needs it holds the packs', async () => {
  const first = await take('a');
  await take('a');
  const stage = await store.stage();
  await settings.replace({ quotaBytes: await taken() });
  await quota.makeRoom(one / 2, never);
  expect(await store.has(first)).toBe(false);
  await store.discard(stage);
  expect((await upkeep.collect()).storedBytes).toBeLessThan(1.5 * one);
});

it('promises the same room to one suspend only', async () => {
  await take('a');
  const [first, second] = [await store.stage(), await store.stage()];
  await settings.replace({ quotaBytes: (await taken()) + 1.5 * one });
  const room = (stage: { id: string }) => ({ workload: 'a', stage: stage.id });
  await quota.makeRoom(one, never, room(first));
  await expect(quota.makeRoom(one, never, room(second))).rejects.toThrow('may be removed for it');
  await store.discard(first);
  await quota.makeRoom(one, never, room(second));
  await store.discard(second);
});
