/** Encrypted chunks: given back to who has the key, to nobody else, and never when they are not what they were. */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { PagesProgram } from '../../engine/store/pages-program.ts';
import type { SnapshotStore } from '../../engine/store/snapshot-store.ts';
import {
  imageOf,
  type Memory,
  openEncryptedStore,
  page,
  pageBytes,
  readMemory,
  takeSnapshot,
  zeroPage,
} from '../support/store.ts';

const passphrase = 'three words more';

let state: string;
let store: SnapshotStore;
let pages: PagesProgram;
beforeEach(async () => {
  state = await mkdtemp('/var/tmp/torpor-test-');
  ({ store, pages } = await openEncryptedStore(state));
});
afterEach(() => rm(state, { recursive: true, force: true }));

const memoryOf = (first: number, count: number): Memory => {
  const some = Array.from({ length: count }, (_, index) => page(first + index));
  return new Map([[100, [{ vaddr: 0x400000n, pages: [...some, zeroPage, ...some.slice(0, 3)] }]]]);
};
const packs = async () => (await readdir(join(state, 'packs'))).filter((name) => name.endsWith('.pack'));
const imageIn = (memory: Memory) => imageOf(memory.get(100) ?? []);
const memoryIn = (id: string) => readMemory(state, id, 1, store.encryption.forPrograms());
const idle = new AbortController().signal;

/** Whether a page's first hash or contents are to be seen in the packs and lists of a snapshot. */
async function isSeen(id: string, bytes: Buffer): Promise<boolean> {
  const files = [
    ...(await packs()).map((name) => join(state, 'packs', name)),
    ...['hashes', 'chunks'].map((name) => join(state, 'snapshots', id, 'pages', name)),
  ];
  const contents = await Promise.all(files.map((file) => readFile(file)));
  return contents.some((each) => each.includes(bytes));
}

it.each(['raw', 'lz4', 'zstd'])(
  'gives back what was written by %s, and shares what is the same',
  async (codec) => {
    await store.encryption.turnOn(passphrase, undefined, new Set());
    const memory = memoryOf(0, 100);
    const first = await takeSnapshot(store, memory, {}, ['--codec', codec]);
    expect((await memoryIn(first.id)).equals(imageIn(memory))).toBe(true);
    const changed = memoryOf(0, 101);
    const second = await takeSnapshot(store, changed, {}, ['--codec', codec]);
    expect(second.received.parentPages).toBeGreaterThan(99);
    expect(second.received.newChunks).toBe(1);
    expect((await memoryIn(second.id)).equals(imageIn(changed))).toBe(true);
    const hash = createHash('sha256').update(page(7)).digest().subarray(0, 16);
    expect(await isSeen(first.id, page(7).subarray(0, 64))).toBe(false);
    expect(await isSeen(first.id, hash)).toBe(false);
    await store.verify(second.id, 'all');

    // What was written in a hurry becomes smaller, and what no snapshot needs goes, also without the key.
    await pages.recompress({ signal: idle });
    expect((await memoryIn(second.id)).equals(imageIn(changed))).toBe(true);
    const locked = await openEncryptedStore(state);
    await expect(locked.store.verify(second.id, 'all')).rejects.toThrow('is locked');
    await locked.store.verify(second.id, 'nothing');
    await locked.store.remove(first.id);
    await locked.pages.sweep(false, { signal: idle });
    await locked.pages.recompress({ signal: idle });
    expect((await memoryIn(second.id)).equals(imageIn(changed))).toBe(true);
    await expect(readMemory(state, second.id, 1)).rejects.toThrow('encrypted by a key that is not there');
    await locked.store.remove(second.id);
    await locked.pages.sweep(false, { signal: idle });
    expect(await packs()).toEqual([]);
  },
);

it('encrypts what is there, and goes on giving all of it back when it is off', async () => {
  const memory = memoryOf(0, 200);
  const plain = await takeSnapshot(store, memory, {}, ['--codec', 'zstd']);
  await store.encryption.turnOn(passphrase, undefined, new Set());
  await pages.recompress({ signal: idle });
  expect(await isSeen(plain.id, page(7).subarray(pageBytes / 2, pageBytes / 2 + 64))).toBe(false);
  expect((await memoryIn(plain.id)).equals(imageIn(memory))).toBe(true);
  await expect(readMemory(state, plain.id, 1)).rejects.toThrow('encrypted by a key that is not there');
  const other = memoryOf(1000, 200);
  const encrypted = await takeSnapshot(store, other, { workload: 'other' });
  await store.encryption.turnOff();
  const later = await takeSnapshot(store, memory, { workload: 'later' });
  expect(later.encryption).toBeUndefined();
  await pages.recompress({ signal: idle });
  await store.encryption.turnOn(passphrase, undefined, await store.keysNeeded());
  await pages.recompress({ signal: idle });
  for (const [id, what] of [
    [plain.id, memory],
    [encrypted.id, other],
    [later.id, memory],
  ] as const) {
    expect((await memoryIn(id)).equals(imageIn(what))).toBe(true);
    await store.verify(id, 'all');
  }
});

it('finds any byte of a pack that is another one', async () => {
  await store.encryption.turnOn(passphrase, undefined, new Set());
  const { id } = await takeSnapshot(store, memoryOf(0, 3));
  const [name = ''] = await packs();
  const path = join(state, 'packs', name);
  const whole = await readFile(path);
  const step = Math.max(1, Math.floor(whole.length / 150));
  for (let at = 0; at < whole.length; at += at < 160 ? 8 : step) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
    await writeFile(path, bytes);
    await expect(store.verify(id, 'all'), `byte ${at}`).rejects.toThrow('is damaged');
  }
  await writeFile(path, whole);
  await store.verify(id, 'all');
});
