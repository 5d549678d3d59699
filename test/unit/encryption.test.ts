/** Wraps, frames and the file of keys: nothing that was changed is taken for what it was. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Encryption } from '../../engine/store/encryption/encryption.ts';
import {
  decryptFile,
  decryptToBuffer,
  encryptFile,
  FrameError,
  frameBytes,
  headerBytes,
} from '../../engine/store/encryption/frames.ts';
import { keyIdOf } from '../../engine/store/encryption/secrets.ts';
import {
  openByKey,
  openByPassphrase,
  wrapByKey,
  wrapByPassphrase,
} from '../../engine/store/encryption/wraps.ts';
import { jobBody, openEncryptedStore, silent } from '../support/store.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-encryption-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const secret = randomBytes(32);
const key = { id: keyIdOf(secret), key: secret };
let count = 0;
const newPath = () => join(folder, `file-${count++}`);

async function encrypted(contents: Buffer, name: string): Promise<string> {
  const [source, target] = [newPath(), newPath()];
  await writeFile(source, contents);
  const { bytes } = await encryptFile(source, target, name, key);
  expect(bytes).toBe((await readFile(target)).length);
  return target;
}

it.each([0, 1, frameBytes - 1, frameBytes, frameBytes + 1, 3 * frameBytes])(
  'a file of %i bytes comes back as it was',
  async (length) => {
    const contents = randomBytes(length);
    const path = await encrypted(contents, 'a');
    expect((await decryptToBuffer(path, 'a', key)).equals(contents)).toBe(true);
    const target = newPath();
    await decryptFile(path, target, 'a', key);
    expect((await readFile(target)).equals(contents)).toBe(true);
    await expect(decryptToBuffer(path, 'b', key)).rejects.toThrow(FrameError);
    const other = randomBytes(32);
    await expect(decryptToBuffer(path, 'a', { id: key.id, key: other })).rejects.toThrow(FrameError);
    await expect(decryptToBuffer(path, 'a', { id: keyIdOf(other), key: other })).rejects.toThrow(FrameError);
  },
);

it('any byte of it that is another one is found, and so is every end that is missing or too much', async () => {
  const path = await encrypted(randomBytes(150), 'a');
  const whole = await readFile(path);
  const damaged = newPath();
  for (let at = 0; at < whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
    await writeFile(damaged, bytes);
    await expect(decryptToBuffer(damaged, 'a', key)).rejects.toThrow(FrameError);
    await writeFile(damaged, whole.subarray(0, at));
    await expect(decryptToBuffer(damaged, 'a', key)).rejects.toThrow(FrameError);
  }
  await writeFile(damaged, Buffer.concat([whole, Buffer.alloc(1)]));
  await expect(decryptToBuffer(damaged, 'a', key)).rejects.toThrow(FrameError);
});

it('frames cannot be left out, doubled or put in another order', async () => {
  const path = await encrypted(randomBytes(2 * frameBytes + 100), 'a');
  const whole = await readFile(path);
  const stored = frameBytes + 16;
  const header = whole.subarray(0, headerBytes);
  const [first, second, last] = [0, 1, 2].map((number) =>
    whole.subarray(headerBytes + number * stored, headerBytes + (number + 1) * stored),
  ) as [Buffer, Buffer, Buffer];
  const damaged = newPath();
  for (const frames of [
    [first, second],
    [first],
    [second, first, last],
    [first, last],
    [first, first, second, last],
  ]) {
    await writeFile(damaged, Buffer.concat([header, ...frames]));
    await expect(decryptToBuffer(damaged, 'a', key)).rejects.toThrow(FrameError);
  }
});

it('a wrap gives the key to who has what it was wrapped by, and to nobody for another store', async () => {
  const wrap = await wrapByPassphrase(secret, key.id, 'three words more');
  expect(await openByPassphrase(wrap, key.id, 'three words more')).toEqual(secret);
  expect(await openByPassphrase(wrap, key.id, 'three words mora')).toBeUndefined();
  expect(await openByPassphrase(wrap, '0'.repeat(32), 'three words more')).toBeUndefined();
  expect(await openByPassphrase({ ...wrap, p: 2 }, key.id, 'three words more')).toBeUndefined();
  const own = randomBytes(32);
  const keyring = wrapByKey(secret, key.id, 1000, own);
  expect(openByKey(keyring, key.id, own)).toEqual(secret);
  expect(openByKey({ ...keyring, uid: 1001 }, key.id, own)).toBeUndefined();
  expect(openByKey(keyring, key.id, randomBytes(32))).toBeUndefined();
});

it('a file of keys that is damaged anywhere gives no wrong key, and stays as it is', async () => {
  const state = await mkdtemp(join(folder, 'state-'));
  const encryption = await Encryption.open(state, silent);
  await encryption.turnOn('three words more', undefined, new Set());
  const own = randomBytes(32);
  await encryption.addKeyring(1000, own);
  const right = encryption.forPrograms();
  const path = join(state, 'encryption.json');
  const whole = await readFile(path);
  // By the keyring's key: a passphrase takes its time.
  for (let at = 0; at < whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await writeFile(path, bytes);
    const damaged = await Encryption.open(state, silent);
    const opened = await damaged.unlock({ kind: 'keyring', uid: 1000, key: own }).then(
      () => damaged.forPrograms(),
      () => right,
    );
    expect(opened).toEqual(right);
    expect((await readFile(path)).equals(bytes)).toBe(true);
  }
}, 60_000);

const openEncrypted = async (state: string) => (await openEncryptedStore(state)).store;

it('a snapshot tells a locked store what it is, and an unlocked one everything', async () => {
  const state = await mkdtemp(join(folder, 'state-'));
  const store = await openEncrypted(state);
  await store.encryption.turnOn('three words more', undefined, new Set());
  const stage = await store.stage();
  await writeFile(join(stage.images, 'pstree.img'), 'a tree of processes');
  await writeFile(join(stage.folder, 'screen.png'), 'a picture');
  const body = { ...jobBody, surroundings: [{ path: '/home/me/love-letter' }] };
  const manifest = await store.commit(stage, () => body);
  await store.settle(stage.id);
  expect(manifest).toMatchObject(body);
  expect(await store.read(stage.id)).toMatchObject(body);
  const json = await readFile(join(store.folderOf(stage.id), 'manifest.json'), 'utf8');
  expect(json).not.toContain('love-letter');
  expect(json).not.toContain('1000"');
  const picture = manifest.files.find(({ path }) => path === 'screen.png');
  if (picture === undefined) throw new Error('no picture');
  expect((await store.contentsOf(manifest, picture)).toString()).toBe('a picture');
  {
    await using _opened = await store.open(manifest);
    const plain = store.contentFolderOf(stage.id);
    expect(plain).not.toBe(store.folderOf(stage.id));
    expect(await readFile(join(plain, 'images', 'pstree.img'), 'utf8')).toBe('a tree of processes');
  }
  expect(store.contentFolderOf(stage.id)).toBe(store.folderOf(stage.id));
  expect(await readdir(join(state, 'run', 'plain'))).toEqual([]);

  const next = await openEncrypted(state);
  const [listed] = await next.list();
  expect(listed).toMatchObject({
    kind: 'complete',
    id: stage.id,
    manifest: { name: body.name, isLocked: true },
  });
  const locked = await next.read(stage.id);
  await expect(next.open(locked)).rejects.toThrow('is locked');
  await expect(next.stage()).rejects.toThrow('is locked');
  await expect(next.contentsOf(locked, picture)).rejects.toThrow('is locked');
  await next.encryption.unlock({ kind: 'passphrase', passphrase: 'three words more' });
  // Half of it is not taken for all of it.
  await expect(next.open(locked)).rejects.toThrow('just being unlocked');
  expect(await next.read(stage.id)).toMatchObject(body);

  // Without its key it is there still, and what turns encryption on anew does not take its place.
  await rm(join(state, 'encryption.json'));
  const lost = await openEncrypted(state);
  await expect(lost.open(await lost.read(stage.id))).rejects.toThrow(/the key [0-9a-f]{32}.*is not in/);
  const again = lost.encryption.turnOn('three words more', undefined, await lost.keysNeeded());
  await expect(again).rejects.toThrow(/the key [0-9a-f]{32}, which is not in/);
});
