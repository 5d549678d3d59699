/** Naps as callers ask for them: of workloads, and of process trees that Torpor did not start, which are jobs while they nap. */
import { TorporError } from '../../api/errors.ts';
import type { Finding, NapOptions, NapPlan, NapResult, WakeResult } from '../../api/types.ts';
import { specOf } from '../../proto/manifest.ts';
import { textOf } from '../inspect/kernel-files.ts';
import { commandOf, readProcessLine } from '../inspect/proc.ts';
import { refuseByPid, refuseOthers } from '../inspect/refusals.ts';
import { disown } from '../job/disown.ts';
import { type Display, displayOf, findingsAboutLook } from '../nap/desktop.ts';
import { expectedGain } from '../nap/gain.ts';
import { type Hold, isApplicationUnit } from '../nap/hold.ts';
import { machineMemory, memoryOf } from '../nap/memory.ts';
import type { RunningRecord } from '../nap/naps.ts';
import { canWaive, findingsAboutNap } from '../nap/refusals.ts';
import { type Caller, mayUse } from '../workload/registry.ts';
import { notRunning } from './descriptions.ts';
import type { OperationParts } from './parts.ts';

/** What is meant, before anything is touched. */
interface Meant {
  /** Undefined where a pid is. */
  record: RunningRecord | undefined;
  name: string;
  /** All its processes, as of now. */
  list: () => Promise<readonly number[]>;
  /** How it would be held. */
  hold: () => Promise<Hold>;
}

/** One who wants something to nap only as long as they are there. */
interface Keeper {
  connection: string;
  hasLeft: boolean;
}

export class NapOperations {
  readonly #parts: OperationParts;
  /** Those whose naps are just being made. */
  readonly #keepers = new Set<Keeper>();

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  async plan(caller: Caller, target: string): Promise<NapPlan> {
    const [, meant] = this.#parts.references.meant(target, caller);
    return this.#planOf(caller, await this.#meant(caller, meant));
  }

  /** @throws TorporError `blocked` with what stands in the way; or `failed`, and it runs on. */
  async nap(caller: Caller, target: string, options: NapOptions): Promise<NapResult> {
    const { locks, references, naps, descriptions, registry, log } = this.#parts;
    const [key, meant] = references.meant(target, caller);
    const name = typeof meant === 'number' ? `Process ${meant}` : meant.name;
    return locks.hold(key, name, 'put to a nap', async () => {
      const startedAt = performance.now();
      const found = await this.#meant(caller, meant);
      const plan = await this.#planOf(caller, found);
      refuseIfBlocked(plan, options.anyway ?? false);
      const adopted = found.record === undefined;
      const record = found.record ?? (await this.#adopt(caller, Number(meant)));
      const keeper = options.whileConnected ? this.#keeper(caller) : undefined;
      try {
        const fallen = await naps.fallAsleep(
          record,
          await found.hold(),
          found.list,
          await this.#displayOf(found),
          keeper?.connection,
        );
        if (keeper?.hasLeft) {
          await naps.wake(record.id);
          throw new TorporError('failed', `${name} was woken: who wanted its nap has gone.`);
        }
        const { before, after, holdMs, stopped } = fallen;
        this.#parts.measurements.add(record, 'nap', {
          gainBytes: Math.max(0, after.machine.available - before.machine.available),
          ms: performance.now() - startedAt,
        });
        return {
          workload: await descriptions.describe(registry.get(record.id) ?? record),
          plan,
          memoryBefore: before.memory.pss,
          memoryAfter: after.memory.pss,
          availableBefore: before.machine.available,
          availableAfter: after.machine.available,
          ...(stopped === null ? {} : { stopped }),
          holdMs,
        };
      } catch (error) {
        log.warn({ err: error, workload: record.id }, 'no nap');
        if (adopted) await disown(this.#parts, record.id);
        throw error;
      } finally {
        if (keeper !== undefined) this.#keepers.delete(keeper);
      }
    });
  }

  /** @throws TorporError `failed` for what does not nap. */
  async wake(caller: Caller, target: string): Promise<WakeResult> {
    const { locks, references, naps, descriptions, registry } = this.#parts;
    const [key, meant] = references.meant(target, caller);
    const name = typeof meant === 'number' ? `Process ${meant}` : meant.name;
    return locks.hold(key, name, 'woken', async () => {
      const startedAt = performance.now();
      if (typeof meant === 'number' || !(await naps.wake(meant.id)))
        throw new TorporError('failed', `${name} does not nap.`, 'See `torpor ps`.');
      const wakeMs = performance.now() - startedAt;
      this.#parts.measurements.add(meant, 'wake', { ms: wakeMs });
      const workload = await descriptions.describe(registry.get(meant.id) ?? meant);
      await disown(this.#parts, meant.id);
      return { workload, wakeMs };
    });
  }

  #keeper({ connection }: Caller): Keeper | undefined {
    if (connection === undefined) return undefined;
    const keeper = { connection, hasLeft: false };
    this.#keepers.add(keeper);
    return keeper;
  }

  /** Somebody has left the bus: what was to nap only as long as they were there is woken. */
  async left(connection: string): Promise<void> {
    const { locks, naps, registry } = this.#parts;
    for (const keeper of this.#keepers) if (keeper.connection === connection) keeper.hasLeft = true;
    for (const id of naps.keptBy(connection))
      await locks.holdNext(id, registry.get(id)?.name ?? id, 'woken', async () => {
        if (await naps.wake(id)) await disown(this.#parts, id);
      });
  }

  /** @throws TorporError `not-found`, `not-permitted`, `blocked` for no application, or `failed` for what does not run. */
  async #meant(caller: Caller, meant: ReturnType<OperationParts['references']['meant']>[1]): Promise<Meant> {
    return typeof meant === 'number' ? this.#treeOf(caller, meant) : this.#workload(meant);
  }

  #workload(record: Exclude<ReturnType<OperationParts['references']['meant']>[1], number>): Meant {
    const { registry, cgroups, jobs } = this.#parts;
    const now = registry.get(record.id) ?? record;
    const { status } = now;
    if (status.kind !== 'running') throw notRunning(now);
    if (status.nap !== undefined)
      throw new TorporError('failed', `${now.name} naps already.`, `Wake it: \`torpor wake ${now.name}\`.`);
    const list = () => (now.kind === 'job' ? jobs.pids(now) : cgroups.pids(now.id));
    const hasOwnCgroup = now.kind === 'capsule' || status.room !== undefined;
    return {
      record: { ...now, status },
      name: now.name,
      list,
      hold: async () =>
        (hasOwnCgroup ? this.#parts.holder.wholeOf(cgroups.pathOf(now.id)) : undefined) ??
        this.#parts.holder.partOf(now.id, await list()),
    };
  }

  /** All that the desktop has started with it as one application, or it and what is below it. */
  async #treeOf(caller: Caller, pid: number): Promise<Meant> {
    const { inspector } = this.#parts;
    const { name, ppid } = refuseByPid(pid, caller);
    const folder = this.#parts.holder.cgroupOf(pid);
    // Where it is the first there, the unit is its own, and not that of a terminal in which it was started.
    const isWhole =
      folder !== undefined && isApplicationUnit(folder) && this.#parts.holder.cgroupOf(ppid) !== folder;
    // What the others of it have is not the caller's to hold either.
    if (isWhole) refuseOthers(await this.#parts.holder.membersOf(folder), pid, caller);
    return {
      record: undefined,
      name,
      list: async () => (isWhole ? this.#parts.holder.membersOf(folder) : inspector.treeOf(pid)),
      hold: async () =>
        (isWhole ? this.#parts.holder.wholeOf(folder) : undefined) ??
        this.#parts.holder.partOf(String(pid), inspector.treeOf(pid)),
    };
  }

  async #planOf(caller: Caller, { record, name, list }: Meant): Promise<NapPlan> {
    const pids = [...(await list())];
    const [memory, machine] = await Promise.all([memoryOf(pids), machineMemory()]);
    const expected = expectedGain(memory, machine);
    const isCapsule = record?.kind === 'capsule';
    const display = isCapsule ? undefined : displayOf(pids);
    const findings = [
      ...findingsAboutNap({ pids, isCapsule, callerPid: caller.pid }),
      ...this.#parts.neverNap.findings(ownerOf(record, pids), commandFor(record, pids)),
      ...(isCapsule ? [] : await this.#parts.soundUse.findings(pids)),
      ...(await this.#parts.transfers.findings(pids)),
      ...(display === undefined ? [] : await this.#findingsAboutDisplay(name, display, pids)),
    ];
    return {
      name,
      pids,
      memoryBytes: memory.pss,
      gainBytes: expected.bytes,
      fileBytes: expected.fileBytes,
      swapBytes: expected.swapBytes,
      staysBytes: expected.staysBytes,
      swapTotalBytes: machine.swapTotal,
      swapFreeBytes: machine.swapFree,
      ...(expected.zramRatio === undefined ? {} : { zramRatio: expected.zramRatio }),
      findings: [...findings, ...findingsAboutSwap(name, machine.swapTotal, expected.staysBytes)],
      mayAnyway: findings.every(canWaive),
    };
  }

  /** Where others have their windows, too; undefined where it has none there. */
  async #displayOf({ record, list }: Meant): Promise<Display | undefined> {
    if (record?.kind === 'capsule') return undefined;
    const pids = await list();
    const display = displayOf(pids);
    if (display === undefined) return undefined;
    const look = await this.#parts.desktop.look(display, pids).catch(() => undefined);
    return look === undefined || look.windows.length === 0 ? undefined : display;
  }

  /** A display that does not answer, such as one that has gone, is none. */
  async #findingsAboutDisplay(name: string, display: Display, pids: readonly number[]): Promise<Finding[]> {
    const look = await this.#parts.desktop.look(display, pids).catch((error: unknown) => {
      this.#parts.log.info({ err: error, display: display.display }, 'not asked for windows');
      return undefined;
    });
    return look === undefined || look.windows.length === 0 ? [] : findingsAboutLook(name, look);
  }

  /** The job that a process tree is while it naps. */
  async #adopt(caller: Caller, pid: number): Promise<RunningRecord> {
    const { inspector, jobs, workloads, registry } = this.#parts;
    const inspection = await inspector.inspectPid(pid, caller);
    const inside = new Set(inspection.facts.processes.map((each) => each.pid));
    for (const other of registry.all())
      for (const member of await this.#parts.cgroups.pids(other.id))
        if (inside.has(member)) throw belongsTo(member, other.name, mayUse(caller, specOf(other).user.uid));
    return jobs.adopt(pid, workloads.newId(), inspection);
  }
}

function belongsTo(pid: number, name: string, isTheirs: boolean): TorporError {
  const process = `Process ${pid} (${readProcessLine(pid)?.name ?? '?'})`;
  return isTheirs
    ? new TorporError(
        'blocked',
        `${process} belongs to the workload ${name}.`,
        `Nap that: \`torpor nap ${name}\`.`,
      )
    : new TorporError(
        'not-permitted',
        `${process} belongs to another user's workload.`,
        'Ask its owner, or root.',
      );
}

/** Whose it is. */
function ownerOf(record: RunningRecord | undefined, pids: readonly number[]): number {
  if (record !== undefined) return specOf(record).user.uid;
  return Number(/^Uid:\s+(\d+)/m.exec(textOf(`/proc/${pids[0]}/status`) ?? '')?.[1] ?? -1);
}

function commandFor(record: RunningRecord | undefined, pids: readonly number[]): readonly string[] {
  return record === undefined ? commandOf(pids[0] ?? 0) : specOf(record).command;
}

function findingsAboutSwap(name: string, swapTotal: number, staysBytes: number): Finding[] {
  if (staysBytes === 0) return [];
  const mib = `${Math.ceil(staysBytes / 1024 ** 2)} MiB`;
  const why = swapTotal === 0 ? 'there is no swap' : 'swap is nearly full';
  return [
    {
      tie: 'swap',
      verdict: 'degraded',
      by: '',
      what: `${mib} of ${name} stay in memory, since ${why}.`,
      hint: `Suspend it instead, which frees all of it (\`torpor suspend\`), or add swap, such as zram.`,
    },
  ];
}

function refuseIfBlocked({ name, findings }: NapPlan, anyway: boolean): void {
  const blocking = findings.filter((each) => each.verdict === 'blocking' && !(anyway && canWaive(each)));
  const [first] = blocking;
  if (first === undefined) return;
  throw new TorporError('blocked', `${name} is not put to a nap: ${first.what}`, first.hint, { findings });
}
