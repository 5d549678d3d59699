/**
 * What a store must do, whatever it is made of: every page comes back as it was, through suspends one after the other,
 * removals and sweeps, and whatever is damaged on the disk is found, named, and nobody else's trouble.
 */
import { randomInt } from 'node:crypto';
import {
  cp,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StoreKey } from '../../engine/store/key.ts';
import { PagesError } from '../../engine/store/pages-program.ts';
import type { SnapshotStore } from '../../engine/store/snapshot-store.ts';
import { Upkeep } from '../../engine/store/upkeep.ts';
import { bytesBelow } from '../../engine/store/usage.ts';
import {
  type Area,
  imageOf,
  type Memory,
  openPages,
  openStore,
  page,
  pageBytes,
  readMemory,
  silent,
  takeSnapshot,
  takeVersion1,
  zeroPage,
} from '../support/store.ts';

let state: string;
let store: SnapshotStore;
beforeEach(async () => {
  state = await mkdtemp('/var/tmp/torpor-test-');
  store = await openStore(state);
});
afterEach(() => rm(state, { recursive: true, force: true }));

const upkeepOf = (of: SnapshotStore) => new Upkeep(of, openPages(of.stateDir), silent);
const packs = () => readdir(join(state, 'packs'));
const packFiles = async () => (await packs()).filter((name) => name.endsWith('.pack'));

/** So many pages of their own from a number on, one after the other. */
const pagesFrom = (first: number, count: number) =>
  Array.from({ length: count }, (_, index) => page(first + index));

/** Of two processes: aligned and not, with empty pages in between, and some that both have. */
function memoryFrom(first: number): Map<number, Area[]> {
  const shared = pagesFrom(first + 500, 16);
  return new Map([
    [
      100,
      [
        {
          vaddr: 0x400000n,
          pages: [...pagesFrom(first, 40), zeroPage, zeroPage, ...pagesFrom(first + 40, 3)],
        },
        { vaddr: 0x7f0000003000n, pages: pagesFrom(first + 60, 5) },
        { vaddr: 0x7f0000100000n, pages: shared },
      ],
    ],
    [
      101,
      [
        { vaddr: 0x500000n, pages: [...shared, ...pagesFrom(first + 80, 7)] },
        { vaddr: 0x7ffc00001000n, pages: [zeroPage, page(first + 90)] },
      ],
    ],
  ]);
}

/** The same with one page changed. */
function changedAt(
  memory: Memory,
  pid: number,
  area: number,
  index: number,
  to: Buffer,
): Map<number, Area[]> {
  return new Map(
    Array.from(memory, ([each, areas]) => [
      each,
      areas.map((old, number) =>
        each === pid && number === area ? { ...old, pages: old.pages.with(index, to) } : old,
      ),
    ]),
  );
}

async function expectMemory(id: string, memory: Memory): Promise<void> {
  let image = 0;
  for (const areas of memory.values())
    expect((await readMemory(state, id, ++image)).equals(imageOf(areas)), `image ${image} of ${id}`).toBe(
      true,
    );
}

/** Bytes of all pages that are not empty. */
const bytesOf = (memory: Memory) =>
  [...memory.values()].flat().flatMap(({ pages }) => pages.filter((each) => !each.equals(zeroPage))).length *
  pageBytes;

describe('suspends', () => {
  it('gives every page back', async () => {
    const memory = memoryFrom(1000);
    const { id, pages } = await takeSnapshot(store, memory);
    expect(pages).toMatchObject({ images: 2, pages: 91, zeroPages: 3 });
    await expectMemory(id, memory);
    expect(await store.verify(id, 'nothing')).toBeGreaterThan(0);
    expect(await store.verify(id, 'all')).toBeGreaterThan(bytesOf(memory) / 4);
    const [listed] = await store.list();
    expect(listed).toMatchObject({ kind: 'complete', id, manifest: { version: 2 } });
  });

  it('stores what is the same once', async () => {
    const memory = memoryFrom(1000);
    const first = await takeSnapshot(store, memory);
    const changed = changedAt(memory, 100, 0, 5, page(9999));
    const second = await takeSnapshot(store, changed);
    expect(second.parent).toBe(first.id);
    expect(second.received).toMatchObject({ newChunks: 1, parentPages: 87 });
    expect(second.pages?.storedBytes).toBeLessThan(2 * pageBytes);
    await expectMemory(first.id, memory);
    await expectMemory(second.id, changed);
    const other = await takeSnapshot(store, memory, { workload: 'other' });
    expect(other.parent).toBeUndefined();
    expect(other.received.newChunks).toBe(0);
    await expectMemory(other.id, memory);
  });

  it('goes through many, each as it was', async () => {
    const all: [string, Memory][] = [];
    let memory = memoryFrom(1000);
    for (let round = 0; round < 8; round++) {
      memory = changedAt(memory, 101, 0, round, round % 3 === 0 ? zeroPage : page(20_000 + round));
      memory = changedAt(memory, 100, 0, round * 4, page(30_000 + round));
      all.push([(await takeSnapshot(store, memory)).id, memory]);
    }
    for (const [id, then] of all) await expectMemory(id, then);
  });

  it('leaves nothing behind where it is given up', async () => {
    const memory = memoryFrom(1000);
    const stage = await store.stage();
    await store.discard(stage);
    const broken = { job: { cwd: '(unreachable)' } } as never;
    await expect(takeSnapshot(store, memory, broken)).rejects.toThrow('not as expected at job');
    expect(await readdir(join(state, 'staging'))).toEqual([]);
    expect(await store.ids()).toEqual([]);
    await upkeepOf(store).collect();
    expect(await packs()).toEqual([]);
  });

  it('does not compare with a snapshot whose lists are damaged', async () => {
    const memory = memoryFrom(1000);
    const first = await takeSnapshot(store, memory);
    const second = await takeSnapshot(store, memory, { takenAt: '2026-11-22T12:00:00.000Z' });
    await flip(join(store.folderOf(second.id), 'pages', 'hashes'), 100);
    expect(await store.parentOf('w')).toBe(first.id);
  });
});

describe('removal', () => {
  it('frees what no other snapshot needs', async () => {
    const memory = memoryFrom(1000);
    const first = await takeSnapshot(store, memory);
    const changed = changedAt(memory, 100, 0, 5, page(9999));
    const second = await takeSnapshot(store, changed);
    const alone = await takeSnapshot(store, memoryFrom(3000), { workload: 'alone' });
    const before = await bytesBelow(join(state, 'packs'));
    await store.remove(alone.id);
    const collected = await upkeepOf(store).collect();
    const after = await bytesBelow(join(state, 'packs'));
    expect(collected).toEqual({ freedBytes: before - after, storedBytes: after, skipped: [] });
    expect(collected.freedBytes).toBeGreaterThan((before - after) * 0.9);
    await store.remove(first.id);
    await upkeepOf(store).collect();
    await expectMemory(second.id, changed);
    await store.verify(second.id, 'all');
    await store.remove(second.id);
    await upkeepOf(store).collect();
    expect(await packs()).toEqual([]);
  });

  it('rewrites a pack of which most is garbage', async () => {
    const memory = memoryFrom(1000);
    const first = await takeSnapshot(store, memory);
    const little: Memory = new Map([[100, [{ vaddr: 0x400000n, pages: pagesFrom(1000, 16) }]]]);
    const second = await takeSnapshot(store, little, { workload: 'other' });
    await store.remove(first.id);
    expect((await upkeepOf(store).collect()).freedBytes).toBeGreaterThan(0);
    expect(await bytesBelow(join(state, 'packs'))).toBeLessThan(18 * pageBytes);
    await expectMemory(second.id, little);
  });

  it('removes what a suspend that did not come to its end has published', async () => {
    const { id } = await takeSnapshot(store, memoryFrom(1000));
    await rename(store.folderOf(id), join(state, 'staging', id));
    await store.removeUnfinished();
    await upkeepOf(store).collect();
    expect(await packs()).toEqual([]);
  });

  it('removes nothing where it is not known what is needed', async () => {
    const memory = memoryFrom(1000);
    const first = await takeSnapshot(store, memory);
    const second = await takeSnapshot(store, memoryFrom(3000), { workload: 'other' });
    await flip(join(store.folderOf(first.id), 'pages', 'chunks'), 40);
    await store.remove(second.id);
    const before = await bytesBelow(join(state, 'packs'));
    const upkeep = upkeepOf(store);
    expect(await upkeep.collect()).toEqual({
      freedBytes: 0,
      storedBytes: before,
      skipped: [expect.stringContaining(`what snapshot ${first.id} needs`)],
    });
    await flip(join(store.folderOf(first.id), 'pages', 'chunks'), 40);
    expect((await upkeep.collect()).freedBytes).toBeGreaterThan(0);
    await expectMemory(first.id, memory);
  });

  it('lets a suspend go first', async () => {
    const memory = memoryFrom(1000);
    const first = await takeSnapshot(store, memory);
    const stage = await store.stage();
    await store.remove(first.id);
    const collected = upkeepOf(store).collect();
    // The chunks of the removed one are still there for it.
    const second = await takeSnapshot(store, memory, { workload: 'other' });
    expect(second.received.newChunks).toBe(0);
    await store.discard(stage);
    await collected;
    await expectMemory(second.id, memory);
  });
});

describe('compression', () => {
  it('makes packs smaller, and what they hold stays as it was', async () => {
    const memory = memoryFrom(1000);
    const { id } = await takeSnapshot(store, memory, {}, ['--codec', 'raw']);
    const before = await bytesBelow(join(state, 'packs'));
    await openPages(state).recompress({});
    expect(await bytesBelow(join(state, 'packs'))).toBeLessThan(before * 0.8);
    await store.verify(id, 'all');
    await expectMemory(id, memory);
  });
});

describe('version 1', () => {
  it('is listed, verified and removed beside the others', async () => {
    const memory = memoryFrom(1000);
    const old = await takeVersion1(store, memory);
    const second = await takeSnapshot(store, memory, { takenAt: '2026-11-22T12:00:00.000Z' });
    expect(second.parent).toBeUndefined();
    expect(await store.list()).toMatchObject([
      { kind: 'complete', manifest: { version: 2 } },
      { kind: 'complete', manifest: { version: 1 } },
    ]);
    expect(await store.verify(old.id, 'nothing')).toBe(0);
    const all = old.files.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(await store.verify(old.id, 'all')).toBe(all);
    const parts = [await store.verify(old.id, '1/2'), await store.verify(old.id, '2/2')];
    for (const part of parts) expect(part).toBeLessThan(all);
    await upkeepOf(store).collect();
    await store.remove(old.id);
    await expectMemory(second.id, memory);
  });

  it('is found to be damaged where its memory is', async () => {
    const { id } = await takeVersion1(store, memoryFrom(1000));
    await flip(join(store.folderOf(id), 'images', 'pages-2.img'), 5000);
    await store.verify(id, 'nothing');
    await expect(store.verify(id, 'all')).rejects.toThrow(/pages-2\.img are not what was written/);
  });

  it('of a newer Torpor is refused', async () => {
    const { id } = await takeSnapshot(store, memoryFrom(1000));
    const path = join(store.folderOf(id), 'manifest.json');
    const newer = Buffer.from((await readFile(path, 'utf8')).replace('"version": 2', '"version": 3'));
    const key = await StoreKey.open(join(state, 'key'), true);
    await writeFile(path, newer);
    await writeFile(join(store.folderOf(id), 'manifest.mac'), key.mac(newer));
    await expect(store.read(id)).rejects.toThrow(`Snapshot ${id} was written by a newer Torpor (format 3`);
  });
});

async function flip(path: string, at: number, bit = 0): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
    buffer[0] = (buffer[0] ?? 0) ^ (1 << bit);
    await file.write(buffer, 0, 1, at);
  } finally {
    await file.close();
  }
}

describe('damage', () => {
  let damagedId: string;
  let other: string;
  let memory: Memory;
  beforeEach(async () => {
    memory = new Map([[100, [{ vaddr: 0x400000n, pages: pagesFrom(1000, 24) }]]]);
    damagedId = (await takeSnapshot(store, memory)).id;
    other = (await takeSnapshot(store, memoryFrom(3000), { workload: 'other' })).id;
  });

  /** The pack that has the chunks of the first snapshot. */
  async function ownPack(): Promise<string> {
    const sized = await Promise.all(
      (await packFiles()).map(async (name) => ({ name, ...(await stat(join(state, 'packs', name))) })),
    );
    const [smallest] = sized.sort((a, b) => a.size - b.size);
    return smallest?.name ?? '';
  }

  const somewhere = (length: number, count: number) =>
    Array.from({ length: Math.min(length, count) }, (_, index) => {
      const step = length / Math.min(length, count);
      return Math.min(length - 1, Math.floor(index * step) + randomInt(Math.max(1, Math.floor(step))));
    });

  it.each([
    ['manifest.json', /its manifest was changed/, 60],
    ['manifest.mac', /its manifest was changed/, 64],
    ['images/core-100.img', /images\/core-100\.img are not what was written/, 40],
    ['images/pstree.img', /images\/pstree\.img are not what was written/, 50],
    ['images/pagemap-100.img', /images\/pagemap-100\.img are not what was written/, 20],
    ['screen.png', /screen\.png are not what was written/, 20],
    ['pages/entries', /pages\/entries are not what was written/, 60],
    ['pages/places', /pages\/places are not what was written/, 60],
    ['pages/hashes', /pages\/hashes are not what was written/, 60],
    ['pages/chunks', /pages\/chunks are not what was written/, 60],
  ])('of one byte of %s is found and named', async (name, named, places) => {
    const path = join(store.folderOf(damagedId), name);
    const { size } = await stat(path);
    for (const at of somewhere(size, places)) {
      await flip(path, at, at % 8);
      await expect(store.verify(damagedId, 'all'), `byte ${at}`).rejects.toThrow(named);
      await flip(path, at, at % 8);
    }
    await flip(path, Math.floor(size / 2));
    await store.verify(other, 'all');
    await flip(path, Math.floor(size / 2));
    await store.verify(damagedId, 'all');
  });

  it.each([
    ['a file that is cut off', (path: string) => truncate(path, 10)],
    ['a file that is gone', (path: string) => rm(path)],
  ])('by %s is found and named without reading', async (_what, harm) => {
    for (const name of ['images/pstree.img', 'pages/entries', 'pages/chunks']) {
      const path = join(store.folderOf(damagedId), name);
      await cp(path, join(state, 'aside'));
      await harm(path);
      await expect(store.verify(damagedId, 'nothing')).rejects.toThrow(name);
      await rename(join(state, 'aside'), path);
    }
    const pack = await ownPack();
    await harm(join(state, 'packs', pack));
    await expect(store.verify(damagedId, 'nothing')).rejects.toThrow(`Snapshot ${damagedId} is damaged`);
    await store.verify(other, 'all');
  });

  it('of any byte of a pack is found and named', { timeout: 300_000 }, async () => {
    const program = openPages(state);
    const name = await ownPack();
    const path = join(state, 'packs', name);
    const { size } = await stat(path);
    const header = Array.from({ length: 64 }, (_, at) => at);
    const firstRecord = Array.from({ length: 64 }, (_, at) => 64 + at);
    const index = await readFile(path.replace(/pack$/, 'idx'));
    for (const at of [...header, ...firstRecord, ...somewhere(size, 900)]) {
      await flip(path, at, at % 8);
      const failure = await program.verify(store.folderOf(damagedId), 'all').then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(failure, `byte ${at} of ${size}`).toBeInstanceOf(PagesError);
      expect((failure as PagesError).message, `byte ${at}`).toContain(name);
      if (at % 100 === 0) await store.verify(other, 'all');
      await flip(path, at, at % 8);
      // What it made of the damage must not outlive it.
      await writeFile(path.replace(/pack$/, 'idx'), index);
    }
    await store.verify(damagedId, 'all');
  });

  it('of an index is healed', async () => {
    const path = join(state, 'packs', (await ownPack()).replace(/pack$/, 'idx'));
    const { size } = await stat(path);
    const whole = await readFile(path);
    for (const at of somewhere(size, 200)) {
      await flip(path, at, at % 8);
      await store.verify(damagedId, 'all');
      expect((await readFile(path)).equals(whole), `byte ${at}`).toBe(true);
    }
    await rm(path);
    await expectMemory(damagedId, memory);
    await store.verify(damagedId, 'all');
    expect((await readFile(path)).equals(whole)).toBe(true);
  });

  it('is not spread by upkeep', async () => {
    const name = await ownPack();
    await flip(join(state, 'packs', name), 300);
    await openPages(state).recompress({});
    await upkeepOf(store).collect();
    await expect(store.verify(damagedId, 'all')).rejects.toThrow(`Snapshot ${damagedId} is damaged`);
    await store.verify(other, 'all');
  });
});
