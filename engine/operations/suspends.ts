/**
 * Inspecting and suspending: who is meant, what becomes a job by it, one operation at a time on each. The work itself is
 * `transaction/`.
 */
import { TorporError } from '../../api/errors.ts';
import type { Inspection, SuspendOptions, SuspendResult } from '../../api/types.ts';
import { specOf } from '../../proto/manifest.ts';
import { capsuleToSuspend } from '../capsule/place.ts';
import { possibleConnections, usualConnections } from '../connections/held.ts';
import { reportOf } from '../inspect/inspector.ts';
import { disown } from '../job/disown.ts';
import { companionsOf, type Member, refuseOverlap } from '../job/members.ts';
import type { Secondary } from '../locks.ts';
import type { SessionTitle } from '../store/sessions.ts';
import { terminalUsedAt } from '../terminal/used.ts';
import type { SuspendPlace } from '../transaction/place.ts';
import { MemberError, suspendSet } from '../transaction/set.ts';
import {
  refuseIfBlocked,
  type SuspendOperation,
  type SuspendOutcome,
  suspend,
  untilCalm,
} from '../transaction/suspend.ts';
import type { StatusOf, WorkloadRecord } from '../workload/record.ts';
import { type Caller, mayUse } from '../workload/registry.ts';
import { roomCgroup } from '../workload/rooms.ts';
import { describeSnapshot, notRunning } from './descriptions.ts';
import { type OperationParts, reporterFor } from './parts.ts';

export class Suspends {
  readonly #parts: OperationParts;

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  async inspect(caller: Caller, target: string): Promise<Inspection> {
    const { inspector, jobs, windows } = this.#parts;
    const record =
      this.#parts.references.findUnlessPid(target, caller) ??
      (await this.#visibleWith(Number(target), caller));
    const asJob = async () => ({
      connections: await possibleConnections(usualConnections.job, this.#parts.criu),
    });
    if (record === undefined)
      return reportOf(target, await inspector.inspectPid(Number(target), caller, await asJob()));
    const now = this.#runningNow(record);
    await this.#parts.userSessions.noteCaller(caller);
    const { plugins } = this.#parts;
    const found = plugins.forSuspend(now, false, plugins.time()).inspect();
    found.catch(() => {});
    if (now.kind === 'capsule') await windows.settled(now.id);
    const inspection =
      now.kind === 'job' ? await jobs.inspect(now, await asJob()) : await inspector.inspectCapsule(now);
    return reportOf(now.name, { ...inspection, findings: [...inspection.findings, ...(await found)] });
  }

  suspend(
    caller: Caller,
    target: string,
    options: SuspendOptions,
    { atInterval = false, secondary }: { atInterval?: boolean; secondary?: Secondary } = {},
  ): Promise<SuspendResult> {
    const work = async ([record]: WorkloadRecord[], signal: AbortSignal) => {
      if (record === undefined) throw new Error('nothing to suspend');
      const now = this.#runningNow(record);
      const lastUsedAt = await this.#settle(now);
      using reporter = reporterFor(this.#parts, now, 'suspend');
      const pluginTime = this.#parts.plugins.time();
      const operation = { report: reporter.report, signal, pluginTime, lastUsedAt, atInterval };
      const outcome = await untilCalm((freezeSeconds) => {
        signal.throwIfAborted();
        const place = this.#placeOf(now, freezeSeconds);
        return suspend(this.#parts, now, place, options, operation);
      });
      return this.#suspendResult(caller, now, outcome, options, operation);
    };
    return this.#withRecords(caller, [target], options, work, secondary);
  }

  /** Nobody asks anything of it any more. @returns when it was last used, as far as that is known. */
  async #settle(record: WorkloadRecord & { status: StatusOf<'running'> }): Promise<Date | undefined> {
    const { windows } = this.#parts;
    if (record.kind === 'job') return terminalUsedAt(await this.pidsOf(record));
    const lastUsedAt = await windows.lastUsedAt({ ...record, status: record.status });
    await windows.settled(record.id);
    return lastUsedAt;
  }

  /** A workload as it is by now. @throws TorporError `failed` where it does not run. */
  #runningNow(record: WorkloadRecord): WorkloadRecord & { status: StatusOf<'running'> } {
    const now = this.#parts.registry.get(record.id) ?? record;
    if (now.status.kind !== 'running') throw notRunning(now);
    return { ...now, status: now.status };
  }

  async #suspendResult(
    caller: Caller,
    record: WorkloadRecord,
    { manifest, findings }: SuspendOutcome,
    { leaveRunning }: SuspendOptions,
    { pluginTime }: SuspendOperation,
  ): Promise<SuspendResult> {
    const stored = await this.#parts.references.findSnapshot(manifest.id, caller);
    if (!leaveRunning)
      this.#parts.measurements.add(record, 'suspend', {
        gainBytes: manifest.memoryBytes,
        diskBytes: stored.bytesOnDisk,
        ms: manifest.durableMs,
      });
    return {
      workload: await this.#parts.descriptions.describe(this.#parts.registry.get(record.id) ?? record),
      snapshot: describeSnapshot(stored),
      findings,
      freedBytes: leaveRunning ? 0 : manifest.memoryBytes,
      pluginsMs: pluginTime.waitedMs,
    };
  }

  async suspendSet(
    caller: Caller,
    targets: readonly string[],
    options: SuspendOptions,
    title?: SessionTitle,
  ): Promise<SuspendResult[]> {
    return this.#withRecords(caller, targets, options, (records, signal) =>
      this.#suspendRecords(caller, records, options, signal, title),
    );
  }

  async #suspendRecords(
    caller: Caller,
    records: readonly WorkloadRecord[],
    options: SuspendOptions,
    signal: AbortSignal,
    title: SessionTitle | undefined,
  ): Promise<SuspendResult[]> {
    const running = records.map((record) => this.#runningNow(record));
    const lastUsed = await Promise.all(running.map((record) => this.#settle(record)));
    const reporters = running.map((record) => reporterFor(this.#parts, record, 'suspend'));
    try {
      const operations = new Map<string, SuspendOperation>(
        running.map(({ id }, index) => {
          const report = reporters[index]?.report ?? (() => {});
          const pluginTime = this.#parts.plugins.time();
          return [id, { report, signal, pluginTime, lastUsedAt: lastUsed[index] }];
        }),
      );
      const operationOf = ({ id }: WorkloadRecord) => {
        const operation = operations.get(id);
        if (operation === undefined) throw new Error(`${id} is not suspended here`);
        return operation;
      };
      const outcomes = await untilCalm((freezeSeconds) => {
        const placeOf = (record: (typeof running)[number]) => this.#placeOf(record, freezeSeconds);
        signal.throwIfAborted();
        return suspendSet(this.#parts, running, placeOf, options, operationOf, signal, title);
      });
      const results = running.map((record, index) => {
        const outcome = outcomes[index];
        return outcome === undefined
          ? []
          : [this.#suspendResult(caller, record, outcome, options, operationOf(record))];
      });
      return await Promise.all(results.flat());
    } finally {
      for (const reporter of reporters) reporter[Symbol.dispose]();
    }
  }

  /**
   * The workloads that are meant, for a suspend of all of them, with nobody else at work on one. Process trees among them
   * become jobs, held from before anybody can see them; where it fails, and there is no snapshot of one, that is as it
   * was before.
   * @throws TorporError, as `inspectPid`, or `blocked`.
   */
  async #withRecords<T>(
    caller: Caller,
    targets: readonly string[],
    options: SuspendOptions,
    work: (records: WorkloadRecord[], signal: AbortSignal) => Promise<T>,
    secondary?: Secondary,
  ): Promise<T> {
    this.#parts.store.encryption.refuseIfLocked();
    const meant = [
      ...new Map(targets.map((target) => this.#parts.references.meant(target, caller))).values(),
    ];
    const idOf = new Map(
      meant.map((each) => [each, typeof each === 'number' ? this.#parts.workloads.newId() : each.id]),
    );
    const keys = [...idOf].flatMap(([each, id]) => {
      if (typeof each !== 'number') return [{ key: id, what: each.name }];
      const what = `Process ${each}`;
      return [
        { key: `process ${each}`, what },
        { key: id, what },
      ];
    });
    const whileHeld = async (signal: AbortSignal) => {
      await this.#parts.userSessions.noteCaller(caller);
      for (const each of idOf.keys()) if (typeof each !== 'number') await this.#parts.naps.wake(each.id);
      const members = await Promise.all(
        [...idOf].map(async ([each, id]) => ({ meant: each, id, pids: await this.pidsOf(each) })),
      );
      refuseOverlap(members);
      const adopted: string[] = [];
      try {
        const records: WorkloadRecord[] = [];
        for (const member of members) {
          if (typeof member.meant !== 'number') records.push(member.meant);
          else {
            const companions = companionsOf(member, members);
            const record = await this.#adopt(member.meant, member.id, caller, options, companions).catch(
              (error: unknown) => {
                throw ofMember(error, member, members);
              },
            );
            adopted.push(record.id);
            records.push(record);
          }
        }
        return await work(records, signal);
      } catch (error) {
        for (const id of adopted) await disown(this.#parts, id);
        const failed =
          error instanceof MemberError ? members.find(({ id }) => id === error.member) : undefined;
        throw failed === undefined ? error : ofMember(error, failed, members);
      }
    };
    return this.#parts.locks.holdAll(keys, 'suspended', whileHeld, secondary);
  }

  async pidsOf(meant: Member['meant']): Promise<number[]> {
    const { cgroups, inspector, jobs } = this.#parts;
    if (typeof meant === 'number') return inspector.treeOf(meant);
    return meant.kind === 'job' ? jobs.pids(meant) : cgroups.pids(meant.id);
  }

  /** How CRIU meets it; anew for each try. */
  #placeOf(record: WorkloadRecord & { status: StatusOf<'running'> }, freezeSeconds: number): SuspendPlace {
    const { status } = record;
    const place =
      record.kind === 'capsule'
        ? capsuleToSuspend(this.#parts, { ...record, status })
        : this.#parts.jobs.toSuspend({ ...record, status });
    return { ...place, options: { ...place.options, timeout: freezeSeconds } };
  }

  /** The job that a process tree becomes by this. @throws TorporError, as `inspectPid`, or `blocked`. */
  async #adopt(
    pid: number,
    id: string,
    caller: Caller,
    { externalSockets }: SuspendOptions,
    companions: ReadonlyMap<number, string>,
  ): Promise<WorkloadRecord> {
    const { jobs, inspector } = this.#parts;
    const inspection = await inspector.inspectPid(pid, caller, { externalSockets, companions });
    const { processes } = inspection.facts;
    await this.#refuseMember(processes.map((each) => each.pid));
    refuseIfBlocked(processes[0]?.name ?? String(pid), inspection.findings);
    return jobs.adopt(pid, id, inspection);
  }

  /** What belongs to a workload already, or stands around one, is suspended with it. */
  async #refuseMember(pids: readonly number[]): Promise<void> {
    const found = await this.#memberAmong(pids);
    if (found === undefined) return;
    const { member, name } = found;
    throw new TorporError(
      'blocked',
      `Process ${member} belongs to the workload ${name}. Nothing was touched.`,
      `Suspend that: \`torpor suspend ${name}\`.`,
    );
  }

  /** The workload that a process would be suspended with, if it is the caller's. */
  async #visibleWith(pid: number, caller: Caller): Promise<WorkloadRecord | undefined> {
    const found = await this.#memberAmong([pid]);
    return found !== undefined && mayUse(caller, specOf(found).user.uid) ? found : undefined;
  }

  async #memberAmong(pids: readonly number[]): Promise<(WorkloadRecord & { member: number }) | undefined> {
    const { registry, cgroups } = this.#parts;
    for (const record of registry.all()) {
      const own = [...(await cgroups.pids(record.id)), ...(await cgroups.pids(roomCgroup(record.id)))];
      const member = own.find((pid) => pids.includes(pid));
      if (member !== undefined) return { ...record, member };
    }
    return undefined;
  }
}

const nameOf = (meant: Member['meant']) => (typeof meant === 'number' ? `Process ${meant}` : meant.name);

/** The failure of one of several, by which its caller knows it. */
function ofMember(
  error: unknown,
  { meant }: Pick<Member, 'meant'>,
  all: readonly Pick<Member, 'meant'>[],
): unknown {
  if (error instanceof MemberError) {
    if (typeof meant === 'number') error.member = `process ${meant}`;
    return error;
  }
  if (!(error instanceof TorporError) || all.length < 2) return error;
  const others = all.filter((each) => each.meant !== meant).map((each) => nameOf(each.meant));
  return new MemberError(typeof meant === 'number' ? `process ${meant}` : meant.id, error, others);
}
