/**
 * Holding processes still where they are, and letting them go: by the cgroup that a desktop has put an application into, by
 * cgroups made for it below the ones that its processes are in, or, where no cgroup file system is to be had, by SIGSTOP. A
 * cgroup made below stays within the application's own: a service manager still sees it, and what it counts stays right.
 *
 * What is needed to let go is known before anything is held, so that it can be written down first.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { Mount } from '../mounts.ts';
import { identify, isAlive, processIdentitySchema, signalProcess } from '../process.ts';
import { freezerHierarchy, type Hierarchy } from '../workload/cgroup.ts';
import { threadStates } from './memory.ts';

export const holdSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('cgroups'),
    version: z.enum(['v2', 'v1']),
    /** What is frozen, as paths. */
    frozen: z.array(z.string()),
    /** Of those, what was made for it, each below the cgroup that its processes go back into. */
    made: z.array(z.string()),
  }),
  z.object({ kind: z.literal('signals'), stopped: z.array(processIdentitySchema) }),
]);
export type Hold = z.infer<typeof holdSchema>;

/** A process in the middle of a disk write stands still only after it. */
const holdLimitMs = 5000;
/** Each takes milliseconds; what is started meanwhile is started in the cgroup already, but for the very last ones. */
const gatherRounds = 100;

/**
 * The units that desktops start applications in (systemd's "Desktop Environment Integration"; snap and flatpak name theirs
 * alike): all in it is that application.
 */
const applicationUnit = /^(?:app|snap|flatpak)[-.].*\.(?:scope|service)$/;

/** Whether a cgroup is of one application. Pure. */
export const isApplicationUnit = (folder: string): boolean =>
  // `app.slice` holds them all, and so may a unit that was made for a terminal, of which the job may be meant.
  applicationUnit.test(basename(folder));

export class Holder {
  readonly #hierarchy: Hierarchy | undefined;
  readonly #tag: string;

  /** @param tag of the engine, by which what it made is known to be its own. */
  constructor(mounts: readonly Mount[], tag: string) {
    this.#hierarchy = freezerHierarchy(mounts);
    this.#tag = tag;
  }

  /** Where a process is in that hierarchy; undefined where there is none, and where it has ended. */
  cgroupOf(pid: number): string | undefined {
    if (this.#hierarchy === undefined) return undefined;
    const { kind, mountPoint } = this.#hierarchy;
    let text: string;
    try {
      text = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    } catch {
      return undefined;
    }
    for (const line of text.trim().split('\n')) {
      const [, controllers = '', ...path] = line.split(':');
      const isOurs = kind === 'v2' ? controllers === '' : controllers.split(',').includes('freezer');
      if (isOurs) return join(mountPoint, path.join(':'));
    }
    return mountPoint;
  }

  /** All processes in a cgroup and below it. */
  async membersOf(folder: string): Promise<number[]> {
    const text = await readFile(join(folder, 'cgroup.procs'), 'utf8').catch(() => '');
    const own = text.split('\n').filter(Boolean).map(Number);
    const below = await readdir(folder, { withFileTypes: true }).catch(() => []);
    const members = below
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => this.membersOf(join(folder, name)));
    return [...own, ...(await Promise.all(members)).flat()];
  }

  /** How a cgroup that is there already is held, with all in it. */
  wholeOf(folder: string): Hold | undefined {
    return this.#hierarchy && { kind: 'cgroups', version: this.#hierarchy.kind, frozen: [folder], made: [] };
  }

  /** How a tree is held that shares its cgroups with others. */
  async partOf(id: string, pids: readonly number[]): Promise<Hold> {
    if (this.#hierarchy === undefined) {
      const all = await Promise.all(pids.map(identify));
      const moving = await Promise.all(pids.map(async (pid) => !(await isStopped(pid))));
      // Who is stopped already is not to be continued by us.
      const stopped = all.flatMap((each, index) => (each !== undefined && moving[index] ? each : []));
      return { kind: 'signals', stopped };
    }
    const folders = new Set(pids.flatMap((pid) => this.cgroupOf(pid) ?? []));
    const made = [...folders].map((folder) => join(folder, this.#nameFor(id)));
    return { kind: 'cgroups', version: this.#hierarchy.kind, frozen: made, made };
  }

  #nameFor(id: string): string {
    return `torpor-${this.#tag}-nap-${id}`;
  }

  /**
   * Holds them, at one instant, and waits until they stand still.
   * @param list the processes that are meant, as of now.
   * @throws TorporError `failed`; what was held by then is to be let go of.
   */
  async hold(hold: Hold, list: () => Promise<readonly number[]>): Promise<void> {
    if (hold.kind === 'signals') {
      for (const identity of hold.stopped) await signalProcess(identity, 'SIGSTOP');
      await untilStill(async () => {
        const living = await Promise.all(hold.stopped.map(isAlive));
        const pids = hold.stopped.filter((_, index) => living[index]).map(({ pid }) => pid);
        return (await Promise.all(pids.map(isStopped))).every(Boolean);
      });
      return;
    }
    for (const folder of hold.made) await mkdir(folder, { recursive: true });
    if (hold.made.length > 0) await this.#gather(hold.made, list);
    const isV2 = hold.version === 'v2';
    const [file, value] = isV2 ? ['cgroup.freeze', '1'] : ['freezer.state', 'FROZEN'];
    // Without waiting for anything in between.
    for (const folder of hold.frozen) writeFileSync(join(folder, file), value);
    await untilStill(async () => {
      const all = await Promise.all(hold.frozen.map((folder) => isFrozen(folder, hold.version)));
      // What version 1 froze only in part must be told again.
      if (!isV2) for (const folder of hold.frozen) await writeFile(join(folder, file), value);
      return all.every(Boolean);
    });
  }

  /** Moves each to the cgroup made below the one that it is in, until none has started another meanwhile. */
  async #gather(made: readonly string[], list: () => Promise<readonly number[]>): Promise<void> {
    for (let round = 0; round < gatherRounds; round++) {
      const outside = (await list()).flatMap((pid) => {
        const folder = this.cgroupOf(pid);
        return folder === undefined || made.includes(folder) ? [] : [{ pid, folder }];
      });
      if (outside.length === 0) return;
      for (const { pid, folder } of outside) {
        const own = made.find((each) => dirname(each) === folder) ?? made[0];
        if (own !== undefined) await move(pid, own);
      }
    }
    throw new TorporError(
      'failed',
      'It starts new processes faster than they can be held together.',
      'Try again when it is less busy.',
    );
  }

  /** Lets go of all of it. What has ended, or whose cgroup has gone with its service, is fine. */
  async release(hold: Hold): Promise<void> {
    if (hold.kind === 'signals') {
      // The last first: a parent that waits for its child's end sees it go on before itself.
      for (const identity of hold.stopped.toReversed()) await signalProcess(identity, 'SIGCONT');
      return;
    }
    const [file, value] = hold.version === 'v2' ? ['cgroup.freeze', '0'] : ['freezer.state', 'THAWED'];
    for (const folder of hold.frozen) await writeFile(join(folder, file), value).catch(unlessGone);
    for (const folder of hold.made) await this.#empty(folder);
  }

  /** Moves what is in a cgroup that we made back to where it came from, and removes it. */
  async #empty(folder: string): Promise<void> {
    for (let round = 0; round < gatherRounds; round++) {
      const pids = await this.membersOf(folder);
      if (pids.length === 0) break;
      for (const pid of pids) await move(pid, dirname(folder)).catch(unlessTakesNone);
    }
    // What ends at this moment is in it until it is reaped; what cannot leave stays, and runs.
    for (let round = 0; round < gatherRounds; round++) {
      const error = await rmdir(folder).then(
        () => undefined,
        (reason: NodeJS.ErrnoException) => reason,
      );
      if (error?.code !== 'EBUSY') return;
      await sleep(10);
    }
  }

  /** Whether all that is held stands still yet. */
  async isHeld(hold: Hold): Promise<boolean> {
    if (hold.kind === 'signals') {
      const living = await Promise.all(hold.stopped.map(isAlive));
      const pids = hold.stopped.filter((_, index) => living[index]).map(({ pid }) => pid);
      return pids.length > 0 && (await Promise.all(pids.map(isStopped))).every(Boolean);
    }
    const all = await Promise.all(
      hold.frozen.map((folder) => isFrozen(folder, hold.version).catch(() => false)),
    );
    return all.every(Boolean);
  }

  /** Paths of all cgroups that this engine, or one before it in the same place, has made to hold something. */
  async leftBehind(): Promise<string[]> {
    if (this.#hierarchy === undefined) return [];
    const found: string[] = [];
    const search = async (folder: string): Promise<void> => {
      const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
      for (const entry of entries) {
        if (!entry.isDirectory()) continue;
        const path = join(folder, entry.name);
        if (entry.name.startsWith(this.#nameFor(''))) found.push(path);
        else await search(path);
      }
    };
    await search(this.#hierarchy.mountPoint);
    return found;
  }

  /** Lets go of what nobody knows of any more. */
  async releaseCgroup(folder: string): Promise<void> {
    const version = this.#hierarchy?.kind ?? 'v2';
    await this.release({ kind: 'cgroups', version, frozen: [folder], made: [folder] });
  }
}

async function isStopped(pid: number): Promise<boolean> {
  const states = await threadStates(pid);
  return states.every((state) => state === 'T' || state === 't');
}

async function isFrozen(folder: string, version: 'v2' | 'v1'): Promise<boolean> {
  const text = await readFile(join(folder, version === 'v2' ? 'cgroup.events' : 'freezer.state'), 'utf8');
  return version === 'v2' ? /^frozen 1$/m.test(text) : text.trim() === 'FROZEN';
}

async function untilStill(isStill: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + holdLimitMs; !(await isStill()); await sleep(1))
    if (Date.now() > end)
      throw new TorporError(
        'failed',
        'It does not come to stand still: one of its processes waits in the kernel, for a disk or the network.',
        'Wait until that answers, and try again.',
      );
}

/** One that has ended meanwhile is fine. */
async function move(pid: number, folder: string): Promise<void> {
  await writeFile(join(folder, 'cgroup.procs'), String(pid)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ESRCH') throw error;
  });
}

function unlessGone(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT' && error.code !== 'ENODEV') throw error;
}

/** What a cgroup answers that is not there, or into which no process may be put (cgroups(7)). */
function unlessTakesNone(error: NodeJS.ErrnoException): void {
  if (!['ENOENT', 'ENODEV', 'EBUSY', 'EOPNOTSUPP'].includes(error.code ?? '')) throw error;
}
