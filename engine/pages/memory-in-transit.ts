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
import type { UnwrittenMemory } from './unwritten.ts';

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
  /** All stand still, and CRIU has sent everything. */
  taken(): Promise<void>;
  /** It exists as this snapshot. */
  kept(snapshot: string): void;
  /** File of what CRIU need not send, which is written when all stand still; undefined where that is everything. */
  readonly leftOut: string | undefined;
  /** It runs on: what is missing is fetched again. */
  letGo(): Promise<void>;
  /** It has been ended: nothing needs to be fetched any more. */
  forget(): Promise<void>;
}

export interface MemoryParts {
  store: SnapshotStore;
  pagers: Pagers;
  unwritten: UnwrittenMemory;
  workloads: Workloads;
  cgroups: Cgroups;
  installation: Installation;
}

/** @param isFollowed another snapshot comes after this one, while it runs on. */
export async function receiveMemory(
  { store, pagers, unwritten, workloads, cgroups, installation }: MemoryParts,
  { id, kind, name, status }: WorkloadRecord & { status: StatusOf<'running'> },
  stage: Stage,
  isFollowed: boolean,
): Promise<MemoryInTransit> {
  const loading = pagers.of(id);
  const refuse = async () => refuseMissingMemory(name, await cgroups.pids(id));
  // Nothing can be missing of what was never resumed.
  const looked = loading === undefined && status.snapshot !== undefined ? refuse() : Promise.resolve();
  looked.catch(() => {});
  // What has not been fetched is to be found in the snapshot that it is fetched from.
  const since = unwritten.since(id);
  const parent = loading?.snapshot ?? (await store.parentOf(id, since ?? status.snapshot));
  // While memory is being fetched, the kernel tells the pager of it, and nobody else.
  const isTracked = isFollowed && loading === undefined;
  const knows = loading === undefined && since !== undefined && since === parent;
  const scratch = workloads.scratchFolder(id);
  const files = { pages: join(scratch, 'unwritten-pages'), leftOut: join(scratch, 'left-out') };
  const forgetFiles = () => Promise.all(Object.values(files).map((file) => rm(file, { force: true })));
  // Those of an earlier try would tell of another moment.
  await forgetFiles();
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
    leftOut: knows ? files.leftOut : undefined,
    hold: async () => {
      await looked;
      if (isTracked) await unwritten.watch(id, await cgroups.pids(id), kind === 'capsule' ? 1 : 0);
      held = (await loading?.pager.hold()) ?? false;
    },
    take: async () => {
      if (knows) {
        await mkdir(scratch, { recursive: true, mode: 0o700 });
        if (await unwritten.list(id, store.folderOf(since), files)) return receiver.go(files.pages);
        await forgetFiles();
      }
      if (loading === undefined) return receiver.go();
      if (!held) {
        await refuse();
        return receiver.go();
      }
      await mkdir(scratch, { recursive: true, mode: 0o700 });
      const unfetched = join(scratch, 'unfetched');
      // That of an earlier try would tell of another moment.
      await rm(unfetched, { force: true });
      await loading.pager.writeUnfetched(unfetched);
      receiver.go(unfetched);
    },
    taken: async () => {
      if (isTracked) await unwritten.protect(id);
    },
    kept: (snapshot) => {
      if (isTracked) unwritten.begin(id, snapshot);
    },
    letGo,
    forget: async () => {
      held = false;
      unwritten.end(id);
      await loading?.pager.end();
    },
    [Symbol.asyncDispose]: async () => {
      await receiver[Symbol.asyncDispose]();
      await letGo();
      await forgetFiles();
    },
  };
}
