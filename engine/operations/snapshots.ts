/** Listing, marking, checking and removing what is in the store. */
import { TorporError } from '../../api/errors.ts';
import {
  type CollectResult,
  pictureSizes,
  type Snapshot,
  type VerifyOptions,
  type VerifyResult,
} from '../../api/types.ts';
import { whileMarked } from '../removal.ts';
import type { Caller } from '../workload/registry.ts';
import { describeSnapshot } from './descriptions.ts';
import type { OperationParts } from './parts.ts';
import { maySee } from './references.ts';

export class Snapshots {
  readonly #parts: OperationParts;

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  async snapshots(caller: Caller, workload: string): Promise<Snapshot[]> {
    const wanted = workload === '' ? undefined : await this.#parts.references.workloadIdOf(workload, caller);
    const stored = await this.#parts.store.list();
    return stored
      .filter((item) => maySee(item, caller))
      .filter(
        (item) => wanted === undefined || (item.kind === 'complete' && item.manifest.workload === wanted),
      )
      .map(describeSnapshot);
  }

  async remove(caller: Caller, reference: string): Promise<void> {
    const id = (await this.#parts.references.findStored(reference, caller)).id;
    await this.#parts.removal.remove(id, { uid: caller.uid });
  }

  async keep(caller: Caller, reference: string, keep: boolean): Promise<void> {
    const { id } = await this.#parts.references.findSnapshot(reference, caller);
    const { locks, store } = this.#parts;
    await whileMarked(locks, id, keep ? 'marked' : 'released', () => store.keep(id, keep));
    this.#parts.log.info({ snapshot: id, keep, uid: caller.uid }, 'snapshot marked');
  }

  async picture(caller: Caller, reference: string, size: string): Promise<string> {
    const known = pictureSizes.find((each) => each === size);
    if (known === undefined) {
      throw new TorporError(
        'usage',
        `A picture has no size "${size}".`,
        `Ask for one of: ${pictureSizes.join(', ')}.`,
      );
    }
    const { manifest } = await this.#parts.references.findSnapshot(reference, caller);
    return this.#parts.pictures.publish(manifest, known, caller.uid);
  }

  async verify(caller: Caller, { readData, subset }: VerifyOptions): Promise<VerifyResult[]> {
    const read = subset ?? (readData ? 'all' : 'nothing');
    const results: VerifyResult[] = [];
    for (const item of await this.#parts.store.list()) {
      if (!maySee(item, caller)) continue;
      try {
        const bytesRead = await this.#parts.store.verify(item.id, read);
        results.push({ snapshot: item.id, ok: true, problem: '', bytesRead });
      } catch (error) {
        if (!(error instanceof TorporError)) throw error;
        results.push({ snapshot: item.id, ok: false, problem: error.message, bytesRead: 0 });
      }
    }
    return results;
  }

  async collect(caller: Caller): Promise<CollectResult> {
    const result = await this.#parts.upkeep.collect();
    await this.#parts.keptFiles.sweep();
    this.#parts.log.info({ ...result, uid: caller.uid }, 'store collected');
    if (caller.uid === 0 || result.skipped.length === 0) return result;
    // What is damaged may be another user's.
    return {
      ...result,
      skipped: ['Something was left, since a part of the store is damaged: root is told which.'],
    };
  }
}
