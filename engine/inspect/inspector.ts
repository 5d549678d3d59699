/**
 * The inspection of a workload: facts are gathered, the rules in `ties/` say what each means, and the options for CRIU
 * follow from the same facts. Nothing is touched.
 */
import { readFile, statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import type { EnginePaths } from '../../api/paths.ts';
import type { Finding, Inspection } from '../../api/types.ts';
import type { Cgroups } from '../capsule/cgroup.ts';
import type { WorkloadRecord } from '../capsule/record.ts';
import { type Caller, mayUse } from '../capsule/registry.ts';
import type { DumpOptions } from '../criu/options.ts';
import type { Installation } from '../installation.ts';
import {
  type Facts,
  findOutsiders,
  inodeOf,
  type ProcessFacts,
  readInternetSockets,
  readLockHolders,
  readMountsOf,
  readProcess,
  readUnixSockets,
  treeBelow,
} from './facts.ts';
import type { Rule } from './rule.ts';
import { devices } from './ties/devices.ts';
import { internetSockets } from './ties/internet-sockets.ts';
import { kernelObjects } from './ties/kernel-objects.ts';
import { namespaces } from './ties/namespaces.ts';
import { deletedFiles, openFiles } from './ties/open-files.ts';
import { halfPipes, pipes, terminals } from './ties/pipes.ts';
import { space } from './ties/space.ts';
import { strangers, stuck } from './ties/strangers.ts';
import { tracing } from './ties/tracing.ts';
import { unixSockets } from './ties/unix-sockets.ts';

const rules: readonly Rule[] = [
  strangers,
  stuck,
  unixSockets,
  internetSockets,
  devices,
  kernelObjects,
  namespaces,
  tracing,
  pipes,
  terminals,
  openFiles,
  space,
];

/** How long a process may wait for a disk before it counts as stuck. */
const stuckMs = 50;

/** How often a tree that grows while it is looked at is looked at again. */
const gatherRounds = 5;

/** What the engine itself goes on with; the report for users is made from it. */
export interface TreeInspection {
  facts: Facts;
  findings: Finding[];
  memoryBytes: number;
}

export class Inspector {
  readonly #paths: EnginePaths;
  readonly #installation: Installation;
  readonly #cgroups: Cgroups;

  constructor(paths: EnginePaths, installation: Installation, cgroups: Cgroups) {
    this.#paths = paths;
    this.#installation = installation;
    this.#cgroups = cgroups;
  }

  /** All that ties a running capsule. */
  async inspectCapsule(record: WorkloadRecord): Promise<TreeInspection> {
    const root = record.status.kind === 'running' ? record.status.init.pid : 0;
    return this.#inspect(() => this.#cgroups.pids(record.id), root, true);
  }

  /**
   * All that ties a process and those below it.
   * @throws TorporError `not-found`, `not-permitted`, or `blocked` for a process that is no application.
   */
  async inspectPid(pid: number, caller: Caller): Promise<TreeInspection> {
    const process_ = await readProcess(pid);
    if (process_ === undefined)
      throw new TorporError('not-found', `There is no process ${pid}.`, 'See `ps -e` for those there are.');
    if (!mayUse(caller, process_.uid)) {
      throw new TorporError(
        'not-permitted',
        `Process ${pid} (${process_.name}) belongs to another user.`,
        'Ask its owner, or root.',
      );
    }
    await refuseSystemProcess(process_);
    return this.#inspect(() => treeBelow(pid), pid, false);
  }

  /** Once more where a process that was started meanwhile was taken for one outside. */
  async #inspect(
    listPids: () => Promise<number[]>,
    root: number,
    isCapsule: boolean,
  ): Promise<TreeInspection> {
    for (let round = 1; ; round++) {
      const facts = await this.#gather(await listPids(), root, isCapsule);
      const now = new Set(await listPids());
      const mistaken = [...facts.outsiders.values()].some(({ pid }) => now.has(pid));
      if (mistaken && round < gatherRounds) continue;
      return {
        facts,
        findings: rules.flatMap((rule) => rule(facts)),
        memoryBytes: facts.processes.reduce((sum, process) => sum + process.memoryBytes, 0),
      };
    }
  }

  async #gather(pids: readonly number[], root: number, isCapsule: boolean): Promise<Facts> {
    const [processes, sockets, internet, lockHolders, mounts, disk] = await Promise.all([
      this.#readProcesses(pids),
      readUnixSockets(this.#installation.sockdiag),
      readInternetSockets(root),
      readLockHolders(),
      readMountsOf(root),
      statfs(this.#paths.stateDir),
    ]);
    const inside = new Set(processes.map((process) => process.pid));
    const own = new Set(
      processes.flatMap(({ descriptors }) =>
        descriptors.map(({ target }) => inodeOf(target, 'socket')).filter((inode) => inode !== undefined),
      ),
    );
    const peers = [...own]
      .map((inode) => sockets.get(inode)?.peer ?? 0)
      .filter((peer) => peer !== 0 && !own.has(peer));
    return {
      processes,
      root,
      isCapsule,
      unixSockets: sockets,
      internetSockets: internet,
      lockHolders,
      mounts,
      outsiders: await findOutsiders(new Set([...peers, ...halfPipes({ processes })]), inside),
      freeBytes: disk.bavail * disk.bsize,
    };
  }

  async #readProcesses(pids: readonly number[]): Promise<ProcessFacts[]> {
    const read = async (pid: number) => {
      const first = await readProcess(pid);
      if (first?.state !== 'D') return first;
      // A short wait for the disk is nothing unusual.
      await sleep(stuckMs);
      return readProcess(pid);
    };
    return (await Promise.all(pids.map(read))).filter((process) => process !== undefined);
  }

  /** Proportional set size of these processes, in bytes. */
  async memoryOf(pids: readonly number[]): Promise<number> {
    const sizes = await Promise.all(
      pids.map(async (pid) => {
        const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
        return Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0) * 1024;
      }),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  }
}

async function refuseSystemProcess(found: ProcessFacts): Promise<void> {
  const refuse = (why: string) =>
    new TorporError(
      'blocked',
      `Process ${found.pid} (${found.name}) ${why}, not an application. Nothing was touched.`,
      'Name an application of yours; see `torpor ps`.',
    );
  if (found.kernelThread) throw refuse('is a part of the kernel');
  if (found.pid === 1) throw refuse("is the machine's init");
  for (let pid = process.pid; pid > 1; ) {
    if (pid === found.pid)
      throw refuse(pid === process.pid ? 'is the engine itself' : 'is what the engine runs in');
    pid = (await readProcess(pid))?.ppid ?? 0;
  }
}

/** The inspection as users get it. */
export function reportOf(target: string, { facts, findings, memoryBytes }: TreeInspection): Inspection {
  const targets = facts.processes.flatMap((process) =>
    process.descriptors.map((descriptor) => descriptor.target),
  );
  const socketText = (target: string) => {
    const inode = inodeOf(target, 'socket');
    const unix = inode === undefined ? undefined : facts.unixSockets.get(inode);
    if (unix !== undefined)
      return `unix ${unix.type} ${unix.state}${unix.path === '' ? '' : ` ${unix.path}`}`;
    const internet = inode === undefined ? undefined : facts.internetSockets.get(inode);
    return internet === undefined
      ? target
      : `${internet.protocol} ${internet.state} ${internet.local} ${internet.remote}`;
  };
  return {
    target,
    processes: facts.processes.map(({ pid, ppid, name, command, uid, memoryBytes: memory, descriptors }) => ({
      pid,
      ppid,
      name,
      command,
      uid,
      memoryBytes: memory,
      openFiles: descriptors.length,
    })),
    memoryBytes,
    openFiles: [...new Set(targets.filter((each) => each.startsWith('/')))].sort(),
    sockets: targets
      .filter((each) => each.startsWith('socket:'))
      .map(socketText)
      .sort(),
    findings,
  };
}

/** CRIU's default, below which a deleted file is small. */
const ghostMargin = 1024 * 1024;

/** What CRIU must be told, from the facts alone: nobody else chooses its options. */
export function optionsFrom({
  facts,
}: TreeInspection): Pick<DumpOptions, 'tcpClose' | 'fileLocks' | 'linkRemap' | 'ghostLimit'> {
  return {
    // Harmless where there is no connection, and one may be made until the freeze.
    tcpClose: true,
    fileLocks: true,
    linkRemap: true,
    ghostLimit: Math.max(64 * ghostMargin, deletedFiles(facts).largest * 2 + ghostMargin),
  };
}
