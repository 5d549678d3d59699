/**
 * One cgroup a workload, by which CRIU freezes all its processes at one instant, and by which its processes are found
 * again when their pids have changed. Version 2 where it is mounted, otherwise the version 1 freezer.
 */
import { writeFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import { type Mount, readMounts } from '../mounts.ts';

/** A process in the middle of a disk write stands still only after it. */
const freezeLimitMs = 10_000;
/** What needs longer waits for something. */
const calmLimitMs = 50;

export type Hierarchy = { kind: 'v2' | 'v1'; mountPoint: string };

/** The hierarchy to freeze by. Pure part of {@link Cgroups.find}. */
export function freezerHierarchy(mounts: readonly Mount[]): Hierarchy | undefined {
  const v2 = mounts.find((mount) => mount.type === 'cgroup2');
  if (v2 !== undefined) return { kind: 'v2', mountPoint: v2.path };
  const v1 = mounts.find(
    (mount) => mount.type === 'cgroup' && mount.superOptions.split(',').includes('freezer'),
  );
  return v1 && { kind: 'v1', mountPoint: v1.path };
}

/** Each takes milliseconds; what is started meanwhile is started in the cgroup already, but for the very last ones. */
const gatherRounds = 100;

/** What a cgroup answers that is not there, or into which no process may be put (cgroups(7)). */
const takesNone = new Set(['ENOENT', 'ENODEV', 'EBUSY', 'EOPNOTSUPP']);

/** One that has ended meanwhile is fine. */
async function move(pid: number, folder: string): Promise<void> {
  await writeFile(join(folder, 'cgroup.procs'), String(pid)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ESRCH') throw error;
  });
}

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
    try {
      const text = await readFile(join(this.pathOf(id), 'cgroup.procs'), 'utf8');
      return text.split('\n').filter(Boolean).map(Number);
    } catch {
      return [];
    }
  }

  /** The cgroup that a process is in. */
  async folderOf(pid: number): Promise<string> {
    const lines = (await readFile(`/proc/${pid}/cgroup`, 'utf8')).trim().split('\n');
    const isOurs = (controllers: string) =>
      this.#hierarchy.kind === 'v2' ? controllers === '' : controllers.split(',').includes('freezer');
    for (const line of lines) {
      const [, controllers = '', ...path] = line.split(':');
      if (isOurs(controllers)) return join(this.#hierarchy.mountPoint, path.join(':'));
    }
    return this.#hierarchy.mountPoint;
  }

  /** Moves processes into the cgroup of a workload, again and again until none of them has started another meanwhile. */
  async gather(id: string, list: () => readonly number[]): Promise<void> {
    for (let round = 0; round < gatherRounds; round++) {
      const inside = new Set(await this.pids(id));
      const outside = list().filter((pid) => !inside.has(pid));
      if (outside.length === 0) return;
      for (const pid of outside) await move(pid, this.pathOf(id));
    }
    throw new TorporError(
      'failed',
      'It starts new processes faster than they can be held together.',
      'Try again when it is less busy.',
    );
  }

  /**
   * Moves all that is in the cgroup of a workload to where it came from, and removes it. Where that cgroup has gone, as
   * a service manager removes one that is empty, or takes no processes any more, they stay where they are.
   */
  async scatter(id: string, folder: string): Promise<void> {
    try {
      for (let round = 0; round < gatherRounds; round++) {
        const pids = await this.pids(id);
        if (pids.length === 0) break;
        for (const pid of pids) await move(pid, folder);
      }
    } catch (error) {
      if (!takesNone.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
      return;
    }
    await this.remove(id);
  }

  /** Lets everything in it run again, as after a CRIU that was killed while it held them frozen. */
  async thaw(id: string): Promise<void> {
    const [file, value] =
      this.#hierarchy.kind === 'v2' ? ['cgroup.freeze', '0'] : ['freezer.state', 'THAWED'];
    await this.#write(id, file, value);
  }

  /**
   * Freezes all processes of several workloads at one instant, and waits until all stand still.
   * @throws TorporError `failed` where one does not come to that; what was frozen is to be thawed then.
   */
  async freeze(ids: readonly string[]): Promise<void> {
    const isV2 = this.#hierarchy.kind === 'v2';
    const [file, value] = isV2 ? ['cgroup.freeze', '1'] : ['freezer.state', 'FROZEN'];
    // Without waiting for anything in between.
    for (const id of ids) writeFileSync(join(this.pathOf(id), file), value);
    const restless = await this.#restless(ids, freezeLimitMs);
    if (restless !== undefined) throw new RestlessError(restless);
  }

  /** Waits until all of them stand still, which have been told to. @returns one that does not in that time */
  async #restless(ids: readonly string[], limitMs: number): Promise<string | undefined> {
    const isV2 = this.#hierarchy.kind === 'v2';
    for (const end = Date.now() + limitMs; ; await sleep(1)) {
      const frozen = await Promise.all(ids.map((id) => this.#isFrozen(id, isV2)));
      const index = frozen.indexOf(false);
      if (index < 0) return undefined;
      if (Date.now() > end) return ids[index];
      // What version 1 froze only in part must be told again.
      if (!isV2) for (const id of ids) await this.#write(id, 'freezer.state', 'FROZEN');
    }
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

  async #isFrozen(id: string, isV2: boolean): Promise<boolean> {
    const text = await readFile(join(this.pathOf(id), isV2 ? 'cgroup.events' : 'freezer.state'), 'utf8');
    return isV2 ? /^frozen 1$/m.test(text) : text.trim() === 'FROZEN';
  }

  /**
   * From now on nothing in it runs any more of its own code; it can still be ended. Only version 2 has that: what
   * version 1 holds frozen does not end before it is thawed, so there this does nothing.
   */
  async hold(id: string): Promise<void> {
    if (this.#hierarchy.kind === 'v2') await this.#write(id, 'cgroup.freeze', '1');
  }

  /** The same without one that is in it and has to go on, which is moved to where this process is. */
  async holdWithout(id: string, pid: number): Promise<void> {
    if (this.#hierarchy.kind !== 'v2') return;
    await move(pid, await this.folderOf(process.pid));
    await this.hold(id);
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
