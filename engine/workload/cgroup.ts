/**
 * One cgroup a workload, by which CRIU freezes all its processes at one instant, and by which its processes are found
 * again when their pids have changed. Version 2 where it is mounted, otherwise the version 1 freezer.
 */
import { mkdir, readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import { readMounts } from '../mounts.ts';
import {
  cgroupOf,
  empty,
  freeze,
  freezerHierarchy,
  gather,
  type Hierarchy,
  move,
  pidsIn,
  removeCgroup,
  restlessOf,
  thaw,
} from './cgroup-files.ts';

/** A process in the middle of a disk write stands still only after it. */
const freezeLimitMs = 10_000;
/** What needs longer waits for something. */
const calmLimitMs = 50;

/** One does not come to stand still. */
export class RestlessError extends TorporError {
  readonly workload: string;

  constructor(workload: string) {
    super(
      'failed',
      `The processes of workload ${workload} do not stand still: one of them waits in the kernel.`,
      'Wait until the disk or network it waits for answers, and try again.',
    );
    this.workload = workload;
  }
}

export class Cgroups {
  readonly #hierarchy: Hierarchy;
  readonly #tag: string;

  private constructor(hierarchy: Hierarchy, tag: string) {
    this.#hierarchy = hierarchy;
    this.#tag = tag;
  }

  /** @throws TorporError `failed` where this machine has neither kind of freezer. */
  static async find(tag: string): Promise<Cgroups> {
    const hierarchy = freezerHierarchy(await readMounts());
    if (hierarchy === undefined) {
      throw new TorporError(
        'failed',
        'No cgroup file system is mounted, so applications cannot be frozen.',
        'Mount it: `mount -t cgroup2 none /sys/fs/cgroup`.',
      );
    }
    return new Cgroups(hierarchy, tag);
  }

  pathOf(id: string): string {
    return join(this.#hierarchy.mountPoint, `torpor-${this.#tag}`, id);
  }

  /** Makes the cgroup of a workload. */
  async make(id: string): Promise<string> {
    const path = this.pathOf(id);
    await mkdir(path, { recursive: true });
    return path;
  }

  /** Ids of all workloads that have one. */
  async ids(): Promise<string[]> {
    const folder = join(this.#hierarchy.mountPoint, `torpor-${this.#tag}`);
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  }

  /** Host pids of its processes; none where the cgroup is not there. */
  async pids(id: string): Promise<number[]> {
    return pidsIn(this.pathOf(id));
  }

  /** The cgroup that a process is in. */
  async folderOf(pid: number): Promise<string> {
    const folder = cgroupOf(this.#hierarchy, pid);
    if (folder === undefined) throw Object.assign(new Error(`process ${pid} has ended`), { code: 'ENOENT' });
    return folder;
  }

  /** Moves processes into the cgroup of a workload, again and again until none of them has started another meanwhile. */
  async gather(id: string, list: () => readonly number[]): Promise<void> {
    const to = this.pathOf(id);
    await gather(async () => {
      const inside = new Set(await this.pids(id));
      return list()
        .filter((pid) => !inside.has(pid))
        .map((pid) => ({ pid, to }));
    });
  }

  /**
   * Moves all that is in the cgroup of a workload to where it came from, and removes it. Where that cgroup has gone, as
   * a service manager removes one that is empty, or takes no processes any more, they stay where they are.
   */
  async scatter(id: string, folder: string): Promise<void> {
    if (!(await empty(this.pathOf(id), folder))) return;
    await this.remove(id);
  }

  /** Lets everything in it run again, as after a CRIU that was killed while it held them frozen. */
  async thaw(id: string): Promise<void> {
    await thaw(this.pathOf(id), this.#hierarchy.kind);
  }

  /**
   * Freezes all processes of several workloads at one instant, and waits until all stand still.
   * @throws TorporError `failed` where one does not come to that; what was frozen is to be thawed then.
   */
  async freeze(ids: readonly string[]): Promise<void> {
    // Without waiting for anything in between.
    for (const id of ids) freeze(this.pathOf(id), this.#hierarchy.kind);
    const restless = await this.#restless(ids, freezeLimitMs);
    if (restless !== undefined) throw new RestlessError(restless);
  }

  /** Waits until all of them stand still, which have been told to. @returns one that does not in that time */
  async #restless(ids: readonly string[], limitMs: number): Promise<string | undefined> {
    const folders = ids.map((id) => this.pathOf(id));
    const index = await restlessOf(folders, this.#hierarchy.kind, limitMs);
    return index === undefined ? undefined : ids[index];
  }

  /**
   * Freezes a workload, if all of it comes to stand still at once; else it goes on as before, and who looks again later
   * may find it so. Of version 1, which freezes in parts, this is left to others.
   */
  async freezeIfCalm(id: string): Promise<void> {
    if (this.#hierarchy.kind !== 'v2') return;
    await this.hold(id);
    if ((await this.#restless([id], calmLimitMs)) !== undefined) await this.thaw(id);
  }

  /**
   * From now on nothing in it runs any more of its own code; it can still be ended. Only version 2 has that: what
   * version 1 holds frozen does not end before it is thawed, so there this does nothing.
   */
  async hold(id: string): Promise<void> {
    if (this.#hierarchy.kind !== 'v2') return;
    try {
      freeze(this.pathOf(id), 'v2');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }

  /** The same without one that is in it and has to go on, which is moved to where this process is. */
  async holdWithout(id: string, pid: number): Promise<void> {
    if (this.#hierarchy.kind !== 'v2') return;
    await move(pid, await this.folderOf(process.pid));
    await this.hold(id);
  }

  /** Ends every process in it, then waits until they have gone. What is frozen does not run before it ends. */
  async kill(id: string): Promise<void> {
    for (let round = 0; round < 200; round++) {
      const pids = await this.pids(id);
      if (pids.length === 0) return;
      for (const pid of pids) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
        }
      }
      await this.thaw(id);
      await sleep(10);
    }
  }

  /** Removes the cgroup once its last process has gone; one that is not there is fine. */
  async remove(id: string): Promise<void> {
    await removeCgroup(this.pathOf(id));
  }

  /** Removes the engine's own folder of cgroups, if no capsule runs. */
  async removeAll(): Promise<void> {
    await rmdir(join(this.#hierarchy.mountPoint, `torpor-${this.#tag}`)).catch(() => {});
  }
}
