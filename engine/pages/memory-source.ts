/**
 * Where the memory of a workload comes from while it is resumed: from a pager, as files for CRIU and, where the resume
 * is lazy, page by page for the application that runs already; or, of a snapshot of the first version, from plain files.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TorporError } from '../../api/errors.ts';
import type { Manifest } from '../../proto/manifest.ts';
import type { CriuClient } from '../criu/client.ts';
import type { Installation } from '../installation.ts';
import { unmountBelow } from '../mounts.ts';
import type { ProcessIdentity } from '../process.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import { damaged } from '../store/verification.ts';
import type { Measure } from '../transaction/progress.ts';
import type { Workloads } from '../workload/workloads.ts';
import { lockedMemory, needsKey, Pager } from './pager.ts';
import type { Pagers } from './pagers.ts';
import { workingSetFile } from './working-set.ts';

export interface MemorySource {
  /** CRIU's files of memory contents, beside those of the snapshot's own folder. */
  readonly files: readonly string[];
  /** The application runs before everything is there. */
  readonly isLazy: boolean;
  readonly measure: Measure | undefined;
  /** CRIU is done; nothing runs yet. */
  restored(init: ProcessIdentity | undefined): Promise<void>;
  /** It runs: what is missing is fetched beside it. */
  follow(): void;
  /** Why memory could not be read, if that is so. */
  problem(): Promise<TorporError | undefined>;
  /** The resume has failed. Never throws. */
  end(): Promise<void>;
}

const plainFiles: MemorySource = {
  files: [],
  isLazy: false,
  measure: undefined,
  restored: async () => {},
  follow: () => {},
  problem: async () => undefined,
  end: async () => {},
};

export interface MemoryParts {
  store: SnapshotStore;
  workloads: Workloads;
  pagers: Pagers;
  installation: Installation;
}

/** CRIU's name for it, in its work folder (CRIU, uffd.c). */
const lazySocket = 'lazy-pages.socket';

/**
 * @param eager everything is to be there before it runs.
 * @throws TorporError `failed` where the memory cannot be read.
 */
export async function memoryOf(
  { store, workloads, pagers, installation }: MemoryParts,
  id: string,
  manifest: Manifest,
  criu: CriuClient,
  eager: boolean,
): Promise<MemorySource> {
  if (manifest.pages === undefined) return plainFiles;
  // Should its pager be lost, a capsule is ended by the kernel with its init; a job has none.
  const isLazy = !eager && manifest.kind === 'capsule' && (await criu.features()).lazyPages;
  const scratch = workloads.scratchFolder(id);
  const mount = join(scratch, 'pages');
  const snapshotFolder = store.folderOf(manifest.id);
  const pager = await Pager.start({
    program: installation.pager,
    stateDir: store.stateDir,
    snapshotFolder,
    mount,
    lazySocket: isLazy ? join(scratch, lazySocket) : undefined,
    control: pagers.controlOf(id),
    workingSet: join(snapshotFolder, workingSetFile),
    keys: store.encryption.forPrograms(),
  });
  const end = async () => {
    // It takes its mount away itself, unless it was killed.
    await pager.end();
    await unmountBelow(scratch);
  };
  try {
    const names = await readdir(mount);
    return {
      files: names.map((name) => join(mount, name)),
      isLazy,
      measure: async () => {
        const now = await pager.status();
        return { done: now?.loadedBytes ?? 0, total: now?.totalBytes ?? 0 };
      },
      restored: async (init) => {
        if (!isLazy) return await end();
        // Its mount goes with the scratch folder: an unmount takes longer than all else that is left to do.
        await pager.load(init?.pid ?? 0);
      },
      follow: () => {
        if (isLazy) pagers.follow(id, manifest.id, pager);
      },
      problem: async () => {
        const now = await pager.status().catch(() => undefined);
        // With the workload it may have ended meanwhile.
        const what = pager.failure ?? (now?.state === 'failed' ? (now.what ?? '') : undefined);
        if (what === undefined) return undefined;
        return needsKey(what) ? lockedMemory() : damaged(manifest.id, what.replace(/\.$/, ''));
      },
      end: () => end().catch(() => {}),
    };
  } catch (error) {
    await end();
    throw error;
  }
}
