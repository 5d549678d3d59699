/** What applications have of memory, those that Torpor did not start among them, and what putting them aside gains. */
import { nameOfCommand } from '../../api/command-name.ts';
import type { MemoryReport, MemoryUse } from '../../api/types.ts';
import { specOf } from '../../proto/manifest.ts';
import { findUser } from '../capsule/users.ts';
import { commandOf } from '../inspect/proc.ts';
import { groupApplications, readProcesses } from '../nap/applications.ts';
import { type MachineMemory, machineMemory, memoryOf } from '../nap/memory.ts';
import type { Caller } from '../workload/registry.ts';
import type { OperationParts } from './parts.ts';

type Known = Pick<MemoryUse, 'target' | 'name' | 'kind' | 'command' | 'pids' | 'naps'> & { uid: number };

export class MemoryReports {
  readonly #parts: OperationParts;

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  /** Of the caller's own; for root of all users'. */
  async report(caller: Caller): Promise<MemoryReport> {
    const machine = await machineMemory();
    const [ours, inside] = await this.#workloads(caller);
    const { holder } = this.#parts;
    const processes = readProcesses(caller.uid === 0 ? undefined : caller.uid, (pid) => holder.cgroupOf(pid));
    const others = groupApplications(processes.filter(({ pid }) => !inside.has(pid))).map(
      ({ leader, uid, pids }): Known => {
        const command = commandOf(leader);
        const name = nameOfCommand(command);
        return { target: String(leader), name, kind: 'process', command, pids, naps: false, uid };
      },
    );
    const applications: MemoryUse[] = [];
    // One after the other: to read it holds up the processes themselves.
    for (const each of [...ours, ...others]) applications.push(await this.#use(each, machine));
    return {
      applications: applications.sort((a, b) => b.pss + b.swap - (a.pss + a.swap)),
      totalBytes: machine.total,
      availableBytes: machine.available,
      swapTotalBytes: machine.swapTotal,
      swapFreeBytes: machine.swapFree,
      ...(machine.zramRatio === undefined ? {} : { zramRatio: machine.zramRatio }),
    };
  }

  /** @returns also all pids that belong to a workload, whoever's. */
  async #workloads(caller: Caller): Promise<[Known[], Set<number>]> {
    const { registry, cgroups, jobs } = this.#parts;
    const visible = new Set(registry.visibleTo(caller).map(({ id }) => id));
    const known: Known[] = [];
    const inside = new Set<number>();
    for (const record of registry.all()) {
      const { id, name, kind, status } = record;
      if (status.kind !== 'running') continue;
      const pids = await (record.kind === 'job' ? jobs.pids(record) : cgroups.pids(id));
      for (const pid of pids) inside.add(pid);
      const { command, user } = specOf(record);
      const naps = status.nap !== undefined;
      if (visible.has(id))
        known.push({ target: id, name, kind, command, pids: [...pids], naps, uid: user.uid });
    }
    return [known, inside];
  }

  async #use({ uid, ...known }: Known, machine: MachineMemory): Promise<MemoryUse> {
    const { pss, file, shared, swap } = await memoryOf(known.pids);
    return {
      ...known,
      user: (await findUser(uid).catch(() => undefined))?.name ?? String(uid),
      ...{ pss, file, shared, swap, zram: Math.round(swap * machine.zramShare) },
      measured: this.#parts.measurements.of(uid, known.command),
    };
  }
}
