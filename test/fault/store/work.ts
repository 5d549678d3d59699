/** What an engine does to its store, without an engine. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { SnapshotStore } from '../../../engine/store/snapshot-store.ts';
import type { ManifestBody } from '../../../proto/manifest.ts';
import { memoryOf, type Wanted } from './steps.ts';

/** As an engine that starts. */
export async function openStore(folder: string): Promise<SnapshotStore> {
  const store = await SnapshotStore.open(folder, pino({ level: 'silent' }));
  await store.removeUnfinished();
  return store;
}

/** @param named is told of its id as soon as it has one. */
export async function suspend(
  store: SnapshotStore,
  wanted: Wanted,
  named: (id: string) => void = () => {},
): Promise<string> {
  const stage = await store.stage();
  named(stage.id);
  try {
    await writeFile(join(stage.folder, 'dump.log'), 'log');
    stage.sealer.start();
    for (const name of ['inventory', 'core-1', 'mm-1'])
      await writeFile(join(stage.images, `${name}.img`), `${name} of ${wanted.name}`);
    await writeFile(join(stage.images, 'pages-1.img'), memoryOf(wanted));
    await store.commit(stage, () => bodyOf(wanted));
    return stage.id;
  } catch (error) {
    await store.discard(stage);
    throw error;
  }
}

/** What a manifest says of a workload that nobody has ever run. */
function bodyOf({ name, workload }: Wanted): ManifestBody {
  return {
    kind: 'job',
    job: {
      command: ['sleep', '1000'],
      cwd: '/',
      user: { uid: 1000, gid: 1000, groups: [], name: 'me', home: '/home/me', shell: '/bin/sh' },
      root: 100,
      session: 100,
    },
    workload,
    name,
    startedAt: '2026-11-22T10:00:00.000Z',
    takenAt: new Date().toISOString(),
    leftRunning: false,
    memoryBytes: 1,
    processes: [{ pid: 100, name: 'sleep' }],
    standstillMs: 1,
    durableMs: 2,
    host: { kernel: '6.1', criu: '4.2.1', architecture: 'x64', cpuFeatures: [] },
    findings: [],
    surroundings: [],
  };
}
