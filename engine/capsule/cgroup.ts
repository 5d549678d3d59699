/**
 * One cgroup a capsule, by which CRIU freezes all its processes at one instant, and by which its processes are found
 * again when their pids have changed. Version 2 where it is mounted, otherwise the version 1 freezer.
 */
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import { type Mount, readMounts } from '../mounts.ts';

type Hierarchy = { kind: 'v2' | 'v1'; mountPoint: string };

/** The hierarchy to freeze by. Pure part of {@link Cgroups.find}. */
export function freezerHierarchy(mounts: readonly Mount[]): Hierarchy | undefined {
  const v2 = mounts.find((mount) => mount.type === 'cgroup2');
  if (v2 !== undefined) return { kind: 'v2', mountPoint: v2.path };
  const v1 = mounts.find(
    (mount) => mount.type === 'cgroup' && mount.superOptions.split(',').includes('freezer'),
  );
  return v1 && { kind: 'v1', mountPoint: v1.path };
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

  /** Host pids of its processes; none where the cgroup is not there. */
  async pids(id: string): Promise<number[]> {
    try {
      const text = await readFile(join(this.pathOf(id), 'cgroup.procs'), 'utf8');
      return text.split('\n').filter(Boolean).map(Number);
    } catch {
      return [];
    }
  }

  /** Lets everything in it run again, as after a CRIU that was killed while it held them frozen. */
  async thaw(id: string): Promise<void> {
    const [file, value] =
      this.#hierarchy.kind === 'v2' ? ['cgroup.freeze', '0'] : ['freezer.state', 'THAWED'];
    await this.#write(id, file, value);
  }

  /**
   * From now on nothing in it runs any more of its own code; it can still be ended. Only version 2 has that: what
   * version 1 holds frozen does not end before it is thawed, so there this does nothing.
   */
  async hold(id: string): Promise<void> {
    if (this.#hierarchy.kind === 'v2') await this.#write(id, 'cgroup.freeze', '1');
  }

  async #write(id: string, file: string, value: string): Promise<void> {
    await writeFile(join(this.pathOf(id), file), value).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
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
    for (let round = 0; round < 100; round++) {
      try {
        await rmdir(this.pathOf(id));
        return;
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        if (code === 'ENOENT') return;
        if (code !== 'EBUSY') throw error;
        await sleep(10);
      }
    }
  }

  /** Removes the engine's own folder of cgroups, if no capsule runs. */
  async removeAll(): Promise<void> {
    await rmdir(join(this.#hierarchy.mountPoint, `torpor-${this.#tag}`)).catch(() => {});
  }
}
