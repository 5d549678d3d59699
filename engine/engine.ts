/**
 * The engine's methods, as its bus interface names them: who may do what, which workload is meant, one operation at a
 * time. The work itself is done by `capsule/`, `transaction/`, `inspect/` and `store/`.
 */
import { join } from 'node:path';
import { TorporError } from '../api/errors.ts';
import type { EnginePaths } from '../api/paths.ts';
import {
  type CapsuleWindow,
  type DoctorCheck,
  type ExecSpec,
  type Inspection,
  type Progress,
  pictureSizes,
  type ResumeOptions,
  type ResumeResult,
  type RunSpec,
  type Snapshot,
  type SuspendOptions,
  type SuspendResult,
  type VerifyOptions,
  type VerifyResult,
  type Workload,
} from '../api/types.ts';
import type { EngineHandlers } from './bus/service.ts';
import type { Capsules } from './capsule/capsules.ts';
import type { Cgroups } from './capsule/cgroup.ts';
import type { Status, WorkloadRecord } from './capsule/record.ts';
import { type Caller, mayUse, type Registry } from './capsule/registry.ts';
import type { CriuClient } from './criu/client.ts';
import { readImages } from './criu/images.ts';
import { diagnose } from './doctor/doctor.ts';
import type { ExecRelay } from './exec/relay.ts';
import type { FileHashes } from './files/hashes.ts';
import { dropRemaps } from './files/remaps.ts';
import { type Inspector, reportOf } from './inspect/inspector.ts';
import type { Installation } from './installation.ts';
import { Locks } from './locks.ts';
import type { Logger } from './log.ts';
import type { CapsuleWindows, RunningRecord } from './screen/windows.ts';
import type { PublishedPictures } from './store/published-pictures.ts';
import type { SnapshotStore, StoredSnapshot } from './store/snapshot-store.ts';
import { Reporter } from './transaction/progress.ts';
import { resume } from './transaction/resume.ts';
import { hasRemaps } from './transaction/surroundings.ts';
import { suspend, untilCalm } from './transaction/suspend.ts';

export interface EngineParts {
  paths: EnginePaths;
  installation: Installation;
  registry: Registry;
  capsules: Capsules;
  cgroups: Cgroups;
  store: SnapshotStore;
  pictures: PublishedPictures;
  criu: CriuClient;
  inspector: Inspector;
  hashes: FileHashes;
  exec: ExecRelay;
  windows: CapsuleWindows;
  log: Logger;
}

type CompleteSnapshot = Extract<StoredSnapshot, { kind: 'complete' }>;

export class Engine implements Omit<EngineHandlers, 'subscribe'> {
  readonly #parts: EngineParts;
  readonly #locks = new Locks();
  readonly #emitProgress: (progress: Progress, ownerUid: number) => void;

  constructor(parts: EngineParts, emitProgress: (progress: Progress, ownerUid: number) => void) {
    this.#parts = parts;
    this.#emitProgress = emitProgress;
  }

  /** Whether an operation is under way or a capsule needs watching. */
  get busy(): boolean {
    return this.#locks.busy || this.#parts.registry.all().some((record) => record.status.kind === 'running');
  }

  async run(caller: Caller, spec: RunSpec): Promise<Workload> {
    const record = await this.#parts.capsules.run(spec, caller);
    this.#hashInIdleTime(record.id);
    return this.describe(record);
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
    const { registry, inspector } = this.#parts;
    const record = this.#findUnlessPid(target, caller);
    if (record === undefined) return reportOf(target, await inspector.inspectPid(Number(target), caller));
    if (record.status.kind !== 'running') throw notRunning(record);
    const running = registry.get(record.id) ?? record;
    await this.#parts.windows.settled(record.id);
    return reportOf(record.name, await inspector.inspectCapsule(running));
  }

  async suspend(caller: Caller, target: string, options: SuspendOptions): Promise<SuspendResult> {
    const record = this.#findUnlessPid(target, caller);
    if (record === undefined) return this.#refuseJob(Number(target), caller);
    return this.#locks.hold(record.id, record.name, 'suspended', async (signal) => {
      const now = this.#parts.registry.get(record.id) ?? record;
      if (now.status.kind !== 'running') throw notRunning(now);
      await this.#parts.windows.settled(now.id);
      using reporter = this.#reporterFor(now, 'suspend');
      const running = { ...now, status: now.status };
      const outcome = await untilCalm(() =>
        suspend(this.#parts, running, options.leaveRunning, reporter.report, signal),
      );
      const stored = await this.#findSnapshot(outcome.manifest.id, caller);
      return {
        workload: await this.describe(this.#parts.registry.get(record.id) ?? now),
        snapshot: describeSnapshot(stored),
        findings: outcome.findings,
        freedBytes: options.leaveRunning ? 0 : outcome.manifest.memoryBytes,
      };
    });
  }

  /** Adopting a process tree that Torpor did not start is not there yet; what ties it can be seen. */
  async #refuseJob(pid: number, caller: Caller): Promise<never> {
    const inspection = await this.#parts.inspector.inspectPid(pid, caller);
    throw new TorporError(
      'blocked',
      `Process ${pid} was not started by Torpor, and this version suspends only applications that it started itself. Nothing was touched.`,
      'Start the application with `torpor run -- COMMAND`; it can then be suspended at any time.',
      { findings: inspection.findings },
    );
  }

  async resume(caller: Caller, target: string, options: ResumeOptions): Promise<ResumeResult> {
    const requestedAt = performance.now();
    const { record, snapshot } = await this.#chooseSnapshot(target, caller);
    return this.#locks.hold(`snapshot ${snapshot.id}`, `Snapshot ${snapshot.id}`, 'resumed', () => {
      const next = options.copy || record === undefined ? this.#newRecord(snapshot) : record;
      return this.#locks.hold(next.id, next.name, 'resumed', async (signal) => {
        const isNew = this.#parts.registry.get(next.id) === undefined;
        const { status } = this.#parts.registry.get(next.id) ?? next;
        if (status.kind !== 'suspended' && status.kind !== 'ended') {
          throw new TorporError(
            'failed',
            `${next.name} is running already; a second one would work on the same files.`,
            `For a second one beside it: \`torpor resume --copy ${target}\`.`,
          );
        }
        const before: Status = isNew ? { kind: 'resuming', snapshot: snapshot.id, copy: true } : status;
        if (isNew) await this.#parts.registry.put({ ...next, status: before });
        using reporter = this.#reporterFor(next, 'resume');
        try {
          const starting = { ...next, status: before };
          const outcome = await resume(this.#parts, starting, snapshot.manifest, reporter.report, signal);
          const resumeMs = performance.now() - requestedAt;
          return {
            workload: await this.describe(this.#parts.registry.get(next.id) ?? next),
            ...outcome,
            resumeMs,
          };
        } catch (error) {
          if (isNew) await this.#parts.registry.remove(next.id);
          throw error;
        }
      });
    });
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
    const { capsules } = this.#parts;
    const { capsule, name } = snapshot.manifest;
    return {
      version: 1,
      id: capsules.newId(),
      name: capsules.freeName(name, capsule.user.uid),
      startedAt: new Date().toISOString(),
      capsule,
      status: { kind: 'suspended', snapshot: snapshot.id },
    };
  }

  #reporterFor(record: WorkloadRecord, operation: Progress['operation']): Reporter {
    return new Reporter(record.id, operation, (progress) => {
      this.#parts.log.debug({ workload: record.id, operation, phase: progress.phase }, 'phase');
      this.#emitProgress(progress, record.capsule.user.uid);
    });
  }

  async cancel(caller: Caller, reference: string): Promise<void> {
    const record = this.#parts.registry.find(reference, caller);
    if (!this.#locks.cancel(record.id)) {
      throw new TorporError('failed', `Nothing is under way on ${record.name}.`, 'See `torpor ps`.');
    }
  }

  async end(caller: Caller, reference: string): Promise<Workload> {
    const record = this.#parts.registry.find(reference, caller);
    return this.#locks.hold(record.id, record.name, 'ended', async () => {
      const { status } = this.#parts.registry.get(record.id) ?? record;
      if (status.kind !== 'running') throw notRunning(record);
      await this.#parts.capsules.end(record.id, status.init);
      return this.describe(this.#parts.registry.get(record.id) ?? record);
    });
  }

  async forget(caller: Caller, reference: string): Promise<void> {
    const { registry, store } = this.#parts;
    const { id, name } = registry.find(reference, caller);
    await this.#locks.hold(id, name, 'forgotten', async () => {
      const kind = registry.get(id)?.status.kind;
      if (kind !== 'ended' && kind !== 'suspended') {
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
    const record = this.#parts.registry.find(reference, caller);
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

  /** A running workload that nothing is under way on: a connection to its X server would be in the way of a suspend. */
  #undisturbed(reference: string, caller: Caller): RunningRecord {
    const record = this.#parts.registry.find(reference, caller);
    if (record.status.kind !== 'running') throw notRunning(record);
    this.#locks.refuseIfHeld(record.id, record.name);
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

  async remove(caller: Caller, reference: string): Promise<void> {
    const id = (await this.#findStored(reference, caller)).id;
    await this.#whileMarked(id, 'removed', () => this.#remove(caller, id));
  }

  async #remove(caller: Caller, id: string): Promise<void> {
    await this.#locks.hold(`snapshot ${id}`, `Snapshot ${id}`, 'removed', async () => {
      if (await this.#parts.store.isKept(id)) throw isKept(id);
      const holder = this.#parts.registry
        .all()
        .find((record) => record.status.kind === 'suspended' && record.status.snapshot === id);
      await this.#forgetLinks(id);
      await this.#parts.store.remove(id);
      await this.#parts.pictures.forget(id);
      if (holder !== undefined) {
        await this.#parts.registry.setStatus(holder.id, {
          kind: 'ended',
          at: new Date().toISOString(),
          note: 'its snapshot was removed',
        });
      }
      this.#parts.log.info({ snapshot: id, workload: holder?.id, uid: caller.uid }, 'snapshot removed');
    });
  }

  async keep(caller: Caller, reference: string, keep: boolean): Promise<void> {
    const { id } = await this.#findSnapshot(reference, caller);
    await this.#whileMarked(id, keep ? 'marked' : 'released', () => this.#parts.store.keep(id, keep));
    this.#parts.log.info({ snapshot: id, keep, uid: caller.uid }, 'snapshot marked');
  }

  /** A mark may be set while a snapshot is being resumed, but not while it is looked at for its removal. */
  #whileMarked<T>(id: string, operation: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.hold(`mark of ${id}`, `Snapshot ${id}`, operation, work);
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

  /** Takes away what a snapshot holds in its user's folders. A damaged one cannot say. */
  async #forgetLinks(id: string): Promise<void> {
    const stored = await this.#parts.store.read(id).catch(() => undefined);
    if (stored === undefined || !hasRemaps(stored)) return;
    const images = await readImages(join(this.#parts.store.folderOf(id), 'images')).catch(() => undefined);
    const view = { root: stored.capsule.root, runFolder: this.#parts.capsules.runFolder(stored.workload) };
    if (images !== undefined) await dropRemaps(images, view, stored.capsule);
  }

  async verify(caller: Caller, options: VerifyOptions): Promise<VerifyResult[]> {
    const results: VerifyResult[] = [];
    for (const item of await this.#parts.store.list()) {
      if (!maySee(item, caller)) continue;
      try {
        const bytesRead = await this.#parts.store.verify(item.id, options.readData);
        results.push({ snapshot: item.id, ok: true, problem: '', bytesRead });
      } catch (error) {
        if (!(error instanceof TorporError)) throw error;
        results.push({ snapshot: item.id, ok: false, problem: error.message, bytesRead: 0 });
      }
    }
    return results;
  }

  async doctor(_caller: Caller): Promise<DoctorCheck[]> {
    return diagnose(this.#parts);
  }

  /** The wire's form of a workload, with the figures of this moment. */
  async describe(record: WorkloadRecord): Promise<Workload> {
    const { status, capsule } = record;
    const runs = status.kind === 'running' || status.kind === 'suspending' || status.kind === 'resuming';
    const pids = runs ? await this.#parts.cgroups.pids(record.id) : [];
    const init = status.kind === 'running' ? status.init.pid : undefined;
    const snapshot = 'snapshot' in status ? status.snapshot : undefined;
    return {
      id: record.id,
      name: record.name,
      kind: 'capsule',
      state: status.kind === 'starting' ? 'running' : status.kind,
      user: capsule.user.name,
      pids: init === undefined ? pids : [init, ...pids.filter((pid) => pid !== init)],
      memoryBytes: runs ? await this.#parts.inspector.memoryOf(pids) : 0,
      command: capsule.command,
      cwd: capsule.cwd,
      ...(capsule.application === undefined ? {} : { application: capsule.application }),
      startedAt: record.startedAt,
      ...(snapshot === undefined ? {} : { snapshot }),
      ...(status.kind === 'running' ? { screen: this.#parts.capsules.screenSocket(record.id) } : {}),
      ...(status.kind === 'ended' && status.exit !== undefined ? { exit: status.exit } : {}),
      ...(status.kind === 'ended' && status.note !== undefined ? { note: status.note } : {}),
    };
  }

  /** The workload that is meant, or undefined where a pid is. A name or id wins over a pid that looks like it. */
  #findUnlessPid(target: string, caller: Caller): WorkloadRecord | undefined {
    try {
      return this.#parts.registry.find(target, caller);
    } catch (error) {
      if (/^\d{1,10}$/.test(target) && error instanceof TorporError && error.code === 'not-found')
        return undefined;
      throw error;
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

function isKept(id: string): TorporError {
  return new TorporError(
    'blocked',
    `Snapshot ${id} is kept, so it is not removed.`,
    `To remove it all the same: \`torpor keep --no ${id}\` first, or \`torpor rm --force ${id}\`.`,
  );
}

/** Whose a damaged snapshot is, nobody can say: only root sees those. */
function maySee(item: StoredSnapshot, caller: Caller): boolean {
  return item.kind === 'complete' ? mayUse(caller, item.manifest.capsule.user.uid) : caller.uid === 0;
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
    user: manifest.capsule.user.name,
    command: manifest.capsule.command,
    ...(manifest.capsule.application === undefined ? {} : { application: manifest.capsule.application }),
    kept: item.kept,
    ...(item.usedAt === undefined ? {} : { usedAt: item.usedAt }),
  };
}
