/** A process tree is Torpor's for as long as there is a snapshot of it; until then it was only looked at. */
import type { SnapshotStore } from '../store/snapshot-store.ts';
import type { Registry } from '../workload/registry.ts';
import type { Workloads } from '../workload/workloads.ts';

export interface DisownParts {
  registry: Registry;
  store: SnapshotStore;
  workloads: Workloads;
}

/** Forgets a job that runs where it was started and of which there is no snapshot. @returns whether it was one. */
export async function disown({ registry, store, workloads }: DisownParts, id: string): Promise<boolean> {
  const record = registry.get(id);
  if (record?.kind !== 'job' || record.status.kind !== 'running' || record.status.room !== undefined)
    return false;
  // What is held still has to be let go of first.
  if (record.status.nap !== undefined) return false;
  const stored = await store.list();
  if (stored.some((item) => item.kind === 'complete' && item.manifest.workload === id)) return false;
  await registry.remove(id);
  await workloads.cleanUp(id);
  return true;
}
