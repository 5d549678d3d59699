/**
 * How much disk the store may take, where that is limited: before a suspend room is made by removing snapshots that
 * were not used for the longest time. Never one that is kept, the newest of its workload, or one that is still needed.
 */
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { Logger } from '../log.ts';
import type { EngineSettings } from '../settings.ts';
import type { SnapshotStore, StoredSnapshot } from './snapshot-store.ts';
import type { Upkeep } from './upkeep.ts';
import { bytesBelow } from './usage.ts';

type Complete = Extract<StoredSnapshot, { kind: 'complete' }>;

const pageBytes = 4096;
/** Images and lists beside the pages, and that no two suspends are alike. */
const margin = 1.1;

export interface QuotaParts {
  store: SnapshotStore;
  upkeep: Upkeep;
  settings: EngineSettings;
  /** Whether a workload, or something that is under way, needs this snapshot. */
  isNeeded: (id: string) => boolean;
  /** Removes it with all that it holds. */
  remove: (id: string) => Promise<void>;
  log: Logger;
}

/** A suspend that needs room. */
export interface RoomFor {
  workload: string;
  /** Its stage, until whose end the room is kept free of others. */
  stage: string;
}

export class Quota {
  readonly #parts: QuotaParts;
  /** What suspends that are under way need, by their stages. */
  readonly #promised = new Map<string, number>();
  #last: Promise<void> = Promise.resolve();

  constructor(parts: QuotaParts) {
    this.#parts = parts;
  }

  /**
   * Makes room for a suspend that has its stage already, where the store would take more than its quota.
   * @param expectedBytes of memory that there is to save.
   * @throws TorporError `failed` where there is not enough that may be removed.
   */
  makeRoom(expectedBytes: number, signal: AbortSignal, room?: RoomFor): Promise<void> {
    const made = this.#last.then(() => this.#makeRoom(expectedBytes, signal, room));
    this.#last = made.catch(() => {});
    return made;
  }

  async #makeRoom(expectedBytes: number, signal: AbortSignal, room: RoomFor | undefined): Promise<void> {
    const { store, settings, isNeeded, remove, log } = this.#parts;
    const { quotaBytes } = settings.now;
    if (quotaBytes === undefined) return;
    for (const stage of this.#promised.keys()) if (!store.isStaged(stage)) this.#promised.delete(stage);
    const promised = [...this.#promised.values()].reduce((sum, bytes) => sum + bytes, 0);
    const stored = (await store.list()).filter((item) => item.kind === 'complete');
    const needed = Math.ceil(expectedBytes * ratioOf(stored, room?.workload) * margin);
    const fits = (used: number) => used + promised + needed <= quotaBytes;
    if (!fits(await this.#takenBytes())) {
      let used = await this.#bytesNeeded(signal);
      for (const candidate of candidatesOf(stored)) {
        if (fits(used)) break;
        signal.throwIfAborted();
        // Looked at when its turn has come: others are at work too.
        if (isNeeded(candidate.id)) continue;
        try {
          await remove(candidate.id);
        } catch (error) {
          log.warn({ err: error, snapshot: candidate.id }, 'it was not removed to make room');
          continue;
        }
        log.info({ snapshot: candidate.id, quotaBytes, used, needed }, 'removed to make room');
        used = await this.#bytesNeeded(signal);
      }
      if (!fits(used)) throw overQuota(quotaBytes, used + promised, needed);
    }
    if (room !== undefined && store.isStaged(room.stage)) this.#promised.set(room.stage, needed);
  }

  /** On the disk now. */
  async #takenBytes(): Promise<number> {
    const { stateDir } = this.#parts.store;
    const parts = ['packs', 'snapshots'].map((name) => bytesBelow(join(stateDir, name)));
    return (await Promise.all(parts)).reduce((sum, bytes) => sum + bytes, 0);
  }

  /** On the disk once the packs have been swept, which is done as soon as no suspend is under way. */
  async #bytesNeeded(signal: AbortSignal): Promise<number> {
    const freeable = await this.#parts.upkeep.freeableBytes(signal);
    return Math.max(0, (await this.#takenBytes()) - freeable);
  }
}

/** Those that may be removed, the one that was not used for the longest time first. */
export function candidatesOf(stored: readonly Complete[]): Complete[] {
  const newest = new Map<string, Complete>();
  for (const item of stored) {
    const { workload, takenAt } = item.manifest;
    const known = newest.get(workload);
    if (known === undefined || takenAt > known.manifest.takenAt) newest.set(workload, item);
  }
  const lastUse = ({ usedAt, manifest }: Complete) =>
    Math.max(Date.parse(manifest.takenAt), usedAt === undefined ? 0 : Date.parse(usedAt));
  return (
    stored
      // Nothing is lost with what starts begin with.
      .filter(
        (item) => !item.kept && (item.warm !== undefined || newest.get(item.manifest.workload) !== item),
      )
      .sort((a, b) => lastUse(a) - lastUse(b))
  );
}

/** What of memory went to the disk before: with this workload's last suspend, or else with all that are known. */
export function ratioOf(stored: readonly Complete[], workload: string | undefined): number {
  const known = stored.flatMap(({ manifest }) =>
    manifest.pages === undefined || manifest.pages.pages === 0
      ? []
      : [{ ...manifest, pages: manifest.pages }],
  );
  const own = known
    .filter((each) => each.workload === workload)
    .sort((a, b) => b.takenAt.localeCompare(a.takenAt))
    .slice(0, 1);
  const counted = own.length > 0 ? own : known;
  const sum = (of: (each: (typeof known)[number]) => number) =>
    counted.reduce((all, each) => all + of(each), 0);
  return counted.length === 0
    ? 1
    : sum(({ pages }) => pages.storedBytes) / sum(({ pages }) => pages.pages * pageBytes);
}

function overQuota(quotaBytes: number, used: number, needed: number): TorporError {
  return new TorporError(
    'failed',
    `The snapshots may take ${mebibytes(quotaBytes)} of disk and take ${mebibytes(used)}; this one needs about ${mebibytes(needed)} more, and none of the others may be removed for it.`,
    'Remove some that are not needed (`torpor snapshots`, `torpor rm`), or raise the quota: `torpor settings quotaBytes`.',
    { quotaBytes, usedBytes: used, neededBytes: needed },
  );
}

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 1024 ** 2)} MiB`;
