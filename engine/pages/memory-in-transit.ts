/**
 * The memory of a workload on its way into the store: what CRIU sends goes to a receiver, and what has not been fetched
 * since the last resume is held by its pager meanwhile.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Installation } from '../installation.ts';
import type { SnapshotStore, Stage } from '../store/snapshot-store.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { StatusOf, WorkloadRecord } from '../workload/record.ts';
import type { Workloads } from '../workload/workloads.ts';
import { refuseMissingMemory } from './missing.ts';
import type { Pagers } from './pagers.ts';
import { PageReceiver } from './receiver.ts';

export interface MemoryInTransit extends AsyncDisposable {
  readonly receiver: PageReceiver;
  /** The snapshot whose pages are not written again. */
  readonly parent: string | undefined;
  /**
   * The last moment before the freeze.
   * @throws TorporError `failed` where memory is missing that nobody can give.
   */
  hold(): Promise<void>;
  /** All stand still: from here on what CRIU sends is taken. */
  take(): Promise<void>;
  /** It runs on: what is missing is fetched again. */
  letGo(): Promise<void>;
  /** It has been ended: nothing needs to be fetched any more. */
  forget(): Promise<void>;
}

export interface MemoryParts {
  store: SnapshotStore;
  pagers: Pagers;
  workloads: Workloads;
  cgroups: Cgroups;
  installation: Installation;
}

export async function receiveMemory(
  { store, pagers, workloads, cgroups, installation }: MemoryParts,
  { id, name, status }: WorkloadRecord & { status: StatusOf<'running'> },
  stage: Stage,
): Promise<MemoryInTransit> {
  const loading = pagers.of(id);
  const refuse = async () => refuseMissingMemory(name, await cgroups.pids(id));
  // Nothing can be missing of what was never resumed.
  const looked = loading === undefined && status.snapshot !== undefined ? refuse() : Promise.resolve();
  looked.catch(() => {});
  // What has not been fetched is to be found in the snapshot that it is fetched from.
  const parent = loading?.snapshot ?? (await store.parentOf(id, status.snapshot));
  const receiver = PageReceiver.start({
    program: installation.pages,
    stateDir: store.stateDir,
    stage: stage.folder,
    parent: parent === undefined ? undefined : store.folderOf(parent),
    keys: stage.keys,
  });
  let held = false;
  const letGo = async () => {
    if (held) await loading?.pager.continue();
    held = false;
  };
  return {
    receiver,
    parent,
    hold: async () => {
      await looked;
      held = (await loading?.pager.hold()) ?? false;
    },
    take: async () => {
      if (loading === undefined) return receiver.go();
      if (!held) {
        await refuse();
        return receiver.go();
      }
      const scratch = workloads.scratchFolder(id);
      await mkdir(scratch, { recursive: true, mode: 0o700 });
      const unfetched = join(scratch, 'unfetched');
      // That of an earlier try would tell of another moment.
      await rm(unfetched, { force: true });
      await loading.pager.writeUnfetched(unfetched);
      receiver.go(unfetched);
    },
    letGo,
    forget: async () => {
      held = false;
      await loading?.pager.end();
    },
    [Symbol.asyncDispose]: async () => {
      await receiver[Symbol.asyncDispose]();
      await letGo();
    },
  };
}
