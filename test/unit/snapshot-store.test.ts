/** What the store takes as a snapshot: nothing that it could not read again. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SnapshotStore } from '../../engine/store/snapshot-store.ts';
import { jobBody, openStore } from '../support/store.ts';

let folder: string;
let store: SnapshotStore;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-store-'));
  store = await openStore(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function staged() {
  const stage = await store.stage();
  await writeFile(join(stage.images, 'pages.img'), 'pages');
  return stage;
}

it('a snapshot is there once it is committed, as it was committed', async () => {
  const { id } = await store.commit(await staged(), () => jobBody);
  expect(await store.read(id)).toMatchObject(jobBody);
});

it('is refused, and not there, where its manifest could not be read again', async () => {
  const before = await readdir(join(folder, 'snapshots'));
  const stage = await staged();
  const outcome = store.commit(stage, () => ({ ...jobBody, job: { ...jobBody.job, cwd: '(unreachable)' } }));
  await expect(outcome).rejects.toMatchObject({
    code: 'failed',
    message: expect.stringContaining('not as expected at job.cwd'),
  });
  expect(await readdir(join(folder, 'snapshots'))).toEqual(before);
});

it('says what it needs of packages, also of snapshots of earlier versions', async () => {
  const owned = { uid: 0, gid: 0, mode: 0o644 };
  const times = { dev: '1', ino: '2', size: '3', mtimeNs: '4', ctimeNs: '5' };
  const library = {
    kind: 'file',
    path: '/usr/lib/libz.so.1',
    role: 'library',
    writable: false,
    append: false,
  };
  const sha256 = 'a'.repeat(64);
  const surroundings = [{ ...library, ...times, ...owned, sha256 }];
  const { id } = await store.commit(await staged(), () => ({ ...jobBody, surroundings }));
  const list = join(folder, 'snapshots', id, 'system-files');
  expect(await readFile(list, 'utf8')).toBe(`${sha256} 3 4 /usr/lib/libz.so.1\n`);
  expect(await store.systemFilesNeeded()).toEqual(new Set([sha256]));

  await rm(list);
  expect(await store.systemFilesNeeded()).toBeUndefined();
  await store.listSystemFiles();
  expect(await readFile(list, 'utf8')).toBe(`${sha256} 3 4 /usr/lib/libz.so.1\n`);
  await store.remove(id);
  expect(await store.systemFilesNeeded()).toEqual(new Set());
});
