/** Inspections as the engine asks for them: of a capsule that it runs, and of a process that a user names. */
import { TorporError } from '../../api/errors.ts';
import type { EnginePaths } from '../../api/paths.ts';
import type { Cgroups } from '../capsule/cgroup.ts';
import type { WorkloadRecord } from '../capsule/record.ts';
import { type Caller, mayUse } from '../capsule/registry.ts';
import type { Installation } from '../installation.ts';
import { inspectTree, type Surroundings, type TreeInspection } from './inspect.ts';
import { memoryOf, readProcessLine } from './proc.ts';

export { capsuleOptions, reportOf } from './inspect.ts';
export { bytesToSave } from './ties/space.ts';

export class Inspector {
  readonly #paths: EnginePaths;
  readonly #installation: Installation;
  readonly #cgroups: Cgroups;

  constructor(paths: EnginePaths, installation: Installation, cgroups: Cgroups) {
    this.#paths = paths;
    this.#installation = installation;
    this.#cgroups = cgroups;
  }

  /** All that ties a running capsule. @throws TorporError `failed` where it has ended. */
  async inspectCapsule(record: WorkloadRecord): Promise<TreeInspection> {
    const init = record.status.kind === 'running' ? record.status.init.pid : 0;
    const inspection = await inspectTree(init, {
      ...this.#surroundings,
      isCapsule: true,
      cgroupPids: await this.#cgroups.pids(record.id),
    });
    if (inspection.facts.processes.length > 0) return inspection;
    throw new TorporError(
      'failed',
      `${record.name} has ended.`,
      'See `torpor ps`, and start it again with `torpor run`.',
    );
  }

  /**
   * All that ties a process and those below it.
   * @throws TorporError `not-found`, `not-permitted`, or `blocked` for a process that is no application.
   */
  async inspectPid(pid: number, caller: Caller): Promise<TreeInspection> {
    await refuseSystemProcess(pid);
    const inspection = await inspectTree(pid, { ...this.#surroundings, isCapsule: false, cgroupPids: [] });
    const { processes } = inspection.facts;
    if (processes.length === 0) throw noProcess(pid);
    // What the others below it have open is not the caller's to see either.
    const foreign = processes.find(({ owners }) => owners.some((uid) => !mayUse(caller, uid)));
    if (foreign === undefined) return inspection;
    const below = foreign.pid === pid ? '' : `, which runs below process ${pid},`;
    throw new TorporError(
      'not-permitted',
      `Process ${foreign.pid} (${foreign.name})${below} belongs to another user.`,
      'Ask its owner, or root.',
    );
  }

  /** Proportional set size of these processes, in bytes. */
  async memoryOf(pids: readonly number[]): Promise<number> {
    const sizes = await Promise.all(pids.map(memoryOf));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  get #surroundings(): Pick<Surroundings, 'stateDir' | 'sockdiag'> {
    return { stateDir: this.#paths.stateDir, sockdiag: this.#installation.sockdiag };
  }
}

const noProcess = (pid: number) =>
  new TorporError('not-found', `There is no process ${pid}.`, 'See `ps -e` for those there are.');

async function refuseSystemProcess(pid: number): Promise<void> {
  const found = readProcessLine(pid);
  if (found === undefined) throw noProcess(pid);
  const refusal = (why: string) =>
    new TorporError(
      'blocked',
      `Process ${pid} (${found.name}) ${why}, not an application. Nothing was touched.`,
      'Name an application of yours; see `torpor ps`.',
    );
  if (found.kernelThread) throw refusal('is a part of the kernel');
  if (pid === 1) throw refusal("is the machine's init");
  if (pid === process.pid) throw refusal('is the engine itself');
  for (let at = process.ppid; at > 1; at = readProcessLine(at)?.ppid ?? 0)
    if (at === pid) throw refusal('is what the engine runs in');
}
