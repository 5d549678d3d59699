/** Snapshots at an interval: beginning and ending them, and taking a turn. When one is due, `intervals/` knows. */
import { TorporError } from '../../api/errors.ts';
import type { Interval, Workload } from '../../api/types.ts';
import { specOf } from '../../proto/manifest.ts';
import type { Turn } from '../intervals/intervals.ts';
import { surplusOf } from '../intervals/surplus.ts';
import { disown } from '../job/disown.ts';
import type { Secondary } from '../locks.ts';
import type { Caller } from '../workload/registry.ts';
import { notRunning } from './descriptions.ts';
import type { OperationParts } from './parts.ts';
import type { Snapshots } from './snapshots.ts';
import type { Suspends } from './suspends.ts';

export class Turns {
  readonly #parts: OperationParts;
  readonly #suspends: Suspends;
  readonly #snapshots: Snapshots;

  constructor(parts: OperationParts, suspends: Suspends, snapshots: Snapshots) {
    this.#parts = parts;
    this.#suspends = suspends;
    this.#snapshots = snapshots;
  }

  async setInterval(caller: Caller, target: string, interval: Interval): Promise<Workload> {
    const [key, meant] = this.#parts.references.meant(target, caller);
    const name = typeof meant === 'number' ? `Process ${meant}` : meant.name;
    return this.#parts.locks.hold(`interval of ${key}`, name, 'given an interval', async () => {
      const { intervals, log } = this.#parts;
      const record = typeof meant === 'number' ? undefined : meant;
      if (record?.status.kind === 'ended') throw notRunning(record);
      let id = record?.id;
      try {
        if (id === undefined || record?.status.kind !== 'suspended')
          id = await this.#takeAtInterval(caller, target, interval);
        await intervals.set(id, interval);
      } finally {
        if (id !== undefined) this.#followOnlyTurns(id);
      }
      log.info({ workload: id, ...interval, uid: caller.uid }, 'snapshots are taken at an interval');
      return this.#parts.descriptions.describe(this.#parts.registry.find(id, caller));
    });
  }

  async endInterval(caller: Caller, target: string): Promise<Workload> {
    const [, meant] = this.#parts.references.meant(target, caller);
    if (typeof meant === 'number' || !(await this.#parts.intervals.end(meant.id))) {
      const name = typeof meant === 'number' ? `process ${meant}` : meant.name;
      throw new TorporError(
        'failed',
        `No snapshots are taken of ${name} at an interval.`,
        `To have them taken: \`torpor snapshots --every 10m ${target}\`.`,
      );
    }
    this.#parts.unwritten.end(meant.id);
    const workload = await this.#parts.descriptions.describe(meant);
    await disown(this.#parts, meant.id);
    this.#parts.log.info({ workload: meant.id, uid: caller.uid }, 'no more snapshots at an interval');
    return workload;
  }

  /** Takes a workload's turn, in its owner's name; it gives way to what is asked of the workload meanwhile. */
  async takeTurn(workload: string, interval: Interval): Promise<Turn> {
    const record = this.#parts.registry.get(workload);
    const other = this.#parts.locks.operationOn(workload);
    if (record === undefined || other !== undefined)
      return {
        kind: 'skipped',
        why: `No snapshot was taken then: it was just being ${other ?? 'forgotten'}.`,
      };
    let gaveWay = false;
    const givesWay = () => {
      gaveWay = true;
    };
    try {
      await this.#takeAtInterval({ uid: specOf(record).user.uid }, workload, interval, { givesWay });
      return { kind: 'taken' };
    } catch (error) {
      if (!gaveWay) throw error;
      return { kind: 'skipped', why: 'No snapshot was taken then: something else was asked of it.' };
    } finally {
      this.#followOnlyTurns(workload);
    }
  }

  /** After a turn in whose time the interval, or the workload, may have ended. */
  #followOnlyTurns(workload: string): void {
    const { intervals, registry, unwritten } = this.#parts;
    const isRunning = registry.get(workload)?.status.kind === 'running';
    if (!isRunning || intervals.stateOf(workload) === undefined) unwritten.end(workload);
  }

  /** @returns the id of the workload that it is, which a process tree may have become by this. */
  async #takeAtInterval(
    caller: Caller,
    target: string,
    { keepLast }: Interval,
    secondary?: Secondary,
  ): Promise<string> {
    const how = { atInterval: true, ...(secondary && { secondary }) };
    const { workload } = await this.#suspends.suspend(caller, target, { leaveRunning: true }, how);
    for (const id of surplusOf(await this.#parts.store.list(), workload.id, keepLast, workload.snapshot)) {
      await this.#snapshots
        .remove(caller, id)
        .catch((error: unknown) =>
          this.#parts.log.warn({ err: error, snapshot: id }, 'an older snapshot could not be removed'),
        );
    }
    return workload.id;
  }
}
