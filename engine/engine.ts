/**
 * The engine's methods, as its bus interface names them: who may do what, which workload is meant, one operation at a
 * time. The work itself is done by `capsule/`, `transaction/`, `inspect/` and `store/`.
 */
import { join } from 'node:path';
import { TorporError } from '../api/errors.ts';
import type {
  DoctorCheck,
  Interval,
  PluginReport,
  ProfileQuery,
  ProfileReport,
  RunSpec,
  Workload,
} from '../api/types.ts';
import type { EngineHandlers } from './bus/service.ts';
import { findUser } from './capsule/users.ts';
import { diagnose } from './doctor/doctor.ts';
import type { Turn } from './intervals/intervals.ts';
import { Canary } from './kexec/canary.ts';
import { Kernels } from './kexec/kernels.ts';
import { Kexec } from './kexec/kexec.ts';
import { Administration } from './operations/administration.ts';
import { BundleOperations } from './operations/bundles.ts';
import { Descriptions, notRunning } from './operations/descriptions.ts';
import { Insides } from './operations/insides.ts';
import { MemoryReports } from './operations/memory.ts';
import { NapOperations } from './operations/naps.ts';
import type { EngineParts, OperationParts } from './operations/parts.ts';
import { References } from './operations/references.ts';
import { Resumes } from './operations/resumes.ts';
import { SessionOperations } from './operations/sessions.ts';
import { Snapshots } from './operations/snapshots.ts';
import { Suspends } from './operations/suspends.ts';
import { Turns } from './operations/turns.ts';
import { WarmStarts } from './operations/warm.ts';
import { reportProfiles } from './profiles/report.ts';
import { isKept } from './removal.ts';
import type { WorkloadRecord } from './workload/record.ts';
import type { Caller } from './workload/registry.ts';

type Handlers = Omit<EngineHandlers, 'subscribe'>;

export class Engine implements Handlers {
  readonly #parts: OperationParts;
  readonly #suspends: Suspends;
  readonly #resumes: Resumes;
  readonly #warmStarts: WarmStarts;
  readonly #snapshots: Snapshots;
  readonly #sessions: SessionOperations;
  readonly #naps: NapOperations;
  readonly #memory: MemoryReports;
  readonly #kexec: Kexec;
  readonly #turns: Turns;
  readonly #bundles: BundleOperations;
  readonly #administration: Administration;
  readonly #insides: Insides;

  constructor(parts: EngineParts, emitProgress: OperationParts['emitProgress']) {
    const references = new References(parts);
    const descriptions = new Descriptions(parts);
    const all = { ...parts, references, descriptions, emitProgress };
    this.#parts = all;
    this.#suspends = new Suspends(all);
    this.#resumes = new Resumes(all);
    this.#warmStarts = new WarmStarts(all, this.#suspends, this.#resumes);
    this.#snapshots = new Snapshots(all);
    this.#sessions = new SessionOperations(all, this.#suspends, this.#resumes);
    this.#naps = new NapOperations(all);
    this.#memory = new MemoryReports(all);
    this.#kexec = new Kexec({
      stateDir: parts.paths.stateDir,
      registry: parts.registry,
      store: parts.store,
      kernels: new Kernels(),
      canary: new Canary({
        criu: parts.criu,
        installation: parts.installation,
        folder: join(parts.paths.stateDir, 'canary'),
      }),
      inspect: (caller, target) => this.#suspends.inspect(caller, target),
      saveSession: (...args) => this.#sessions.saveSession(...args),
      restoreSession: (caller, name) => this.#sessions.restoreSession(caller, name, {}),
      forgetSession: (caller, name) => this.#sessions.forgetSession(caller, name),
      log: parts.log,
    });
    this.#turns = new Turns(all, this.#suspends, this.#snapshots);
    this.#bundles = new BundleOperations(all, this.#suspends);
    this.#administration = new Administration(all);
    this.#insides = new Insides(all);
  }

  readonly inspect: Handlers['inspect'] = (...args) => this.#suspends.inspect(...args);
  readonly suspend: Handlers['suspend'] = (caller, target, options) =>
    this.#suspends.suspend(caller, target, options);
  readonly suspendSet: Handlers['suspendSet'] = (caller, targets, options) =>
    this.#suspends.suspendSet(caller, targets, options);
  readonly planNap: Handlers['planNap'] = (...args) => this.#naps.plan(...args);
  readonly nap: Handlers['nap'] = (...args) => this.#naps.nap(...args);
  readonly wake: Handlers['wake'] = (...args) => this.#naps.wake(...args);
  readonly memory: Handlers['memory'] = (caller) => this.#memory.report(caller);
  readonly neverNap: Handlers['neverNap'] = async ({ uid }) => this.#parts.neverNap.of(uid);
  readonly setNeverNap: Handlers['setNeverNap'] = ({ uid }, name, isNever) =>
    this.#parts.neverNap.set(uid, name, isNever);
  readonly watchPressure: Handlers['watchPressure'] = () => this.#parts.pressure.watch();
  readonly resume: Handlers['resume'] = (caller, target, options) =>
    this.#resumes.resume(caller, target, options);
  readonly resumeSet: Handlers['resumeSet'] = (caller, targets, choices) =>
    this.#resumes.resumeSet(caller, targets, choices);
  readonly saveSession: Handlers['saveSession'] = (...args) => this.#sessions.saveSession(...args);
  readonly restoreSession: Handlers['restoreSession'] = (...args) => this.#sessions.restoreSession(...args);
  readonly sessions: Handlers['sessions'] = (...args) => this.#sessions.sessions(...args);
  readonly forgetSession: Handlers['forgetSession'] = (...args) => this.#sessions.forgetSession(...args);
  readonly sessionPolicy: Handlers['sessionPolicy'] = (...args) => this.#sessions.policy(...args);
  readonly setSessionPolicy: Handlers['setSessionPolicy'] = (...args) => this.#sessions.setPolicy(...args);
  readonly exec: Handlers['exec'] = (...args) => this.#insides.exec(...args);
  readonly windows: Handlers['windows'] = (...args) => this.#insides.windows(...args);
  readonly windowIcon: Handlers['windowIcon'] = (...args) => this.#insides.windowIcon(...args);
  readonly activateWindow: Handlers['activateWindow'] = (...args) => this.#insides.activateWindow(...args);
  readonly closeWindows: Handlers['closeWindows'] = (...args) => this.#insides.closeWindows(...args);
  readonly snapshots: Handlers['snapshots'] = (...args) => this.#snapshots.snapshots(...args);
  readonly remove: Handlers['remove'] = (...args) => this.#snapshots.remove(...args);
  readonly keep: Handlers['keep'] = (...args) => this.#snapshots.keep(...args);
  readonly picture: Handlers['picture'] = (...args) => this.#snapshots.picture(...args);
  readonly verify: Handlers['verify'] = (...args) => this.#snapshots.verify(...args);
  readonly collect: Handlers['collect'] = (...args) => this.#snapshots.collect(...args);
  readonly setInterval: Handlers['setInterval'] = (...args) => this.#turns.setInterval(...args);
  readonly endInterval: Handlers['endInterval'] = (...args) => this.#turns.endInterval(...args);
  readonly export: Handlers['export'] = (...args) => this.#bundles.export(...args);
  readonly import: Handlers['import'] = (...args) => this.#bundles.import(...args);
  readonly settings: Handlers['settings'] = (...args) => this.#administration.settings(...args);
  readonly changeSettings: Handlers['changeSettings'] = (...args) =>
    this.#administration.changeSettings(...args);
  readonly encryption: Handlers['encryption'] = (...args) => this.#administration.encryption(...args);
  readonly changeEncryption: Handlers['changeEncryption'] = async (...args) => {
    const changed = await this.#administration.changeEncryption(...args);
    void this.#kexec.unlocked();
    return changed;
  };

  readonly planKexec: Handlers['planKexec'] = (...args) => this.#kexec.plan(...args);
  readonly kexec: Handlers['kexec'] = (...args) => this.#kexec.go(...args);
  readonly arrival: Handlers['arrival'] = () => this.#kexec.arrival();

  /** After a jump to another kernel, restores what was saved for it. To be called once. */
  arrive(): void {
    this.#kexec.arrive();
  }

  /** Ends what an engine before this one was in the middle of. To be called once, before anything is asked of this one. */
  tidy(): Promise<void> {
    return this.#warmStarts.tidy();
  }

  /** A connection with the bus has ended. */
  left(connection: string): Promise<void> {
    return this.#naps.left(connection);
  }

  /** Takes a workload's turn at its interval. */
  takeTurn(workload: string, interval: Interval): Promise<Turn> {
    return this.#turns.takeTurn(workload, interval);
  }

  /** The wire's form of a workload, with the figures of this moment. */
  describe(record: WorkloadRecord): Promise<Workload> {
    return this.#parts.descriptions.describe(record);
  }

  /** Whether an operation is under way or a capsule needs watching. */
  get busy(): boolean {
    return (
      this.#parts.locks.busy || this.#parts.registry.all().some((record) => record.status.kind === 'running')
    );
  }

  async run(caller: Caller, spec: RunSpec): Promise<Workload> {
    this.#parts.userSessions.note(caller.uid, spec.callerEnv);
    const startCold = () => this.#start(caller, spec);
    return spec.warm === true ? this.#warmStarts.run(caller, spec, startCold) : startCold();
  }

  async #start(caller: Caller, spec: RunSpec): Promise<Workload> {
    const { record, told } = await this.#parts.capsules.run(spec, caller);
    this.#hashInIdleTime(record.id);
    const workload = await this.#parts.descriptions.describe(record);
    return told.length === 0 ? workload : { ...workload, told };
  }

  async profiles(caller: Caller, query: ProfileQuery): Promise<ProfileReport> {
    return reportProfiles(this.#parts.profiles, caller, query);
  }

  async takeBack(caller: Caller, consent: string): Promise<void> {
    await this.#parts.profiles.takeBack(await findUser(caller.uid), consent);
  }

  async plugins(caller: Caller): Promise<PluginReport> {
    await this.#parts.userSessions.noteCaller(caller);
    return this.#parts.plugins.report(await findUser(caller.uid));
  }

  async registerPlugin(caller: Caller, name: string): Promise<void> {
    await this.#parts.pluginPrograms.register(caller, name);
  }

  /** Hashed now, and once more when more is loaded, the files it has mapped do not hold up its first suspend. */
  #hashInIdleTime(id: string): void {
    const { cgroups, hashes } = this.#parts;
    for (const delayMs of [0, 10_000]) {
      setTimeout(async () => hashes.warm(await cgroups.pids(id)), delayMs).unref();
    }
  }

  async list(caller: Caller): Promise<Workload[]> {
    return Promise.all(
      this.#parts.registry.visibleTo(caller).map((record) => this.#parts.descriptions.describe(record)),
    );
  }

  async get(caller: Caller, reference: string): Promise<Workload> {
    return this.#parts.descriptions.describe(this.#parts.registry.find(reference, caller));
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
      const [id, meant] = this.#parts.references.meant(reference, caller);
      if (typeof meant !== 'number') return { key: id, name: meant.name };
    } catch (error) {
      const snapshot = await this.#parts.references.findSnapshot(reference, caller).catch(() => undefined);
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
      await this.#parts.naps.wake(record.id);
      const isWhereItStarted = record.kind === 'job' && status.room === undefined;
      const pids = isWhereItStarted ? await this.#suspends.pidsOf({ ...record, status }) : [];
      await this.#parts.workloads.end(record.id, status.init, pids);
      return this.#parts.descriptions.describe(this.#parts.registry.get(record.id) ?? record);
    });
  }

  async forget(caller: Caller, reference: string): Promise<void> {
    const { registry, store } = this.#parts;
    const { id, name } = registry.find(reference, caller);
    await this.#parts.locks.hold(id, name, 'forgotten', async () => {
      await this.#parts.naps.wake(id);
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
      for (const snapshot of own) await this.#snapshots.remove(caller, snapshot.id);
      await registry.remove(id);
      this.#parts.log.info({ workload: id, snapshots: own.length, uid: caller.uid }, 'workload forgotten');
    });
  }

  async doctor(caller: Caller): Promise<DoctorCheck[]> {
    await this.#parts.userSessions.noteCaller(caller);
    return diagnose(this.#parts, await findUser(caller.uid));
  }
}
