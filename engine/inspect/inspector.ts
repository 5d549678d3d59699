/** Inspections as the engine asks for them: of a capsule that it runs, and of a process that a user names. */
import { TorporError } from '../../api/errors.ts';
import type { EnginePaths } from '../../api/paths.ts';
import type { Installation } from '../installation.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { CapsuleRecord, JobRecord } from '../workload/record.ts';
import { type Caller, mayUse } from '../workload/registry.ts';
import { isRoomCgroup } from '../workload/rooms.ts';
import { inspectTree, type Surroundings, type TreeInspection } from './inspect.ts';
import { hasEnded, memoryOf, readProcessLine, treeBelow } from './proc.ts';
import { noProcess, notTheirs, refuseByPid } from './refusals.ts';

export { dumpOptions, reportOf } from './inspect.ts';
export { bytesToSave } from './ties/space.ts';

/** What the user has chosen, and who is suspended with it. */
export type Choices = Pick<Surroundings, 'externalSockets' | 'connections' | 'companions'>;

export class Inspector {
  readonly #paths: EnginePaths;
  readonly #installation: Installation;
  readonly #cgroups: Cgroups;
  readonly #plugins: (uid: number) => ReadonlyMap<number, string>;

  /** @param plugins names of a user's plugins by the pids of their processes, as of now. */
  constructor(
    paths: EnginePaths,
    installation: Installation,
    cgroups: Cgroups,
    plugins: (uid: number) => ReadonlyMap<number, string> = () => new Map(),
  ) {
    this.#paths = paths;
    this.#installation = installation;
    this.#cgroups = cgroups;
    this.#plugins = plugins;
  }

  /** All that ties a running capsule. @throws TorporError `failed` where it has ended. */
  async inspectCapsule(record: CapsuleRecord, how: Choices = {}): Promise<TreeInspection> {
    const init = record.status.kind === 'running' ? record.status.init.pid : 0;
    const tree = {
      isCapsule: true,
      cgroupPids: await this.#cgroups.pids(record.id),
      ...how,
      neighbours: await this.#neighboursOf(record.id),
      plugins: this.#plugins(record.capsule.user.uid),
    };
    const ended = new TorporError(
      'failed',
      `${record.name} has ended.`,
      'See `torpor ps`, and start it again with `torpor run`.',
    );
    const inspection = await this.#inspectRoot(init, undefined, tree, ended);
    const expected = record.capsule.profiles?.findings ?? [];
    return { ...inspection, findings: [...inspection.findings, ...expected] };
  }

  /** Other workloads of this engine, by the pids of their processes. */
  async #neighboursOf(own?: string): Promise<Map<number, string>> {
    const ids = (await this.#cgroups.ids()).filter((id) => id !== own && !isRoomCgroup(id));
    const lists = await Promise.all(
      ids.map(async (id) => (await this.#cgroups.pids(id)).map((pid): [number, string] => [pid, id])),
    );
    return new Map(lists.flat());
  }

  /**
   * All that ties a process and those below it.
   * @throws TorporError `not-found`, `not-permitted`, or `blocked` for a process that is no application.
   */
  async inspectPid(pid: number, caller: Caller, how: Choices = {}): Promise<TreeInspection> {
    const { startTime } = refuseByPid(pid, caller);
    const neighbours = await this.#neighboursOf();
    const inspection = await this.#inspectRoot(
      pid,
      startTime,
      { isCapsule: false, cgroupPids: [], ...how, neighbours, plugins: this.#plugins(caller.uid) },
      noProcess(pid),
    );
    // What the others below it have open is not the caller's to see either.
    const foreign = inspection.facts.processes.find(({ owners }) =>
      owners.some((uid) => !mayUse(caller, uid)),
    );
    if (foreign !== undefined) throw notTheirs(foreign, pid);
    return inspection;
  }

  /**
   * All that ties a running job.
   * @param cgroupPids where it was resumed, all processes of its cgroup.
   * @throws TorporError `failed` where it has ended.
   */
  async inspectJob(
    { id, name, job }: Pick<JobRecord, 'id' | 'name' | 'job'>,
    root: number,
    cgroupPids: readonly number[] | undefined,
    how: Choices = {},
  ): Promise<TreeInspection> {
    const tree = {
      isCapsule: false,
      cgroupPids: cgroupPids ?? [],
      isInRoom: cgroupPids !== undefined,
      ...how,
      neighbours: await this.#neighboursOf(id),
      plugins: this.#plugins(job.user.uid),
    };
    const ended = new TorporError('failed', `${name} has ended.`, 'See `torpor ps`.');
    return this.#inspectRoot(root, undefined, tree, ended);
  }

  /**
   * @param startTime of the process that is meant, where it could have become another one.
   * @param ended what is thrown where it ends meanwhile: what remains below it is another tree.
   */
  async #inspectRoot(
    root: number,
    startTime: string | undefined,
    tree: Omit<Surroundings, 'stateDir' | 'sockdiag' | 'ties'>,
    ended: TorporError,
  ): Promise<TreeInspection> {
    const inspection = await inspectTree(root, {
      ...this.#surroundings,
      ...tree,
    }).catch((error: unknown) => {
      throw readProcessLine(root) === undefined ? ended : error;
    });
    const [first] = inspection.facts.processes;
    if (first?.pid !== root || hasEnded(first)) throw ended;
    if (startTime !== undefined && first.startTime !== startTime) throw ended;
    return inspection;
  }

  /** A process and all below it that have not ended: what has cannot be moved to another cgroup. */
  treeOf(root: number): number[] {
    return treeBelow(root).filter((pid) => {
      const line = readProcessLine(pid);
      return line !== undefined && !hasEnded({ pid, state: line.state });
    });
  }

  /** Proportional set size of these processes, in bytes. */
  async memoryOf(pids: readonly number[]): Promise<number> {
    const sizes = await Promise.all(pids.map(memoryOf));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  get #surroundings(): Pick<Surroundings, 'stateDir' | 'sockdiag' | 'ties'> {
    const { sockdiag, ties } = this.#installation;
    return { stateDir: this.#paths.stateDir, sockdiag, ties };
  }
}
