/**
 * Holding processes still where they are, and letting them go: by the cgroup that a desktop has put an application into, by
 * cgroups made for it below the ones that its processes are in, or, where no cgroup file system is to be had, by SIGSTOP. A
 * cgroup made below stays within the application's own: a service manager still sees it, and what it counts stays right.
 *
 * What is needed to let go is known before anything is held, so that it can be written down first.
 */
import { mkdir, readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { Mount } from '../mounts.ts';
import { identify, isAlive, type ProcessIdentity, processIdentitySchema, signalProcess } from '../process.ts';
import {
  cgroupOf,
  empty,
  freeze,
  freezerHierarchy,
  gather,
  type Hierarchy,
  pidsIn,
  removeCgroup,
  restlessOf,
  standsStill,
  thaw,
} from '../workload/cgroup-files.ts';
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
    return this.#hierarchy && cgroupOf(this.#hierarchy, pid);
  }

  /** All processes in a cgroup and below it. */
  async membersOf(folder: string): Promise<number[]> {
    const own = await pidsIn(folder);
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
      await stopAll(hold, list);
      return;
    }
    for (const folder of hold.made) await mkdir(folder, { recursive: true });
    if (hold.made.length > 0) await this.#gather(hold.made, list);
    // Without waiting for anything in between.
    for (const folder of hold.frozen) freeze(folder, hold.version);
    if ((await restlessOf(hold.frozen, hold.version, holdLimitMs)) !== undefined) throw restless();
  }

  /** Moves each to the cgroup made below the one that it is in. */
  #gather(made: readonly string[], list: () => Promise<readonly number[]>): Promise<void> {
    return gather(async () =>
      (await list()).flatMap((pid) => {
        const folder = this.cgroupOf(pid);
        if (folder === undefined || made.includes(folder)) return [];
        const to = made.find((each) => dirname(each) === folder) ?? made[0];
        return to === undefined ? [] : [{ pid, to }];
      }),
    );
  }

  /** Lets go of all of it. What has ended, or whose cgroup has gone with its service, is fine. */
  async release(hold: Hold): Promise<void> {
    if (hold.kind === 'signals') {
      // The last first: a parent that waits for its child's end sees it go on before itself.
      for (const identity of hold.stopped.toReversed()) await signalProcess(identity, 'SIGCONT');
      return;
    }
    for (const folder of hold.frozen) await thaw(folder, hold.version);
    for (const folder of hold.made) {
      // What cannot leave stays, and runs.
      if (await empty(folder, dirname(folder))) await removeCgroup(folder);
    }
  }

  /** Whether all that is held stands still yet. */
  async isHeld(hold: Hold): Promise<boolean> {
    if (hold.kind === 'signals') return areStopped(hold.stopped);
    const all = hold.frozen.map((folder) => standsStill(folder, hold.version));
    return (await Promise.all(all)).every(Boolean);
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

/** Stops them, and what they have started meanwhile, which belongs to the hold from then on. */
async function stopAll(
  hold: Extract<Hold, { kind: 'signals' }>,
  list: () => Promise<readonly number[]>,
): Promise<void> {
  for (const identity of hold.stopped) await signalProcess(identity, 'SIGSTOP');
  for (const end = Date.now() + holdLimitMs; ; await sleep(1)) {
    const known = new Set(hold.stopped.map(({ pid }) => pid));
    const running: number[] = [];
    for (const pid of await list()) if (!known.has(pid) && !(await isStopped(pid))) running.push(pid);
    for (const pid of running) {
      const identity = await identify(pid);
      if (identity === undefined) continue;
      hold.stopped.push(identity);
      await signalProcess(identity, 'SIGSTOP');
    }
    if (running.length === 0 && (await areStopped(hold.stopped))) return;
    if (Date.now() > end) throw restless();
  }
}

/** Those of them that live. */
async function areStopped(identities: readonly ProcessIdentity[]): Promise<boolean> {
  const living = await Promise.all(identities.map(isAlive));
  const pids = identities.filter((_, index) => living[index]).map(({ pid }) => pid);
  return (await Promise.all(pids.map(isStopped))).every(Boolean);
}

const restless = () =>
  new TorporError(
    'failed',
    'It does not come to stand still: one of its processes waits in the kernel, for a disk or the network.',
    'Wait until that answers, and try again.',
  );
