/** What an engine does to its store, without an engine. */
import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { SnapshotStore } from '../../../engine/store/snapshot-store.ts';
import { Upkeep } from '../../../engine/store/upkeep.ts';
import { openPages, openStore, silent, takeSnapshot, takeVersion1 } from '../../support/store.ts';
import { memoryOf, type Wanted } from './steps.ts';

/** As an engine does that starts. */
export async function reopenStore(folder: string): Promise<SnapshotStore> {
  const store = await openStore(folder);
  await store.removeUnfinished();
  return store;
}

/** @returns the snapshot's id. */
export async function suspend(store: SnapshotStore, wanted: Wanted): Promise<string> {
  const { name, workload, codec } = wanted;
  const body = { name, workload, takenAt: new Date().toISOString() };
  const { id } = await takeSnapshot(store, memoryOf(wanted), body, ['--codec', codec, '--threads', '2']);
  return id;
}

export async function sweep(store: SnapshotStore): Promise<void> {
  const upkeep = new Upkeep(store, openPages(store.stateDir), silent);
  const { skipped } = await upkeep.collect();
  // Nothing is to happen by itself.
  await upkeep.stop();
  if (skipped.length > 0) throw new Error(`not all was swept: ${JSON.stringify(skipped)}`);
}

export async function recompress(store: SnapshotStore): Promise<void> {
  await store.packs.alone((signal) => openPages(store.stateDir).recompress({ signal }));
}

/** Makes the store of an engine that knew of no packs, with this in it. @returns the snapshot's id. */
export async function makeVersion1(folder: string, wanted: Wanted): Promise<string> {
  const store = await openStore(folder);
  const { id } = await takeVersion1(store, memoryOf(wanted), { name: wanted.name });
  for (const each of [join(folder, 'packs'), join(store.folderOf(id), 'pages')]) await rmdir(each);
  return id;
}
