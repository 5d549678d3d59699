/** Upkeep by itself: what is garbage goes, what was written in a hurry becomes smaller, and no suspend waits for it. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { SnapshotStore } from '../../engine/store/snapshot-store.ts';
import { Upkeep } from '../../engine/store/upkeep.ts';
import { bytesBelow } from '../../engine/store/usage.ts';
import { type Memory, openPages, openStore, page, silent, takeSnapshot } from '../support/store.ts';

let state: string;
let store: SnapshotStore;
let upkeep: Upkeep;
beforeEach(async () => {
  state = await mkdtemp('/var/tmp/torpor-test-');
  store = await openStore(state);
  upkeep = new Upkeep(store, openPages(state), silent, { sweepMs: 1, compressMs: 1 });
});
afterEach(async () => {
  await upkeep.stop();
  await rm(state, { recursive: true, force: true });
});

const memoryOf = (first: number, count: number): Memory =>
  new Map([
    [100, [{ vaddr: 0x400000n, pages: Array.from({ length: count }, (_, index) => page(first + index)) }]],
  ]);
const packs = () => readdir(join(state, 'packs'));
const packBytes = () => bytesBelow(join(state, 'packs'));

async function comesTrue(condition: () => Promise<boolean>): Promise<boolean> {
  for (const limit = Date.now() + 15_000; Date.now() < limit; await sleep(10))
    if (await condition()) return true;
  return false;
}

it('sweeps after a removal', async () => {
  const { id } = await takeSnapshot(store, memoryOf(0, 40));
  await store.remove(id);
  expect(await comesTrue(async () => (await packs()).length === 0)).toBe(true);
});

it('sweeps when an engine begins', async () => {
  const { id } = await takeSnapshot(store, memoryOf(0, 40));
  await upkeep.stop();
  await store.remove(id);
  const next = new Upkeep(await openStore(state), openPages(state), silent, { sweepMs: 1 });
  next.start();
  try {
    expect(await comesTrue(async () => (await packs()).length === 0)).toBe(true);
  } finally {
    await next.stop();
  }
});

it('compresses after a suspend', async () => {
  const { id, pages } = await takeSnapshot(store, memoryOf(0, 400), {}, ['--codec', 'raw']);
  const written = pages?.storedBytes ?? 0;
  expect(await comesTrue(async () => (await packBytes()) < written * 0.8)).toBe(true);
  expect(await comesTrue(async () => (await packs()).length === 2)).toBe(true);
  await store.verify(id, 'all');
});

it('knows what each snapshot takes then, also in the next engine', async () => {
  await upkeep.stop();
  const first = await takeSnapshot(store, memoryOf(0, 400), {}, ['--codec', 'raw']);
  const takenAt = '2026-11-22T12:00:00.000Z';
  const second = await takeSnapshot(store, memoryOf(208, 400), { takenAt }, ['--codec', 'raw']);
  const now = new Upkeep(store, openPages(state), silent, { compressMs: 1 });
  now.start();
  const listed = async (of: SnapshotStore) => {
    const items = (await of.list()).flatMap((item) => (item.kind === 'complete' ? item : []));
    return new Map(
      items.map(({ id, manifest, bytesOnDisk }) => [
        id,
        bytesOnDisk - manifest.files.reduce((sum, { bytes }) => sum + bytes, 0),
      ]),
    );
  };
  const sum = (shares: Map<string, number>) => [...shares.values()].reduce((all, each) => all + each, 0);
  const before = sum(await listed(store));
  try {
    expect(await comesTrue(async () => sum(await listed(store)) < before * 0.8)).toBe(true);
  } finally {
    await now.stop();
  }
  const shares = await listed(store);
  // Header and digest of the packs and their indexes are nobody's.
  expect(sum(shares)).toBeLessThanOrEqual(await packBytes());
  expect(sum(shares)).toBeGreaterThan((await packBytes()) - 2 * 250);
  expect(shares.get(first.id)).toBeGreaterThan((shares.get(second.id) ?? 0) * 1.8);
  expect(await listed(await openStore(state))).toEqual(shares);
});

it('is given up for each of many suspends, and nothing is lost by that', async () => {
  const all: string[] = [];
  for (let round = 0; round < 6; round++) {
    const workload = `w${round}`;
    const memory = memoryOf(round * 1000, 600);
    all.push((await takeSnapshot(store, memory, { workload }, ['--codec', 'raw'])).id);
    if (round % 2 === 1) await store.remove(all.shift() ?? '');
    await sleep(round * 7);
  }
  for (const id of all) await store.verify(id, 'all');
});
