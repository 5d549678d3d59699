/** What is said of workloads and snapshots on the bus, with the figures of this moment. */
import { TorporError } from '../../api/errors.ts';
import type { Snapshot, Workload } from '../../api/types.ts';
import { specOf, type WorkloadKind } from '../../proto/manifest.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import type { Status, WorkloadRecord } from '../workload/record.ts';
import type { EngineParts } from './parts.ts';

export class Descriptions {
  readonly #parts: EngineParts;

  constructor(parts: EngineParts) {
    this.#parts = parts;
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
      state: stateOf(status),
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
}

function stateOf(status: Status): Workload['state'] {
  if (status.kind === 'starting') return 'running';
  return status.kind === 'running' && status.nap?.isAsleep ? 'napping' : status.kind;
}

export function applicationOf(workload: WorkloadKind): { application?: string } {
  const application = workload.kind === 'capsule' ? workload.capsule.application : undefined;
  return application === undefined ? {} : { application };
}

export function notRunning(record: WorkloadRecord): TorporError {
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

export function describeSnapshot(item: StoredSnapshot): Snapshot {
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
    ...(item.warm === undefined ? {} : { warm: true }),
    ...(item.usedAt === undefined ? {} : { usedAt: item.usedAt }),
  };
}
