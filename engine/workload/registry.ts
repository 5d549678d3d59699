/**
 * All workloads the engine knows, kept on disk record by record. Looking one up says who may have it: a workload of
 * another user does not exist for the caller.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import { specOf } from '../../proto/manifest.ts';
import { privateFolder, writeDurable, writeQuickly } from '../durable.ts';
import type { Logger } from '../log.ts';
import { recordSchema, type Status, type WorkloadRecord } from './record.ts';

/** Who asks, by the credentials of the bus connection. */
export interface Caller {
  uid: number;
  /** Its own name on the bus, and its process. */
  connection?: string;
  pid?: number;
}

/** How many ended workloads are still listed. */
const endedKept = 20;

export class Registry {
  readonly #folder: string;
  readonly #records = new Map<string, WorkloadRecord>();
  readonly #writing = new Map<string, Promise<void>>();
  readonly #changed: ((record: WorkloadRecord) => void)[] = [];
  readonly #forgotten: ((record: WorkloadRecord) => void)[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads all records; one that is damaged is left on disk, logged and not listed. */
  static async open(stateDir: string, log: Logger): Promise<Registry> {
    const folder = join(stateDir, 'capsules');
    await privateFolder(folder);
    const registry = new Registry(folder);
    for (const name of await readdir(folder)) {
      if (!name.endsWith('.json')) continue;
      try {
        const record = recordSchema.parse(JSON.parse(await readFile(join(folder, name), 'utf8')));
        registry.#records.set(record.id, record);
      } catch (error) {
        log.error({ error, file: join(folder, name) }, 'a workload record is damaged and is left alone');
      }
    }
    return registry;
  }

  /** Calls the listener after every change of a record. */
  onChange(listener: (record: WorkloadRecord) => void): void {
    this.#changed.push(listener);
  }

  /** Calls the listener after a record was removed. */
  onForgotten(listener: (record: WorkloadRecord) => void): void {
    this.#forgotten.push(listener);
  }

  all(): WorkloadRecord[] {
    return [...this.#records.values()].sort((a, b) => a.startedAt.localeCompare(b.startedAt));
  }

  /** Those the caller may see: their own; root sees all. What is started for a snapshot alone is nobody's. */
  visibleTo(caller: Caller): WorkloadRecord[] {
    return this.all().filter((record) => !record.preparing && mayUse(caller, specOf(record).user.uid));
  }

  get(id: string): WorkloadRecord | undefined {
    return this.#records.get(id);
  }

  /**
   * The workload that an id, a name, or a unique prefix of an id means, in this order. A living one wins over an ended
   * one.
   * @throws TorporError `not-found`, `not-permitted` where it is another user's, or `usage` where several fit.
   */
  find(reference: string, caller: Caller): WorkloadRecord {
    // What others call theirs must not come between a caller and what is their own.
    const mine = meantBy(reference, this.visibleTo(caller));
    const hidden = this.#records.get(reference);
    if (hidden?.preparing && mayUse(caller, specOf(hidden).user.uid)) return hidden;
    if (mine.length === 0) {
      if (meantBy(reference, this.all()).length > 0) {
        throw new TorporError(
          'not-permitted',
          `The workload ${reference} belongs to another user.`,
          'Ask its owner, or root.',
        );
      }
      throw new TorporError('not-found', `There is no workload ${reference}.`, 'See `torpor ps`.');
    }
    const living = mine.filter((record) => record.status.kind !== 'ended');
    const chosen = living.length > 0 ? living : mine.slice(-1);
    if (chosen.length > 1 || chosen[0] === undefined) {
      throw new TorporError(
        'usage',
        `${reference} may mean ${chosen.map((record) => `${record.id} (${record.name})`).join(' or ')}.`,
        'Name one of them by its id.',
      );
    }
    return chosen[0];
  }

  /** Whether a name is free among the caller's living workloads. */
  isNameFree(name: string, uid: number): boolean {
    return !this.all().some(
      (record) => record.name === name && specOf(record).user.uid === uid && record.status.kind !== 'ended',
    );
  }

  /** Writes a record durably and tells the listeners. */
  async put(record: WorkloadRecord): Promise<void> {
    await this.#put(record, writeDurable);
  }

  async #put(record: WorkloadRecord, write: typeof writeDurable): Promise<void> {
    this.#records.set(record.id, record);
    // One after the other, so that the last one said is the one that stays.
    const path = join(this.#folder, `${record.id}.json`);
    const before = this.#writing.get(record.id) ?? Promise.resolve();
    const written = before.catch(() => {}).then(() => write(path, JSON.stringify(record, null, 1)));
    this.#writing.set(record.id, written);
    await written;
    for (const listener of this.#changed) listener(record);
    if (record.status.kind === 'ended') await this.#forgetOldest();
  }

  /** Changes the status of a workload, durably. @returns the record as it now is. */
  setStatus(id: string, status: Status): Promise<WorkloadRecord> {
    return this.#change(id, status, writeDurable);
  }

  /**
   * The same where it may fail, as on a full disk: this engine knows it all the same, and the next one comes to it by
   * the facts.
   */
  async setStatusIfPossible(id: string, status: Status, log: Logger): Promise<void> {
    await this.setStatus(id, status).catch((error: unknown) =>
      log.error({ err: error, workload: id }, 'could not write its record'),
    );
  }

  /**
   * Changes it so that it outlives the engine, but not a loss of power: for a status that speaks of processes, which
   * a loss of power ends, or that a recovering engine would come to by itself.
   */
  setPassingStatus(id: string, status: Status): Promise<WorkloadRecord> {
    return this.#change(id, status, writeQuickly);
  }

  async #change(id: string, status: Status, write: typeof writeDurable): Promise<WorkloadRecord> {
    const record = this.#records.get(id);
    if (record === undefined) throw new Error(`no record of workload ${id}`);
    const changed = { ...record, status };
    await this.#put(changed, write);
    return changed;
  }

  async remove(id: string): Promise<void> {
    const record = this.#records.get(id);
    this.#records.delete(id);
    await this.#writing.get(id)?.catch(() => {});
    this.#writing.delete(id);
    await rm(join(this.#folder, `${id}.json`), { force: true });
    if (record !== undefined) for (const listener of this.#forgotten) listener(record);
  }

  async #forgetOldest(): Promise<void> {
    const ended = this.all().filter((record) => record.status.kind === 'ended');
    for (const record of ended.slice(0, -endedKept)) await this.remove(record.id);
  }
}

/**
 * An id is nobody's to choose, so it wins over a name that looks like it. What may be a pid is no beginning of an id:
 * whoever names process 1 must not be given the workload whose id happens to begin with 1.
 */
function meantBy(reference: string, records: readonly WorkloadRecord[]): WorkloadRecord[] {
  const byId = records.filter(({ id }) => id === reference);
  if (byId.length > 0) return byId;
  const byName = records.filter(({ name }) => name === reference);
  if (byName.length > 0 || /^\d*$/.test(reference)) return byName;
  return records.filter(({ id }) => id.startsWith(reference));
}

/** Users touch only what is theirs; root touches all. */
export function mayUse(caller: Caller, ownerUid: number): boolean {
  return caller.uid === 0 || caller.uid === ownerUid;
}
