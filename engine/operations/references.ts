/** What callers mean by what they write: workloads, processes and snapshots, by ids, their beginnings, names and pids. */
import { TorporError } from '../../api/errors.ts';
import { specOf } from '../../proto/manifest.ts';
import type { Member } from '../job/members.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import { type Caller, mayUse } from '../workload/registry.ts';
import type { EngineParts } from './parts.ts';

export type CompleteSnapshot = Extract<StoredSnapshot, { kind: 'complete' }>;

export class References {
  readonly #parts: EngineParts;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** The workload that is meant, or undefined where a pid is. A name or id wins over a pid that looks like it. */
  findUnlessPid(target: string, caller: Caller): WorkloadRecord | undefined {
    try {
      return this.#parts.registry.find(target, caller);
    } catch (error) {
      // What others call theirs must not come between a caller and a process.
      const isNobodys =
        error instanceof TorporError && (error.code === 'not-found' || error.code === 'not-permitted');
      if (isNobodys && /^\d{1,10}$/.test(target)) return undefined;
      throw error;
    }
  }

  /** The workload of a reference that may as well mean a snapshot. */
  findOrNone(reference: string, caller: Caller): WorkloadRecord | undefined {
    try {
      return this.#parts.registry.find(reference, caller);
    } catch {
      return undefined;
    }
  }

  async findSnapshot(reference: string, caller: Caller): Promise<CompleteSnapshot> {
    const item = await this.findStored(reference, caller);
    if (item.kind === 'complete') return item;
    throw new TorporError(
      'failed',
      item.problem,
      'See `torpor verify --read-data`; an earlier snapshot may still resume.',
    );
  }

  async findStored(reference: string, caller: Caller): Promise<StoredSnapshot> {
    const stored = await this.#parts.store.list();
    const exact = stored.filter((item) => item.id === reference);
    const fits =
      exact.length > 0 || reference.length < 4
        ? exact
        : stored.filter((item) => item.id.startsWith(reference));
    const mine = fits.filter((item) => maySee(item, caller));
    if (mine.length > 1) {
      throw new TorporError('usage', `Several snapshots begin with ${reference}.`, 'Give more of the id.');
    }
    if (mine[0] !== undefined) return mine[0];
    if (fits.length > 0) {
      throw new TorporError(
        'not-permitted',
        `Snapshot ${reference} belongs to another user.`,
        'Ask its owner, or root.',
      );
    }
    throw new TorporError('not-found', `There is no snapshot ${reference}.`, 'See `torpor snapshots`.');
  }

  /** A workload, or a process that is none, with a key that is the same for the same one. */
  meant(target: string, caller: Caller): [string, Member['meant']] {
    const { registry, jobs } = this.#parts;
    const known = this.findUnlessPid(target, caller) ?? jobs.recordOf(Number(target));
    if (known === undefined) return [`process ${Number(target)}`, Number(target)];
    return [known.id, registry.find(known.id, caller)];
  }

  /** The snapshot a reference means, and the workload it belongs to if that is still known. */
  async chooseSnapshot(
    target: string,
    caller: Caller,
  ): Promise<{ record: WorkloadRecord | undefined; snapshot: CompleteSnapshot }> {
    const { registry, store } = this.#parts;
    const stored = await this.findSnapshot(target, caller).catch((error: unknown) => {
      if (error instanceof TorporError && error.code === 'not-found') return undefined;
      throw error;
    });
    if (stored !== undefined) return { record: registry.get(stored.manifest.workload), snapshot: stored };
    const record = registry.find(target, caller);
    const id = await this.#newestSnapshotOf(record);
    if (id === undefined || !(await store.has(id))) {
      throw new TorporError(
        'not-found',
        `There is no snapshot of ${record.name}.`,
        'See `torpor snapshots`.',
      );
    }
    return { record, snapshot: await this.findSnapshot(id, caller) };
  }

  async #newestSnapshotOf(record: WorkloadRecord): Promise<string | undefined> {
    const { status } = record;
    if (status.kind === 'suspended' || status.kind === 'running') {
      if (status.snapshot !== undefined) return status.snapshot;
    }
    const stored = await this.#parts.store.list();
    return stored.find((item) => item.kind === 'complete' && item.manifest.workload === record.id)?.id;
  }

  /** A workload that has been forgotten may still have snapshots: they are found by its id or name too. */
  async workloadIdOf(reference: string, caller: Caller): Promise<string> {
    try {
      return this.#parts.registry.find(reference, caller).id;
    } catch (error) {
      const stored = await this.#parts.store.list();
      for (const item of stored) {
        if (item.kind !== 'complete' || !maySee(item, caller)) continue;
        if (item.manifest.workload === reference || item.manifest.name === reference)
          return item.manifest.workload;
      }
      throw error;
    }
  }
}

/** Whose a damaged snapshot is, nobody can say: only root sees those. */
export function maySee(item: StoredSnapshot, caller: Caller): boolean {
  return item.kind === 'complete' ? mayUse(caller, specOf(item.manifest).user.uid) : caller.uid === 0;
}
