/** What the store takes as a snapshot: nothing that it could not read again. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
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
