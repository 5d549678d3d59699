/**
 * Naps: a running workload is held still where it is, and its memory is written back. What is needed to let it go is in its
 * record before it is held, so that an engine that dies leaves nothing still that the next one does not know of.
 */
import { sentenceOf, TorporError } from '../../api/errors.ts';
import { runCommand } from '../command.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import type { StatusOf, WorkloadRecord } from '../workload/record.ts';
import type { Registry } from '../workload/registry.ts';
import { type Desktop, type Display, grabbedText } from './desktop.ts';
import { swapToKeep } from './gain.ts';
import type { Hold, Holder } from './hold.ts';
import { type MachineMemory, machineMemory, memoryOf, type ProcessMemory, untilWritten } from './memory.ts';
import { parseWrittenBack, type WrittenBack } from './written-back.ts';

export type RunningRecord = WorkloadRecord & { status: StatusOf<'running'> };

export interface Figures {
  memory: ProcessMemory;
  machine: MachineMemory;
}

export interface Fallen {
  before: Figures;
  after: Figures;
  /** From the request to stand still until all did. */
  holdMs: number;
  /** What kept memory from being written back to its end. */
  stopped: WrittenBack['stopped'];
}

export interface NapParts {
  registry: Registry;
  installation: Installation;
  holder: Holder;
  desktop: Desktop;
  log: Logger;
}

/** Others who wait for memory for more of the time than that, in percent, are not to wait for a nap's sake. */
const pressurePercent = 20;
const writeLimitMs = 120_000;

export class Naps {
  readonly #parts: NapParts;

  /** What is held, by workload. */
  readonly #held = new Map<string, Hold>();

  constructor(parts: NapParts) {
    this.#parts = parts;
    parts.registry.onChange((record) => void this.#follow(record));
    parts.registry.onForgotten(({ id }) => void this.#let(id));
  }

  async #follow({ id, status }: WorkloadRecord): Promise<void> {
    if (status.kind === 'running' && status.nap !== undefined) this.#held.set(id, status.nap.hold);
    else await this.#let(id);
  }

  /** After its end there is nothing to go on, but cgroups to remove. */
  async #let(id: string): Promise<void> {
    const hold = this.#held.get(id);
    if (hold === undefined) return;
    this.#held.delete(id);
    await this.#parts.holder
      .release(hold)
      .catch((error: unknown) => this.#parts.log.error({ err: error, workload: id }, 'it may be held still'));
  }

  /**
   * Holds a workload still and has its memory written back.
   * @param list its processes, as of now.
   * @param display where its windows are, if others have theirs there, too.
   * @param keeper a connection with the bus, with whose end it is to be woken.
   * @throws TorporError `failed` where it does not come to stand still, or would hold up that display; it runs on then.
   */
  async fallAsleep(
    record: RunningRecord,
    hold: Hold,
    list: () => Promise<readonly number[]>,
    display: Display | undefined,
    keeper?: string,
  ): Promise<Fallen> {
    const { registry, holder, desktop, log } = this.#parts;
    const pids = await list();
    const before = await figuresOf(pids);
    const changes = display === undefined ? [] : await desktop.quiet(display, pids);
    const nap = {
      since: new Date().toISOString(),
      hold,
      ...(display === undefined ? {} : { quiet: { display, changes } }),
      ...(keeper === undefined ? {} : { keeper }),
    };
    await registry.put({ ...record, status: { ...record.status, nap: { ...nap, isAsleep: false } } });
    let holdMs: number;
    let stopped: WrittenBack['stopped'];
    try {
      const startedAt = performance.now();
      await holder.hold(hold, list);
      holdMs = performance.now() - startedAt;
      if (display !== undefined) await this.#refuseIfHeldUp(display);
      ({ stopped } = await this.#writeBack(await list(), before.machine));
    } catch (error) {
      await this.wake(record.id);
      throw error;
    }
    // It may have ended meanwhile, held or not.
    const now = registry.get(record.id);
    if (now?.status.kind === 'running')
      await registry.put({ ...now, status: { ...now.status, nap: { ...nap, isAsleep: true } } });
    await untilWritten();
    const after = await figuresOf(await list());
    log.info({ workload: record.id, pss: [before.memory.pss, after.memory.pss], stopped, holdMs }, 'napping');
    return { before, after, holdMs, stopped };
  }

  /** It may have taken the pointer, or the whole display, just before it came to stand still. */
  async #refuseIfHeldUp(display: Display): Promise<void> {
    const { grabbed } = await this.#parts.desktop.look(display, []);
    if (grabbed) throw new TorporError('blocked', grabbedText, 'Try again when it is closed.');
  }

  async #writeBack(pids: readonly number[], machine: MachineMemory): Promise<WrittenBack> {
    const { installation } = this.#parts;
    const limits = ['--keep-swap', String(swapToKeep(machine)), '--pressure', String(pressurePercent)];
    const { status, stdout, stderr } = await runCommand(
      installation.nap,
      ['out', ...limits, ...pids.map(String)],
      { timeoutMs: writeLimitMs },
    );
    if (status !== 0)
      throw new TorporError(
        'failed',
        `Its memory could not be written back: ${sentenceOf(new Error(stderr.trim()))}`,
        'It runs on as before.',
      );
    return parseWrittenBack(stdout);
  }

  /** Lets a workload go on, if it naps. @returns whether it did */
  async wake(id: string): Promise<boolean> {
    const { registry, holder, desktop, log } = this.#parts;
    const record = registry.get(id);
    if (record?.status.kind !== 'running' || record.status.nap === undefined) return false;
    const { nap, ...status } = record.status;
    await holder.release(nap.hold);
    this.#held.delete(id);
    if (nap.quiet !== undefined)
      await desktop
        .restore(nap.quiet.display, nap.quiet.changes)
        .catch((error: unknown) =>
          log.warn({ err: error, workload: id }, 'its windows are not asked any more'),
        );
    const now = registry.get(id);
    // What was held by signals or by version 1 may end as soon as it is let go.
    if (now?.status.kind === 'running') await registry.put({ ...record, status });
    log.info({ workload: id }, 'awake');
    return true;
  }

  /** Ids of what naps for as long as this connection lasts. */
  keptBy(connection: string): string[] {
    return this.#parts.registry
      .all()
      .flatMap(({ id, status }) =>
        status.kind === 'running' && status.nap?.keeper === connection ? [id] : [],
      );
  }

  /**
   * After an engine's start: what was falling asleep as the one before died is let go, and what somebody had sleep for as long as they were
   * connected; what sleeps otherwise and still stands still sleeps on, and what is held that no record knows is let go.
   * @returns ids of what was let go.
   */
  async recover(): Promise<string[]> {
    const { registry, holder, log } = this.#parts;
    const known = new Set<string>();
    const woken: string[] = [];
    for (const { id, status } of registry.all()) {
      if (status.kind !== 'running' || status.nap === undefined) continue;
      const sleepsOn = status.nap.isAsleep && status.nap.keeper === undefined;
      if (sleepsOn && (await holder.isHeld(status.nap.hold))) {
        if (status.nap.hold.kind === 'cgroups') for (const each of status.nap.hold.made) known.add(each);
        continue;
      }
      log.warn(
        { workload: id },
        'woken: the engine before ended as it fell asleep, or who keeps it asleep is not connected',
      );
      await this.wake(id);
      woken.push(id);
    }
    for (const folder of await holder.leftBehind()) {
      if (known.has(folder)) continue;
      log.warn({ cgroup: folder }, 'what was held in it is let go');
      await holder.releaseCgroup(folder);
    }
    return woken;
  }
}

async function figuresOf(pids: readonly number[]): Promise<Figures> {
  const [memory, machine] = await Promise.all([memoryOf(pids), machineMemory()]);
  return { memory, machine };
}
