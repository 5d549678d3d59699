/**
 * The engine's methods, as its bus interface names them: who may do what, which workload is meant, one operation at a
 * time. The work itself is done by `capsule/`, `transaction/`, `inspect/` and `store/`.
 */
import { TorporError } from '../api/errors.ts';
import type { EnginePaths } from '../api/paths.ts';
import {
  type CapsuleWindow,
  type CollectResult,
  type DoctorCheck,
  type EncryptionChange,
  type EncryptionStatus,
  type ExecSpec,
  type ExportOptions,
  type ExportResult,
  type Finding,
  type ImportOptions,
  type ImportResult,
  type Inspection,
  type Interval,
  type PluginReport,
  type ProfileQuery,
  type ProfileReport,
  type Progress,
  pictureSizes,
  type ResumeChoices,
  type ResumeOptions,
  type ResumeResult,
  type RunSpec,
  type Settings,
  type Snapshot,
  type SuspendOptions,
  type SuspendResult,
  type VerifyOptions,
  type VerifyResult,
  type Workload,
} from '../api/types.ts';
import { kindOf, type Manifest, specOf, type WorkloadKind } from '../proto/manifest.ts';
import type { Bundles } from './bundle/bundles.ts';
import type { EngineHandlers } from './bus/service.ts';
import type { Capsules } from './capsule/capsules.ts';
import { capsuleToResume, capsuleToSuspend } from './capsule/place.ts';
import { findUser } from './capsule/users.ts';
import { possibleConnections, usualConnections } from './connections/held.ts';
import type { CriuClient } from './criu/client.ts';
import { diagnose } from './doctor/doctor.ts';
import type { ExecRelay } from './exec/relay.ts';
import type { FileHashes } from './files/hashes.ts';
import { type Inspector, reportOf } from './inspect/inspector.ts';
import type { Installation } from './installation.ts';
import type { Intervals, Turn } from './intervals/intervals.ts';
import { surplusOf } from './intervals/surplus.ts';
import { disown } from './job/disown.ts';
import type { Jobs } from './job/jobs.ts';
import { companionsOf, type Member, refuseOverlap } from './job/members.ts';
import type { Locks, Secondary } from './locks.ts';
import type { Logger } from './log.ts';
import type { Pagers } from './pages/pagers.ts';
import type { UnwrittenMemory } from './pages/unwritten.ts';
import type { PluginHost } from './plugin-host/plugin-host.ts';
import type { PluginPrograms } from './plugin-host/plugin-programs.ts';
import type { UserSessions } from './plugin-host/user-sessions.ts';
import type { Profiles } from './profiles/profiles.ts';
import { reportProfiles } from './profiles/report.ts';
import { isKept, type Removal, whileMarked } from './removal.ts';
import type { CapsuleWindows, RunningRecord } from './screen/windows.ts';
import type { EngineSettings } from './settings.ts';
import { pipesBroken } from './sockets/pipes.ts';
import type { Secret } from './store/encryption/encryption.ts';
import { describeEncryption } from './store/encryption/status.ts';
import type { PublishedPictures } from './store/published-pictures.ts';
import type { Quota } from './store/quota.ts';
import type { Sessions } from './store/sessions.ts';
import type { SnapshotStore, StoredSnapshot } from './store/snapshot-store.ts';
import type { Upkeep } from './store/upkeep.ts';
import type { ResumePlace, SuspendPlace } from './transaction/place.ts';
import { Reporter } from './transaction/progress.ts';
import { resume } from './transaction/resume.ts';
import { resumeSet } from './transaction/resume-set.ts';
import { suspendSet } from './transaction/set.ts';
import {
  refuseIfBlocked,
  type SuspendOperation,
  type SuspendOutcome,
  suspend,
  untilCalm,
} from './transaction/suspend.ts';
import type { Cgroups } from './workload/cgroup.ts';
import type { CapsuleRecord, Status, StatusOf, WorkloadRecord } from './workload/record.ts';
import { type Caller, mayUse, type Registry } from './workload/registry.ts';
import { roomCgroup } from './workload/rooms.ts';
import type { Workloads } from './workload/workloads.ts';

export interface EngineParts {
  paths: EnginePaths;
  installation: Installation;
  registry: Registry;
  workloads: Workloads;
  capsules: Capsules;
  jobs: Jobs;
  cgroups: Cgroups;
  store: SnapshotStore;
  upkeep: Upkeep;
  quota: Quota;
  removal: Removal;
  settings: EngineSettings;
  locks: Locks;
  sessions: Sessions;
  pictures: PublishedPictures;
  criu: CriuClient;
  inspector: Inspector;
  hashes: FileHashes;
  exec: ExecRelay;
  windows: CapsuleWindows;
  profiles: Profiles;
  plugins: PluginHost;
  pluginPrograms: PluginPrograms;
  userSessions: UserSessions;
  intervals: Intervals;
  pagers: Pagers;
  unwritten: UnwrittenMemory;
  bundles: Bundles;
  log: Logger;
}

type CompleteSnapshot = Extract<StoredSnapshot, { kind: 'complete' }>;

export class Engine implements Omit<EngineHandlers, 'subscribe'> {
  readonly #parts: EngineParts;
  readonly #emitProgress: (progress: Progress, ownerUid: number) => void;

  constructor(parts: EngineParts, emitProgress: (progress: Progress, ownerUid: number) => void) {
    this.#parts = parts;
    this.#emitProgress = emitProgress;
  }

  /** Whether an operation is under way or a capsule needs watching. */
  get busy(): boolean {
    return (
      this.#parts.locks.busy || this.#parts.registry.all().some((record) => record.status.kind === 'running')
    );
  }

  async run(caller: Caller, spec: RunSpec): Promise<Workload> {
    this.#parts.userSessions.note(caller.uid, spec.callerEnv);
    const { record, told } = await this.#parts.capsules.run(spec, caller);
    this.#hashInIdleTime(record.id);
    const workload = await this.describe(record);
    return told.length === 0 ? workload : { ...workload, told };
  }

  async profiles(caller: Caller, query: ProfileQuery): Promise<ProfileReport> {
    return reportProfiles(this.#parts.profiles, caller, query);
  }

  async takeBack(caller: Caller, consent: string): Promise<void> {
    await this.#parts.profiles.takeBack(await findUser(caller.uid), consent);
  }

  async plugins(caller: Caller): Promise<PluginReport> {
    await this.#noteSession(caller);
    return this.#parts.plugins.report(await findUser(caller.uid));
  }

  async registerPlugin(caller: Caller, name: string): Promise<void> {
    await this.#parts.pluginPrograms.register(caller, name);
  }

  /** Where the caller's own session is, plugins that are started for it need to know. */
  async #noteSession({ uid, pid }: Caller): Promise<void> {
    if (pid !== undefined) await this.#parts.userSessions.noteProcess(uid, pid);
  }

  /** Hashed now, and once more when more is loaded, the files it has mapped do not hold up its first suspend. */
  #hashInIdleTime(id: string): void {
    const { cgroups, hashes } = this.#parts;
    for (const delayMs of [0, 10_000]) {
      setTimeout(async () => hashes.warm(await cgroups.pids(id)), delayMs).unref();
    }
  }

  async list(caller: Caller): Promise<Workload[]> {
    return Promise.all(this.#parts.registry.visibleTo(caller).map((record) => this.describe(record)));
  }

  async get(caller: Caller, reference: string): Promise<Workload> {
    return this.describe(this.#parts.registry.find(reference, caller));
  }

  async inspect(caller: Caller, target: string): Promise<Inspection> {
    const { inspector, jobs, windows } = this.#parts;
    const record = this.#findUnlessPid(target, caller) ?? (await this.#visibleWith(Number(target), caller));
    const asJob = async () => ({
      connections: await possibleConnections(usualConnections.job, this.#parts.criu),
    });
    if (record === undefined)
      return reportOf(target, await inspector.inspectPid(Number(target), caller, await asJob()));
    const now = this.#runningNow(record);
    await this.#noteSession(caller);
    const { plugins } = this.#parts;
    const found = plugins.forSuspend(now, false, plugins.time()).inspect();
    found.catch(() => {});
    if (now.kind === 'capsule') await windows.settled(now.id);
    const inspection =
      now.kind === 'job' ? await jobs.inspect(now, await asJob()) : await inspector.inspectCapsule(now);
    return reportOf(now.name, { ...inspection, findings: [...inspection.findings, ...(await found)] });
  }

  async suspend(caller: Caller, target: string, options: SuspendOptions): Promise<SuspendResult> {
    return this.#suspend(caller, target, options);
  }

  #suspend(
    caller: Caller,
    target: string,
    options: SuspendOptions,
    { atInterval = false, secondary }: { atInterval?: boolean; secondary?: Secondary } = {},
  ): Promise<SuspendResult> {
    const work = async ([record]: WorkloadRecord[], signal: AbortSignal) => {
      if (record === undefined) throw new Error('nothing to suspend');
      const now = this.#runningNow(record);
      if (now.kind === 'capsule') await this.#parts.windows.settled(now.id);
      using reporter = this.#reporterFor(now, 'suspend');
      const pluginTime = this.#parts.plugins.time();
      const operation = { report: reporter.report, signal, pluginTime, atInterval };
      const outcome = await untilCalm((freezeSeconds) => {
        signal.throwIfAborted();
        const place = this.#placeOf(now, freezeSeconds);
        return suspend(this.#parts, now, place, options, operation);
      });
      return this.#suspendResult(caller, now, outcome, options, operation);
    };
    return this.#withRecords(caller, [target], options, work, secondary);
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
    return {
      workload: await this.describe(this.#parts.registry.get(record.id) ?? record),
      snapshot: describeSnapshot(await this.#findSnapshot(manifest.id, caller)),
      findings,
      freedBytes: leaveRunning ? 0 : manifest.memoryBytes,
      pluginsMs: pluginTime.waitedMs,
    };
  }

  async suspendSet(
    caller: Caller,
    targets: readonly string[],
    options: SuspendOptions,
  ): Promise<SuspendResult[]> {
    return this.#withRecords(caller, targets, options, (records, signal) =>
      this.#suspendRecords(caller, records, options, signal),
    );
  }

  async #suspendRecords(
    caller: Caller,
    records: readonly WorkloadRecord[],
    options: SuspendOptions,
    signal: AbortSignal,
  ): Promise<SuspendResult[]> {
    const running = records.map((record) => this.#runningNow(record));
    const capsules = running.filter(({ kind }) => kind === 'capsule');
    await Promise.all(capsules.map(({ id }) => this.#parts.windows.settled(id)));
    const reporters = running.map((record) => this.#reporterFor(record, 'suspend'));
    try {
      const operations = new Map(
        running.map(({ id }, index) => {
          const report = reporters[index]?.report ?? (() => {});
          return [id, { report, signal, pluginTime: this.#parts.plugins.time() }];
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
        return suspendSet(this.#parts, running, placeOf, options, operationOf, signal);
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
    const meant = [...new Map(targets.map((target) => this.#meant(target, caller))).values()];
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
      await this.#noteSession(caller);
      const members = await Promise.all(
        [...idOf].map(async ([each, id]) => ({ meant: each, id, pids: await this.#pidsOf(each) })),
      );
      refuseOverlap(members);
      const adopted: string[] = [];
      try {
        const records: WorkloadRecord[] = [];
        for (const member of members) {
          if (typeof member.meant !== 'number') records.push(member.meant);
          else {
            const companions = companionsOf(member, members);
            const record = await this.#adopt(member.meant, member.id, caller, options, companions);
            adopted.push(record.id);
            records.push(record);
          }
        }
        return await work(records, signal);
      } catch (error) {
        for (const id of adopted) await disown(this.#parts, id);
        throw error;
      }
    };
    return this.#parts.locks.holdAll(keys, 'suspended', whileHeld, secondary);
  }

  /** A workload, or a process that is none, with a key that is the same for the same one. */
  #meant(target: string, caller: Caller): [string, Member['meant']] {
    const { registry, jobs } = this.#parts;
    const known = this.#findUnlessPid(target, caller) ?? jobs.recordOf(Number(target));
    if (known === undefined) return [`process ${Number(target)}`, Number(target)];
    return [known.id, registry.find(known.id, caller)];
  }

  async #pidsOf(meant: Member['meant']): Promise<number[]> {
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

  async resume(caller: Caller, target: string, options: ResumeOptions): Promise<ResumeResult> {
    const requestedAt = performance.now();
    await this.#noteSession(caller);
    const { record, snapshot } = await this.#chooseSnapshot(target, caller);
    return this.#parts.locks.hold(
      `snapshot ${snapshot.id}`,
      `Snapshot ${snapshot.id}`,
      'resumed',
      (ofSnapshot) => {
        const next = options.copy || record === undefined ? this.#newRecord(snapshot) : record;
        return this.#parts.locks.hold(next.id, next.name, 'resumed', async (ofWorkload) => {
          const signal = AbortSignal.any([ofSnapshot, ofWorkload]);
          const isNew = this.#parts.registry.get(next.id) === undefined;
          const { status } = this.#parts.registry.get(next.id) ?? next;
          if (status.kind !== 'suspended' && status.kind !== 'ended') {
            throw isRunningAlready(next, target);
          }
          const before: Status = isNew ? { kind: 'resuming', snapshot: snapshot.id, copy: true } : status;
          if (isNew) await this.#parts.registry.put({ ...next, status: before });
          using reporter = this.#reporterFor(next, 'resume');
          try {
            const starting = { ...next, status: before };
            const outcome = await resume(
              this.#parts,
              starting,
              snapshot.manifest,
              () => this.#makePlace(next.id, snapshot, caller),
              reporter.report,
              signal,
              options,
            );
            const resumeMs = performance.now() - requestedAt;
            return {
              workload: await this.describe(this.#parts.registry.get(next.id) ?? next),
              ...outcome,
              findings: [...outcome.findings, ...companionsLeft(snapshot.manifest, [])],
              resumeMs,
            };
          } catch (error) {
            if (isNew) await this.#parts.registry.remove(next.id);
            throw error;
          }
        });
      },
    );
  }

  async resumeSet(
    caller: Caller,
    targets: readonly string[],
    choices: ResumeChoices,
  ): Promise<ResumeResult[]> {
    const requestedAt = performance.now();
    await this.#noteSession(caller);
    const chosen = new Map<string, { record: WorkloadRecord; snapshot: CompleteSnapshot }>();
    for (const target of targets) {
      const { record, snapshot } = await this.#chooseSnapshot(target, caller);
      if (record === undefined) {
        throw new TorporError(
          'not-found',
          `The workload of snapshot ${snapshot.id} has been forgotten, so it cannot be resumed together with others.`,
          `Resume it by itself: \`torpor resume ${target}\`.`,
        );
      }
      chosen.set(record.id, { record, snapshot });
    }
    const members = [...chosen.values()];
    const keys = members.flatMap(({ record: { id, name }, snapshot }) => [
      { key: `snapshot ${snapshot.id}`, what: `Snapshot ${snapshot.id}` },
      { key: id, what: name },
    ]);
    return this.#parts.locks.holdAll(keys, 'resumed', async (signal) => {
      const starting = members.map(({ record, snapshot }) => {
        const now = this.#parts.registry.get(record.id) ?? record;
        if (now.status.kind !== 'suspended' && now.status.kind !== 'ended') throw isRunningAlready(now);
        const makePlace = () => this.#makePlace(now.id, snapshot, caller);
        return {
          record: now,
          manifest: snapshot.manifest,
          makePlace,
          reporter: this.#reporterFor(now, 'resume'),
        };
      });
      try {
        const outcomes = await resumeSet(
          this.#parts,
          starting.map((each) => ({ ...each, report: each.reporter.report, choices })),
          this.#parts.workloads.scratchFolder(`set-${starting[0]?.record.id}`),
          signal,
        );
        const resumeMs = performance.now() - requestedAt;
        const manifests = starting.map(({ manifest }) => manifest);
        return await Promise.all(
          starting.map(async ({ record, manifest }, index) => ({
            workload: await this.describe(this.#parts.registry.get(record.id) ?? record),
            criuMs: outcomes[index]?.criuMs ?? 0,
            pluginsMs: outcomes[index]?.pluginsMs ?? 0,
            findings: [...(outcomes[index]?.findings ?? []), ...companionsLeft(manifest, manifests)],
            resumeMs,
          })),
        );
      } finally {
        for (const { reporter } of starting) reporter[Symbol.dispose]();
      }
    });
  }

  /** What it comes back in; anew for each try. */
  async #makePlace(id: string, { manifest }: CompleteSnapshot, caller: Caller): Promise<ResumePlace> {
    const { jobs, store, bundles } = this.#parts;
    if (manifest.kind === 'capsule') {
      const { layer, user } = manifest.capsule;
      if (layer !== undefined) await bundles.layers.mount(layer.id, user);
      return capsuleToResume(this.#parts, id, manifest.capsule);
    }
    return jobs.toResume(id, manifest, store.contentFolderOf(manifest.id), caller);
  }

  /** The snapshot a reference means, and the workload it belongs to if that is still known. */
  async #chooseSnapshot(
    target: string,
    caller: Caller,
  ): Promise<{ record: WorkloadRecord | undefined; snapshot: CompleteSnapshot }> {
    const { registry, store } = this.#parts;
    const stored = await this.#findSnapshot(target, caller).catch((error: unknown) => {
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
    return { record, snapshot: await this.#findSnapshot(id, caller) };
  }

  async #newestSnapshotOf(record: WorkloadRecord): Promise<string | undefined> {
    const { status } = record;
    if (status.kind === 'suspended' || status.kind === 'running') {
      if (status.snapshot !== undefined) return status.snapshot;
    }
    const stored = await this.#parts.store.list();
    return stored.find((item) => item.kind === 'complete' && item.manifest.workload === record.id)?.id;
  }

  /** A record for a snapshot that becomes a workload of its own. */
  #newRecord(snapshot: CompleteSnapshot): WorkloadRecord {
    const { workloads } = this.#parts;
    const { manifest } = snapshot;
    return {
      ...kindOf(manifest),
      version: 1,
      id: workloads.newId(),
      name: workloads.freeName(manifest.name, specOf(manifest).user.uid),
      startedAt: new Date().toISOString(),
      status: { kind: 'suspended', snapshot: snapshot.id },
    };
  }

  #reporterFor(record: WorkloadRecord, operation: Progress['operation']): Reporter {
    return new Reporter(record.id, operation, (progress) => {
      this.#parts.log.debug({ workload: record.id, operation, phase: progress.phase }, 'phase');
      this.#emitProgress(progress, specOf(record).user.uid);
    });
  }

  async cancel(caller: Caller, reference: string): Promise<void> {
    if (reference.startsWith('/')) {
      if (this.#parts.bundles.cancel(caller, reference)) return;
      throw new TorporError('failed', `No bundle is being written or read at ${reference}.`);
    }
    const { key, name } = await this.#underWay(caller, reference);
    if (!this.#parts.locks.cancel(key)) {
      throw new TorporError('failed', `Nothing is under way on ${name}.`, 'See `torpor ps`.');
    }
  }

  /** What an operation holds that was begun with this reference: a workload, a process that becomes one, or a snapshot. */
  async #underWay(caller: Caller, reference: string): Promise<{ key: string; name: string }> {
    try {
      const [id, meant] = this.#meant(reference, caller);
      if (typeof meant !== 'number') return { key: id, name: meant.name };
    } catch (error) {
      const snapshot = await this.#findSnapshot(reference, caller).catch(() => undefined);
      if (snapshot === undefined) throw error;
      return { key: `snapshot ${snapshot.id}`, name: `snapshot ${snapshot.id}` };
    }
    throw new TorporError('not-found', `Process ${reference} is no workload.`, 'See `torpor ps`.');
  }

  async end(caller: Caller, reference: string): Promise<Workload> {
    const record = this.#parts.registry.find(reference, caller);
    return this.#parts.locks.hold(record.id, record.name, 'ended', async () => {
      const { status } = this.#parts.registry.get(record.id) ?? record;
      if (status.kind !== 'running') throw notRunning(record);
      const isWhereItStarted = record.kind === 'job' && status.room === undefined;
      const pids = isWhereItStarted ? await this.#pidsOf({ ...record, status }) : [];
      await this.#parts.workloads.end(record.id, status.init, pids);
      return this.describe(this.#parts.registry.get(record.id) ?? record);
    });
  }

  async forget(caller: Caller, reference: string): Promise<void> {
    const { registry, store } = this.#parts;
    const { id, name } = registry.find(reference, caller);
    await this.#parts.locks.hold(id, name, 'forgotten', async () => {
      const now = registry.get(id);
      const kind = now?.status.kind;
      // A job that runs where it was started is not Torpor's to end.
      const isFree = now?.kind === 'job' && now.status.kind === 'running' && now.status.room === undefined;
      if (kind !== 'ended' && kind !== 'suspended' && !isFree) {
        throw new TorporError(
          'failed',
          `${name} is running, so it is not forgotten.`,
          `End it first: \`torpor end ${name}\`.`,
        );
      }
      const stored = (await store.list()).flatMap((item) => (item.kind === 'complete' ? item : []));
      const own = stored.filter((item) => item.manifest.workload === id);
      const kept = own.find((item) => item.kept);
      if (kept !== undefined) throw isKept(kept.id);
      for (const snapshot of own) await this.remove(caller, snapshot.id);
      await registry.remove(id);
      this.#parts.log.info({ workload: id, snapshots: own.length, uid: caller.uid }, 'workload forgotten');
    });
  }

  async exec(caller: Caller, reference: string, spec: ExecSpec): Promise<string> {
    const record = this.#capsule(reference, caller);
    if (record.status.kind !== 'running') throw notRunning(record);
    return this.#parts.exec.prepare({ ...record, status: record.status }, spec, caller);
  }

  async windows(caller: Caller, workload: string): Promise<CapsuleWindow[]> {
    return this.#parts.windows.list(this.#undisturbed(workload, caller));
  }

  async windowIcon(caller: Caller, workload: string, window: number): Promise<Uint8Array> {
    return this.#parts.windows.icon(this.#undisturbed(workload, caller), window);
  }

  async activateWindow(caller: Caller, workload: string, window: number): Promise<void> {
    await this.#parts.windows.activate(this.#undisturbed(workload, caller), window);
  }

  async closeWindows(caller: Caller, workload: string): Promise<void> {
    const record = this.#undisturbed(workload, caller);
    await this.#parts.windows.close(record);
    this.#parts.log.info({ workload: record.id }, 'its windows were asked to close');
  }

  /** @throws TorporError `failed` for a job, which has no screen and no inside. */
  #capsule(reference: string, caller: Caller): CapsuleRecord {
    const record = this.#parts.registry.find(reference, caller);
    if (record.kind === 'capsule') return record;
    throw new TorporError(
      'failed',
      `${record.name} is a job: it has a terminal, and no screen and no session of its own.`,
      `See it with \`torpor attach ${record.name}\`.`,
    );
  }

  /** A running workload that nothing is under way on: a connection to its X server would be in the way of a suspend. */
  #undisturbed(reference: string, caller: Caller): RunningRecord {
    const record = this.#capsule(reference, caller);
    if (record.status.kind !== 'running') throw notRunning(record);
    this.#parts.locks.refuseIfHeld(record.id, record.name);
    return { ...record, status: record.status };
  }

  async snapshots(caller: Caller, workload: string): Promise<Snapshot[]> {
    const wanted = workload === '' ? undefined : await this.#workloadIdOf(workload, caller);
    const stored = await this.#parts.store.list();
    return stored
      .filter((item) => maySee(item, caller))
      .filter(
        (item) => wanted === undefined || (item.kind === 'complete' && item.manifest.workload === wanted),
      )
      .map(describeSnapshot);
  }

  /** A workload that has been forgotten may still have snapshots: they are found by its id or name too. */
  async #workloadIdOf(reference: string, caller: Caller): Promise<string> {
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

  async setInterval(caller: Caller, target: string, interval: Interval): Promise<Workload> {
    const [key, meant] = this.#meant(target, caller);
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
      return this.get(caller, id);
    });
  }

  async endInterval(caller: Caller, target: string): Promise<Workload> {
    const [, meant] = this.#meant(target, caller);
    if (typeof meant === 'number' || !(await this.#parts.intervals.end(meant.id))) {
      const name = typeof meant === 'number' ? `process ${meant}` : meant.name;
      throw new TorporError(
        'failed',
        `No snapshots are taken of ${name} at an interval.`,
        `To have them taken: \`torpor snapshots --every 10m ${target}\`.`,
      );
    }
    this.#parts.unwritten.end(meant.id);
    const workload = await this.describe(meant);
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
    const { workload } = await this.#suspend(caller, target, { leaveRunning: true }, how);
    for (const id of surplusOf(await this.#parts.store.list(), workload.id, keepLast, workload.snapshot)) {
      await this.remove(caller, id).catch((error: unknown) =>
        this.#parts.log.warn({ err: error, snapshot: id }, 'an older snapshot could not be removed'),
      );
    }
    return workload.id;
  }

  async remove(caller: Caller, reference: string): Promise<void> {
    const id = (await this.#findStored(reference, caller)).id;
    await this.#parts.removal.remove(id, { uid: caller.uid });
  }

  async keep(caller: Caller, reference: string, keep: boolean): Promise<void> {
    const { id } = await this.#findSnapshot(reference, caller);
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
    const { manifest } = await this.#findSnapshot(reference, caller);
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

  async export(caller: Caller, targets: readonly string[], options: ExportOptions): Promise<ExportResult> {
    const startedAt = performance.now();
    const found: Finding[] = [];
    const written = await this.#parts.bundles.export(
      caller,
      options,
      async () => {
        const running = targets.filter(
          (target) => this.#findOrNone(target, caller)?.status.kind === 'running',
        );
        const { leaveRunning } = options;
        const results = running.length === 0 ? [] : await this.suspendSet(caller, running, { leaveRunning });
        found.push(...results.flatMap(({ findings }) => findings));
        return Promise.all(
          targets.map(async (target) => (await this.#chooseSnapshot(target, caller)).snapshot.manifest),
        );
      },
      (progress) => this.#emitProgress(progress, caller.uid),
    );
    const records = targets.map((target) => this.#findOrNone(target, caller));
    return {
      path: options.path,
      ...written,
      findings: [...found, ...written.findings],
      workloads: await Promise.all(
        records.filter((record) => record !== undefined).map((record) => this.describe(record)),
      ),
      tookMs: performance.now() - startedAt,
    };
  }

  async import(caller: Caller, options: ImportOptions): Promise<ImportResult> {
    const startedAt = performance.now();
    const { imported, records } = await this.#parts.bundles.import(caller, options, (progress) =>
      this.#emitProgress(progress, caller.uid),
    );
    const { taken: _taken, ...rest } = imported;
    return {
      path: options.path,
      ...rest,
      workloads: await Promise.all(records.map((record) => this.describe(record))),
      tookMs: performance.now() - startedAt,
    };
  }

  async collect(caller: Caller): Promise<CollectResult> {
    const result = await this.#parts.upkeep.collect();
    this.#parts.log.info({ ...result, uid: caller.uid }, 'store collected');
    if (caller.uid === 0 || result.skipped.length === 0) return result;
    // What is damaged may be another user's.
    return {
      ...result,
      skipped: ['Something was left, since a part of the store is damaged: root is told which.'],
    };
  }

  async settings(caller: Caller): Promise<Settings> {
    refuseUnlessRoot(caller);
    return this.#parts.settings.now;
  }

  async changeSettings(caller: Caller, settings: Settings): Promise<void> {
    refuseUnlessRoot(caller);
    await this.#parts.settings.replace(settings);
    this.#parts.log.info({ settings, uid: caller.uid }, 'settings changed');
  }

  async encryption(caller: Caller): Promise<EncryptionStatus> {
    this.#refuseUnlessKeyHolder(caller);
    const { store, paths } = this.#parts;
    return describeEncryption(store, paths.runDir, caller.uid);
  }

  async changeEncryption(caller: Caller, change: EncryptionChange): Promise<EncryptionStatus> {
    this.#refuseUnlessKeyHolder(caller);
    const { store, upkeep } = this.#parts;
    const { encryption } = store;
    switch (change.action) {
      case 'on':
        refuseUnlessRoot(caller, 'Turning encryption on and off is');
        await encryption.turnOn(change.passphrase, change.user, await store.keysNeeded());
        break;
      case 'off':
        refuseUnlessRoot(caller, 'Turning encryption on and off is');
        await encryption.turnOff();
        break;
      case 'unlock':
        await encryption.unlock(secretOf(caller, change));
        break;
      case 'lock':
        await encryption.lock();
        break;
      case 'passphrase':
        await encryption.changePassphrase(change.passphrase, change.next);
        break;
      case 'keyring':
        await encryption.addKeyring(caller.uid, Buffer.from(change.key, 'hex'));
        break;
    }
    // What is there already is encrypted anew beside everything else.
    if (encryption.state === 'unlocked') upkeep.compressSoon();
    return this.encryption(caller);
  }

  #refuseUnlessKeyHolder({ uid }: Caller): void {
    if (uid === 0 || uid === this.#parts.store.encryption.user) return;
    throw new TorporError(
      'not-permitted',
      'The encryption of snapshots is for the whole machine: root alone sees and changes it, and who root has named.',
      'Use sudo.',
    );
  }

  async doctor(caller: Caller): Promise<DoctorCheck[]> {
    await this.#noteSession(caller);
    return diagnose(this.#parts, await findUser(caller.uid));
  }

  /** The wire's form of a workload, with the figures of this moment. */
  async describe(record: WorkloadRecord): Promise<Workload> {
    const { status } = record;
    const spec = specOf(record);
    const runs = status.kind === 'running' || status.kind === 'suspending' || status.kind === 'resuming';
    const { cgroups, jobs } = this.#parts;
    const pids = runs ? await (record.kind === 'job' ? jobs.pids(record) : cgroups.pids(record.id)) : [];
    const init = status.kind === 'running' && record.kind === 'capsule' ? status.init.pid : undefined;
    const snapshot = 'snapshot' in status ? status.snapshot : undefined;
    const interval = this.#parts.intervals.stateOf(record.id);
    const loading = status.kind === 'running' ? this.#parts.pagers.loading(record.id) : undefined;
    return {
      id: record.id,
      name: record.name,
      kind: record.kind,
      state: status.kind === 'starting' ? 'running' : status.kind,
      user: spec.user.name,
      pids: init === undefined ? pids : [init, ...pids.filter((pid) => pid !== init)],
      memoryBytes: runs ? await this.#parts.inspector.memoryOf(pids) : 0,
      command: spec.command,
      cwd: spec.cwd,
      ...applicationOf(record),
      ...(record.kind === 'capsule' && record.capsule.profiles !== undefined
        ? { profiles: record.capsule.profiles.names }
        : {}),
      startedAt: record.startedAt,
      ...(loading === undefined ? {} : { loading }),
      ...(snapshot === undefined ? {} : { snapshot }),
      ...(interval === undefined ? {} : { interval }),
      ...this.#reachOf(record),
      ...(status.kind === 'ended' && status.exit !== undefined ? { exit: status.exit } : {}),
      ...(status.kind === 'ended' && status.note !== undefined ? { note: status.note } : {}),
    };
  }

  /** By which sockets it is reached: the screen and the bus of a capsule, the terminal of a job. */
  #reachOf(record: WorkloadRecord): Pick<Workload, 'screen' | 'bus' | 'terminal'> {
    const { capsules } = this.#parts;
    // What belongs on the bus should be there before the application looks for it.
    if (record.status.kind === 'starting' && record.kind === 'capsule')
      return { bus: capsules.busSocket(record.id) };
    if (record.status.kind !== 'running') return {};
    if (record.kind === 'capsule')
      return { screen: capsules.screenSocket(record.id), bus: capsules.busSocket(record.id) };
    const isOwn = record.status.room !== undefined && record.job.terminal !== undefined;
    return isOwn ? { terminal: this.#parts.jobs.terminalSocket(record.id) } : {};
  }

  /** The workload that is meant, or undefined where a pid is. A name or id wins over a pid that looks like it. */
  #findUnlessPid(target: string, caller: Caller): WorkloadRecord | undefined {
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
  #findOrNone(reference: string, caller: Caller): WorkloadRecord | undefined {
    try {
      return this.#parts.registry.find(reference, caller);
    } catch {
      return undefined;
    }
  }

  async #findSnapshot(reference: string, caller: Caller): Promise<CompleteSnapshot> {
    const item = await this.#findStored(reference, caller);
    if (item.kind === 'complete') return item;
    throw new TorporError(
      'failed',
      item.problem,
      'See `torpor verify --read-data`; an earlier snapshot may still resume.',
    );
  }

  async #findStored(reference: string, caller: Caller): Promise<StoredSnapshot> {
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
}

function isRunningAlready({ name }: WorkloadRecord, target = name): TorporError {
  return new TorporError(
    'failed',
    `${name} is running already; a second one would work on the same files.`,
    `For a second one beside it: \`torpor resume --copy ${target}\`.`,
  );
}

/** Who belongs to the session of a snapshot and is not resumed with it. */
function companionsLeft(manifest: Manifest, resumed: readonly Manifest[]): Finding[] {
  const { session, workload } = manifest;
  const broken = pipesBroken(manifest, resumed);
  const left = (session?.members ?? []).filter(
    (each) => each.workload !== workload && !resumed.some((other) => other.workload === each.workload),
  );
  if (session === undefined || left.length === 0) return broken;
  const names = session.members.map(({ name }) => name).join(' ');
  return [
    ...broken,
    {
      tie: 'session',
      verdict: 'handled',
      by: 'engine',
      what: `It was suspended at the same instant as ${left.map(({ name }) => name).join(', ')}.`,
      hint: `\`torpor resume ${names}\` resumes them together, with the sockets and pipes between them connected.`,
    },
  ];
}

function refuseUnlessRoot({ uid }: Caller, what = 'The settings of the engine are'): void {
  if (uid !== 0)
    throw new TorporError('not-permitted', `${what} for the whole machine, and for root alone.`, 'Use sudo.');
}

function secretOf(
  { uid }: Caller,
  { passphrase, key }: Extract<EncryptionChange, { action: 'unlock' }>,
): Secret {
  if (passphrase !== undefined) return { kind: 'passphrase', passphrase };
  if (key !== undefined) return { kind: 'keyring', uid, key: Buffer.from(key, 'hex') };
  throw new TorporError('usage', 'Neither a passphrase nor a key was given.');
}

/** Whose a damaged snapshot is, nobody can say: only root sees those. */
function maySee(item: StoredSnapshot, caller: Caller): boolean {
  return item.kind === 'complete' ? mayUse(caller, specOf(item.manifest).user.uid) : caller.uid === 0;
}

function applicationOf(workload: WorkloadKind): { application?: string } {
  const application = workload.kind === 'capsule' ? workload.capsule.application : undefined;
  return application === undefined ? {} : { application };
}

function notRunning(record: WorkloadRecord): TorporError {
  const words: Record<WorkloadRecord['status']['kind'], string> = {
    starting: 'is just being started',
    running: 'is running',
    suspending: 'is just being suspended',
    suspended: 'is suspended',
    resuming: 'is just being resumed',
    ended: 'has ended',
  };
  const hint =
    record.status.kind === 'suspended'
      ? `Resume it with \`torpor resume ${record.name}\`.`
      : 'See `torpor ps`.';
  return new TorporError('failed', `${record.name} ${words[record.status.kind]}.`, hint);
}

function describeSnapshot(item: StoredSnapshot): Snapshot {
  if (item.kind === 'damaged') {
    return {
      id: item.id,
      workload: '',
      name: '',
      takenAt: '',
      bytesOnDisk: 0,
      memoryBytes: 0,
      standstillMs: 0,
      durableMs: 0,
      user: '',
      command: [],
      kept: false,
      damaged: item.problem,
    };
  }
  const { manifest } = item;
  return {
    id: item.id,
    workload: manifest.workload,
    name: manifest.name,
    takenAt: manifest.takenAt,
    bytesOnDisk: item.bytesOnDisk,
    memoryBytes: manifest.memoryBytes,
    standstillMs: manifest.standstillMs,
    durableMs: manifest.durableMs,
    user: specOf(manifest).user.name,
    command: specOf(manifest).command,
    ...applicationOf(manifest),
    kept: item.kept,
    ...(manifest.atInterval ? { atInterval: true } : {}),
    ...(item.usedAt === undefined ? {} : { usedAt: item.usedAt }),
  };
}
