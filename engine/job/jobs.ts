/**
 * Jobs: process trees that Torpor did not start. One is adopted as it is suspended, and comes back in a room
 * (native/room.c): a terminal of its own, kept by a program that outlives the engine and shows it to whoever attaches.
 */
import { statSync } from 'node:fs';
import { chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nameOfCommand } from '../../api/command-name.ts';
import type { JobSpec } from '../../proto/manifest.ts';
import { findUserIfAny, groupNames } from '../capsule/users.ts';
import type { CriuClient } from '../criu/client.ts';
import { type Images, readImages } from '../criu/images.ts';
import { external } from '../criu/options.ts';
import type { TreeInspection } from '../inspect/inspect.ts';
import type { Choices, Inspector } from '../inspect/inspector.ts';
import { noProcess } from '../inspect/refusals.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import { identify, isAlive } from '../process.ts';
import { removeFolder } from '../remove-folder.ts';
import { terminalFile } from '../store/snapshot-store.ts';
import type { ResumePlace, SuspendPlace } from '../transaction/place.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { JobRecord, Room, StatusOf } from '../workload/record.ts';
import type { Caller, Registry } from '../workload/registry.ts';
import { endKeeper, roomCgroup, terminalInRoom, toldByRoom } from '../workload/rooms.ts';
import type { Workloads } from '../workload/workloads.ts';
import { jobSpecOf } from './adopt.ts';
import { askForScreen } from './keeper.ts';
import { hostPidBelow, pidsOf, pidsTaken } from './pids.ts';
import { checkRights, lostGroups } from './rights.ts';
import { continued } from './stopped.ts';

export interface JobParts {
  registry: Registry;
  workloads: Workloads;
  cgroups: Cgroups;
  criu: CriuClient;
  installation: Installation;
  inspector: Inspector;
  log: Logger;
}

export class Jobs {
  readonly #parts: JobParts;
  /** Numbers of processes that are about to come back, by workload. */
  readonly #promised = new Map<string, readonly number[]>();

  constructor(parts: JobParts) {
    this.#parts = parts;
  }

  /** Where whoever wants to see and use the terminal of a job connects to; its owner's alone. */
  terminalSocket(id: string): string {
    return join(this.#parts.workloads.runFolder(id), 'terminal', 'socket');
  }

  /**
   * A record for a process tree, which is a running workload from then on.
   * @param id of the workload that it becomes.
   * @param inspection of the tree below it, without a finding that blocks.
   * @throws TorporError `not-found` where it has ended meanwhile.
   */
  async adopt(
    pid: number,
    id: string,
    { facts }: TreeInspection,
  ): Promise<JobRecord & { status: StatusOf<'running'> }> {
    const { workloads, registry, cgroups } = this.#parts;
    const [process] = facts.processes;
    const init = await identify(pid);
    // The number may be somebody else's by now.
    if (process === undefined || init?.startTime !== process.startTime) throw noProcess(pid);
    const [job, cgroup] = await Promise.all([
      jobSpecOf(facts, process, { root: pid, session: process.session }),
      cgroups.folderOf(pid),
    ]).catch(async (error: unknown) => {
      throw (await isAlive(init)) ? error : noProcess(pid);
    });
    const record: JobRecord & { status: StatusOf<'running'> } = {
      version: 1,
      id,
      name: workloads.freeName(nameOfCommand(job.command), job.user.uid),
      startedAt: new Date().toISOString(),
      kind: 'job',
      job,
      status: { kind: 'running', init, cgroup },
    };
    await registry.put(record);
    workloads.watch(record.id);
    return record;
  }

  /** The running job whose first process this is. */
  recordOf(pid: number): JobRecord | undefined {
    return this.#parts.registry
      .all()
      .filter((record) => record.kind === 'job')
      .find(
        ({ status }) => status.kind === 'running' && status.room === undefined && status.init.pid === pid,
      );
  }

  /** The host's number of its first process. */
  firstPid({ job, status }: JobRecord & { status: StatusOf<'running'> }): number | undefined {
    return status.room === undefined ? status.init.pid : hostPidBelow(status.init.pid, job.root);
  }

  /** All of it, as the host counts. */
  async pids(record: JobRecord): Promise<number[]> {
    const { cgroups, inspector } = this.#parts;
    const own = await cgroups.pids(record.id);
    if (own.length > 0 || record.status.kind !== 'running') return own;
    const first = this.firstPid({ ...record, status: record.status });
    return first === undefined ? [] : inspector.treeOf(first);
  }

  async inspect(
    record: JobRecord & { status: StatusOf<'running'> },
    how: Choices = {},
  ): Promise<TreeInspection> {
    const { cgroups, inspector } = this.#parts;
    const first = this.firstPid(record) ?? 0;
    const members = record.status.room === undefined ? undefined : await cgroups.pids(record.id);
    return inspector.inspectJob(record, first, members, how);
  }

  toSuspend(record: JobRecord & { status: StatusOf<'running'> }): SuspendPlace {
    const { criu, installation, cgroups, inspector } = this.#parts;
    const { id, job, status } = record;
    const { init, room } = status;
    const folder = this.#parts.workloads.runFolder(id);
    const enter = [installation.roomTool, 'enter', String(init.pid)];
    const hostPid = async (pid: number) => hostPidBelow(init.pid, pid);
    return {
      criu: room?.ownPids
        ? criu.withPrefix([...enter, '--'], { tracerPrefix: [...enter, '--outlive', '--'], hostPid })
        : criu,
      pid: job.root,
      init,
      options: {
        // The leader of the session is outside; or the terminal is, of which CRIU then is told by name.
        shellJob: job.session !== job.root,
        external: externalTerminals(job, room === undefined ? undefined : terminalInRoom(folder)),
      },
      view: { root: '/' },
      pids: () => this.pids(record),
      inspect: (how) => this.inspect(record, how),
      picture: async () => undefined,
      detach: async ({ facts }) => {
        if (room !== undefined) return;
        await cgroups.make(id);
        await cgroups.gather(id, () => inspector.treeOf(facts.root));
      },
      keep: async (to) => {
        if (room === undefined || job.terminal === undefined) return;
        const screen = await askForScreen(folder);
        if (screen !== undefined) await writeFile(join(to, terminalFile), screen, { mode: 0o600 });
      },
      reattach: async () => {
        if (status.cgroup !== undefined) await cgroups.scatter(id, status.cgroup);
      },
      release: () => endKeeper(cgroups, id, folder),
    };
  }

  /**
   * Makes what a job comes back in. Where a number that one of its processes has is taken, it has a pid namespace.
   * @param snapshotFolder with CRIU's images, verified already.
   * @throws TorporError `not-permitted` where the job would get rights that are not the caller's.
   */
  async toResume(
    id: string,
    { name, job }: { name: string; job: JobSpec },
    snapshotFolder: string,
    caller: Caller,
  ): Promise<ResumePlace> {
    const { criu, cgroups, installation, log } = this.#parts;
    const images = await readImages(join(snapshotFolder, 'images'));
    const user = await findUserIfAny(job.user.uid);
    const names = await groupNames(lostGroups(job.user, user));
    const findings = checkRights(
      name,
      job.user,
      { user, groupNames: names },
      images.processes,
      caller.uid === 0,
    );
    const folder = await this.#makeRunFolder(id, job);
    const cgroup = await cgroups.make(id);
    const cgroupOfRoom = await cgroups.make(roomCgroup(id));
    const wanted = pidsOf(images);
    const clashing = pidsTaken(wanted, new Set([...this.#promised.values()].flat()));
    const ownPids = clashing.length > 0;
    // Until they are there, nobody else who is resumed meanwhile is to have them.
    if (!ownPids) this.#promised.set(id, wanted);
    if (ownPids) log.info({ workload: id, pids: clashing }, 'resumed with pids of its own');
    const leads = job.session !== job.root;
    const options = [
      ...['--folder', folder, '--cgroup', cgroup],
      ...['--room-cgroup', cgroupOfRoom, '--root', String(job.root)],
      ...['--user', String(job.user.uid)],
      ...(ownPids ? ['--namespace', '--last-pid', String(lastPidAfter(wanted))] : []),
      ...(leads
        ? ['--leads', '--leader', String(job.session), ...foregroundOptions(images)]
        : ['--session-preload', installation.sessionPreload]),
      ...(job.terminal === undefined ? [] : this.#terminalOptions(folder, job, job.terminal, snapshotFolder)),
    ];
    const prefix = [installation.roomTool, 'restore', ...options, '--'];
    const roomInit = async () => {
      const told = await toldByRoom(folder);
      return told === undefined ? undefined : await identify(told.init);
    };
    const hostPid = async (pid: number) => hostPidBelow((await roomInit())?.pid ?? 0, pid);
    const room = ownPids ? { tracerPrefix: [], hostPid } : undefined;
    return {
      criu: criu.withPrefix(prefix, room),
      options: {
        shellJob: leads,
        terminalKeys: images.terminals.filter(({ isGiven }) => isGiven).map(({ key }) => key),
      },
      needsView: ownPids,
      rewritten: leads ? await continued(images, join(snapshotFolder, 'images')) : new Map(),
      runFolder: folder,
      view: { root: '/' },
      initOf: async () => {
        const init = await roomInit();
        return init && { init, room: { ownPids } satisfies Room };
      },
      findings,
      done: () => this.#promised.delete(id),
    };
  }

  #terminalOptions(
    folder: string,
    { user }: JobSpec,
    { columns, rows }: { columns: number; rows: number },
    snapshotFolder: string,
  ): string[] {
    const words = [
      ...[process.execPath, this.#parts.installation.terminalKeeper, folder],
      ...[String(user.uid), String(user.gid), String(columns), String(rows)],
      join(snapshotFolder, terminalFile),
    ];
    return [
      ...['--terminal', '--columns', String(columns), '--rows', String(rows)],
      ...words.flatMap((word) => ['--keeper', word]),
    ];
  }

  async #makeRunFolder(id: string, { user }: JobSpec): Promise<string> {
    const folder = this.#parts.workloads.runFolder(id);
    await removeFolder(folder);
    await mkdir(folder, { recursive: true, mode: 0o711 });
    await mkdir(join(folder, 'terminal'), { mode: 0o700 });
    await chown(join(folder, 'terminal'), user.uid, user.gid);
    return folder;
  }
}

/**
 * The terminals that the resume is to be given: that of a job that leads its session, because CRIU would make one, and
 * /dev/tty, of which CRIU knows not enough where the session is led from outside or has its job in the background.
 */
function externalTerminals({ session, root, terminal }: JobSpec, inRoom: string | undefined): string[] {
  if (terminal === undefined) return [];
  const keyOf = (path: string) => {
    const { rdev, dev } = statSync(path);
    return external.terminal(rdev, dev);
  };
  const own = inRoom === undefined ? terminal.key : keyOf(inRoom);
  return [keyOf('/dev/tty'), ...(session === root ? [own] : [])];
}

/**
 * The process group that has the terminal: the one that had it. A job that was in the background has it now, and not as a
 * shell outside has set it, which may have been editing a line.
 */
function foregroundOptions({ processes, terminals }: Images): string[] {
  const [first] = processes;
  // The group that the first one was put into by others is another by now.
  const isKnown = (group: number) => group !== first?.pgid || group === first.pid;
  const groups = new Set(processes.map(({ pgid }) => pgid));
  const had = terminals.map(({ foreground }) => foreground).find((group) => groups.has(group));
  const group = had ?? first?.pgid ?? 0;
  return [
    ...(isKnown(group) ? ['--foreground', String(group)] : []),
    ...(had === undefined ? ['--fresh-settings'] : []),
  ];
}

/** New processes get numbers behind all that it has, so that its next resume does not meet them. */
function lastPidAfter(wanted: readonly number[]): number {
  return Math.max(300, ...wanted);
}
