/** Removes a snapshot with all that it holds outside of the store. */
import { join } from 'node:path';
import { TorporError } from '../api/errors.ts';
import { type Manifest, specOf } from '../proto/manifest.ts';
import { removeLock } from './connections/held.ts';
import { readImages } from './criu/images.ts';
import { dropRemaps } from './files/remaps.ts';
import type { Installation } from './installation.ts';
import type { Intervals } from './intervals/intervals.ts';
import { disown } from './job/disown.ts';
import type { Locks } from './locks.ts';
import type { Logger } from './log.ts';
import type { Pagers } from './pages/pagers.ts';
import type { PublishedPictures } from './store/published-pictures.ts';
import type { SnapshotStore } from './store/snapshot-store.ts';
import { hasRemaps } from './transaction/surroundings.ts';
import type { Registry } from './workload/registry.ts';
import type { Workloads } from './workload/workloads.ts';

export interface RemovalParts {
  store: SnapshotStore;
  registry: Registry;
  workloads: Workloads;
  installation: Installation;
  pictures: PublishedPictures;
  pagers: Pagers;
  intervals: Intervals;
  locks: Locks;
  log: Logger;
}

export class Removal {
  readonly #parts: RemovalParts;

  constructor(parts: RemovalParts) {
    this.#parts = parts;
  }

  /**
   * Removes a snapshot; a workload that is suspended in it has ended by that.
   * @param by who wants it, for the log.
   * @throws TorporError `blocked` where it is kept or still read, `failed` where something is under way on it.
   */
  async remove(id: string, by: Record<string, unknown>): Promise<void> {
    await whileMarked(this.#parts.locks, id, 'removed', () =>
      this.#parts.locks.hold(`snapshot ${id}`, `Snapshot ${id}`, 'removed', () => this.#remove(id, by)),
    );
  }

  /** Whether a workload is suspended in it, came out of it, or is in the middle of either. */
  isNeeded(id: string): boolean {
    const { registry, pagers } = this.#parts;
    return (
      pagers.needs(id) || registry.all().some(({ status }) => 'snapshot' in status && status.snapshot === id)
    );
  }

  async #remove(id: string, by: Record<string, unknown>): Promise<void> {
    const { store, registry, installation, pictures, pagers, log } = this.#parts;
    if (await store.isKept(id)) throw isKept(id);
    if (pagers.needs(id)) throw isStillRead(id);
    const holder = registry
      .all()
      .find((record) => record.status.kind === 'suspended' && record.status.snapshot === id);
    // A damaged one cannot say what it holds.
    const stored = await store.read(id).catch(() => undefined);
    if (stored !== undefined) await this.#forgetLinks(stored);
    await store.remove(id);
    // Nobody comes back to its connections: their other sides are to learn that.
    if (stored?.connectionLock !== undefined)
      await removeLock(stored.connectionLock, installation.connections, log);
    await pictures.forget(id);
    if (holder !== undefined) {
      await registry.setStatus(holder.id, {
        kind: 'ended',
        at: new Date().toISOString(),
        note: 'its snapshot was removed',
      });
    }
    // One that snapshots are to be taken of has the next one soon.
    if (stored !== undefined && this.#parts.intervals.stateOf(stored.workload) === undefined)
      await disown(this.#parts, stored.workload);
    log.info({ snapshot: id, workload: holder?.id, ...by }, 'snapshot removed');
  }

  /** Takes away what a snapshot holds in its user's folders. */
  async #forgetLinks(stored: Manifest): Promise<void> {
    if (!hasRemaps(stored)) return;
    const folder = join(this.#parts.store.folderOf(stored.id), 'images');
    const images = await readImages(folder).catch(() => undefined);
    const runFolder = this.#parts.workloads.runFolder(stored.workload);
    const view = stored.kind === 'capsule' ? { root: stored.capsule.root, runFolder } : { root: '/' };
    if (images !== undefined) await dropRemaps(images, view, specOf(stored));
  }
}

/** A mark may be set while a snapshot is being resumed, but not while it is looked at for its removal. */
export function whileMarked<T>(
  locks: Locks,
  id: string,
  operation: string,
  work: () => Promise<T>,
): Promise<T> {
  return locks.hold(`mark of ${id}`, `Snapshot ${id}`, operation, work);
}

export function isKept(id: string): TorporError {
  return new TorporError(
    'blocked',
    `Snapshot ${id} is kept, so it is not removed.`,
    `To remove it all the same: \`torpor keep --no ${id}\` first, or \`torpor rm --force ${id}\`.`,
  );
}

function isStillRead(id: string): TorporError {
  return new TorporError(
    'blocked',
    `Snapshot ${id} is not removed: an application that was resumed from it is still fetching its memory.`,
    'Wait until all of it is there (`torpor ps`), which takes seconds.',
  );
}
