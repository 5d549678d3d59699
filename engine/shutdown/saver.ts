/**
 * Saves at a power event what its users want to be saved then: all of it as one session at one instant or, where that fails as a
 * whole, each for itself.
 */
import { sentenceOf, TorporError } from '../../api/errors.ts';
import { type PowerEvent, saveEvents } from '../../api/types.ts';
import { specOf } from '../../proto/manifest.ts';
import type { EngineHandlers } from '../bus/service.ts';
import type { Logger } from '../log.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { Caller, Registry } from '../workload/registry.ts';
import type { SaveOutcome, Unsaved } from './guard.ts';
import { isSavedAt, type Policies } from './policies.ts';

export interface SaverParts {
  registry: Pick<Registry, 'all' | 'get'>;
  policies: Pick<Policies, 'of'>;
  engine: Pick<EngineHandlers, 'saveSession' | 'suspend' | 'restoreSession' | 'resume'>;
  log: Logger;
}

const root: Caller = { uid: 0 };
const shutdowns: readonly PowerEvent[] = saveEvents.filter((event) => event !== 'low-battery');

export class PowerEventSaver {
  readonly #parts: SaverParts;
  /** What was saved last, for a shutdown that is cancelled: the name of its session, and what was saved by itself. */
  #session: string | undefined;
  #single: string[] = [];
  /** What is being saved, also past the deadline. */
  #saving: Promise<void> = Promise.resolve();

  constructor(parts: SaverParts) {
    this.#parts = parts;
  }

  /** Whether a shutdown of any kind would find something to save. */
  get hasWork(): boolean {
    return shutdowns.some((event) => this.#wanted(event).length > 0);
  }

  async save(event: PowerEvent, deadline: number): Promise<SaveOutcome> {
    this.#session = undefined;
    this.#single = [];
    const wanted = this.#wanted(event);
    const reasons = new Map<string, string>();
    this.#saving = this.#saveAll(event, wanted, reasons);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, deadline - Date.now());
    });
    await Promise.race([this.#saving, late]);
    clearTimeout(timer);
    const isSaved = ({ id }: WorkloadRecord) => this.#parts.registry.get(id)?.status.kind === 'suspended';
    const unsaved = wanted
      .filter((record) => !isSaved(record) && this.#isThere(record))
      .map(
        (record): Unsaved => ({
          name: record.name,
          user: specOf(record).user.name,
          why: reasons.get(record.id) ?? 'There was not enough time for it.',
        }),
      );
    return { saved: wanted.filter(isSaved).map(({ name }) => name), unsaved };
  }

  /** Settles when nothing is being saved any more. */
  get finished(): Promise<void> {
    return this.#saving;
  }

  /** Brings back what was saved for a shutdown that does not take place. */
  async restore(): Promise<void> {
    const { engine, log } = this.#parts;
    // What was late is suspended by then, too.
    await this.#saving;
    const session = this.#session;
    this.#session = undefined;
    if (session !== undefined) {
      const { left } = await engine.restoreSession(root, session, {});
      if (left.length > 0) log.warn({ left }, 'not all that was saved for the shutdown was brought back');
    }
    for (const id of this.#single.splice(0)) await engine.resume(root, id, { copy: false });
  }

  #wanted(event: PowerEvent): WorkloadRecord[] {
    const { registry, policies } = this.#parts;
    return registry.all().filter((record) => {
      const policy = policies.of(specOf(record).user.uid);
      const runs = ['running', 'suspending'].includes(record.status.kind);
      return runs && (record.kind === 'capsule' || policy.jobs) && isSavedAt(policy, event);
    });
  }

  #isThere({ id }: WorkloadRecord): boolean {
    const kind = this.#parts.registry.get(id)?.status.kind;
    return kind !== undefined && kind !== 'ended';
  }

  async #saveAll(
    event: PowerEvent,
    wanted: readonly WorkloadRecord[],
    reasons: Map<string, string>,
  ): Promise<void> {
    const { engine, log } = this.#parts;
    const ids = wanted.map(({ id }) => id);
    if (ids.length === 0) return;
    try {
      const options = { leaveRunning: false, partial: true, replace: true, reason: event };
      const { left } = await engine.saveSession(root, event, ids, options);
      this.#session = event;
      for (const { workload, what } of left) reasons.set(workload, what);
    } catch (error) {
      log.warn({ err: error }, 'not everything can be saved at one instant; each is saved by itself');
      for (const id of ids) {
        try {
          await engine.suspend(root, id, { leaveRunning: false });
          this.#single.push(id);
        } catch (own) {
          reasons.set(id, sentenceOf(own));
          if (!(own instanceof TorporError)) log.error({ err: own, workload: id }, 'defect in a suspend');
        }
      }
    }
  }
}
