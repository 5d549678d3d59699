/** What the store takes as a snapshot: nothing that it could not read again. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SnapshotStore } from '../../engine/store/snapshot-store.ts';
import type { ManifestBody } from '../../proto/manifest.ts';

let folder: string;
let store: SnapshotStore;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-store-'));
  store = await SnapshotStore.open(folder, pino({ level: 'silent' }));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const body: ManifestBody = {
  kind: 'job',
  job: {
    command: ['sleep', '1000'],
    cwd: '/',
    user: { uid: 1000, gid: 1000, groups: [], name: 'me', home: '/home/me', shell: '/bin/sh' },
    root: 100,
    session: 100,
  },
  workload: 'w',
  name: 'sleep',
  startedAt: '2026-11-22T10:00:00.000Z',
  takenAt: '2026-11-22T11:00:00.000Z',
  leftRunning: false,
  memoryBytes: 1,
  processes: [{ pid: 100, name: 'sleep' }],
  standstillMs: 1,
  durableMs: 2,
  host: { kernel: '6.1', criu: '4.2.1', architecture: 'x64', cpuFeatures: [] },
  findings: [],
  surroundings: [],
};

async function staged() {
  const stage = await store.stage();
  await writeFile(join(stage.images, 'pages.img'), 'pages');
  return stage;
}

it('a snapshot is there once it is committed, as it was committed', async () => {
  const { id } = await store.commit(await staged(), () => body);
  expect(await store.read(id)).toMatchObject(body);
});

it('is refused, and not there, where its manifest could not be read again', async () => {
  const before = await readdir(join(folder, 'snapshots'));
  const stage = await staged();
  const outcome = store.commit(stage, () => ({ ...body, job: { ...body.job, cwd: '(unreachable)' } }));
  await expect(outcome).rejects.toMatchObject({
    code: 'failed',
    message: expect.stringContaining('not as expected at job.cwd'),
  });
  expect(await readdir(join(folder, 'snapshots'))).toEqual(before);
});
