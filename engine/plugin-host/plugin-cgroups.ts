/**
 * A cgroup for each plugin that the engine starts, beside those of the workloads. In it a plugin has limits of its own and
 * does not meet those of the engine, and it ends whole: also what it has started in a session of its own. Where this machine
 * has no cgroups to offer, plugins go without.
 */
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Mount, readMounts } from '../mounts.ts';
import { identify, type ProcessIdentity, signalProcess, waitGone } from '../process.ts';

/** Threads count as processes do, and a program in Node has a dozen. */
const mostProcesses = 512;
const mostMemory = 512 * 1024 * 1024;

/** In files that are there or not, by version and controllers (Documentation/admin-guide/cgroup-{v1,v2}). */
const limits: readonly [file: string, value: number][] = [
  ['pids.max', mostProcesses],
  ['memory.max', mostMemory],
  ['memory.swap.max', mostMemory],
  // What is left of a plugin of which a part was ended is of no use.
  ['memory.oom.group', 1],
  ['memory.limit_in_bytes', mostMemory],
  ['memory.memsw.limit_in_bytes', 2 * mostMemory],
];
const wanted = ['pids', 'memory'];
const goneLimitMs = 1000;
/** What does not go by then waits for the kernel, as in a file system that does not answer. */
const endRounds = 3;
const removeRounds = 100;

export interface PluginHierarchy {
  kind: 'v2' | 'v1';
  mountPoint: string;
}

/**
 * Where plugins have cgroups: version 2, by which they are found, and of version 1 what limits processes and memory; where
 * both are missing the freezer, only to find them. Pure part of {@link PluginCgroups.open}.
 */
export function pluginHierarchies(
  mounts: readonly Pick<Mount, 'path' | 'type' | 'superOptions'>[],
): PluginHierarchy[] {
  const first = (controller: string) =>
    mounts.find(
      ({ type, superOptions }) => type === 'cgroup' && superOptions.split(',').includes(controller),
    );
  const v2 = mounts.find(({ type }) => type === 'cgroup2');
  const limiting = wanted.flatMap((each) => first(each)?.path ?? []);
  const v1 = v2 === undefined && limiting.length === 0 ? [first('freezer')?.path ?? []].flat() : limiting;
  return [
    ...(v2 === undefined ? [] : [{ kind: 'v2', mountPoint: v2.path } as const]),
    ...[...new Set(v1)].map((mountPoint) => ({ kind: 'v1', mountPoint }) as const),
  ];
}

/** Only where the file is there. */
const writeExisting = (folder: string, file: string, value: string | number) =>
  writeFile(join(folder, file), String(value), { flag: 'r+' }).then(
    () => true,
    () => false,
  );

async function identitiesIn(folder: string): Promise<ProcessIdentity[]> {
  const text = await readFile(join(folder, 'cgroup.procs'), 'utf8').catch(() => '');
  const found = await Promise.all(text.split('\n').filter(Boolean).map(Number).map(identify));
  return found.filter((each) => each !== undefined);
}

async function remove(folder: string): Promise<void> {
  for (let round = 0; round < removeRounds; round++) {
    const isBusy = await rmdir(folder).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'EBUSY',
    );
    if (!isBusy) return;
    await sleep(10);
  }
}

/** One plugin's. */
export class PluginCgroup {
  /** In each hierarchy one; the first has all of its processes. */
  readonly folders: readonly string[];

  constructor(folders: readonly string[]) {
    this.folders = folders;
  }

  /** Ends all that is in it, and removes it. What Node has started in it must have ended. Never throws. */
  async end(): Promise<void> {
    const [first] = this.folders;
    for (let round = 0; first !== undefined && round < endRounds; round++) {
      const inside = await identitiesIn(first);
      if (inside.length === 0) break;
      // What forks without end would be ahead of whoever ends one process after the other.
      for (const folder of this.folders) await writeExisting(folder, 'pids.max', 0);
      if (!(await writeExisting(first, 'cgroup.kill', 1)))
        for (const each of inside) await signalProcess(each, 'SIGKILL').catch(() => {});
      // Their parents have ended: they are ours to reap.
      await Promise.all(inside.map((each) => waitGone(each, goneLimitMs)));
    }
    for (const folder of this.folders) await remove(folder);
  }
}

export class PluginCgroups {
  readonly #hierarchies: readonly PluginHierarchy[];
  readonly #name: string;
  #count = 0;

  private constructor(hierarchies: readonly PluginHierarchy[], name: string) {
    this.#hierarchies = hierarchies;
    this.#name = name;
  }

  /** Begins to end what plugins of an engine that was killed have left behind, which nobody has to wait for. */
  static async open(tag: string): Promise<PluginCgroups> {
    // Not among those of the workloads: whoever has controllers for one folder has them for all that are beside it.
    const cgroups = new PluginCgroups(pluginHierarchies(await readMounts()), `torpor-${tag}-plugins`);
    for (const parent of cgroups.#parents())
      for (const each of await readdir(parent, { withFileTypes: true }).catch(() => []))
        if (each.isDirectory()) void new PluginCgroup([join(parent, each.name)]).end();
    return cgroups;
  }

  #parents(): string[] {
    return this.#hierarchies.map(({ mountPoint }) => join(mountPoint, this.#name));
  }

  /** A new one, with limits as far as there are controllers; in no hierarchy at all where none can be written. */
  async make(uid: number): Promise<PluginCgroup> {
    // Another than that of any which an earlier engine has left behind.
    const name = `${uid}-${process.pid}-${++this.#count}`;
    const folders = await Promise.all(
      this.#hierarchies.map(({ kind, mountPoint }) =>
        this.#makeIn(kind, join(mountPoint, this.#name), name).catch(() => []),
      ),
    );
    return new PluginCgroup(folders.flat());
  }

  async #makeIn(kind: PluginHierarchy['kind'], parent: string, name: string): Promise<string[]> {
    await mkdir(parent, { recursive: true });
    if (kind === 'v2') {
      const there = await readFile(join(parent, 'cgroup.controllers'), 'utf8');
      for (const each of there.trim().split(' '))
        if (wanted.includes(each)) await writeExisting(parent, 'cgroup.subtree_control', `+${each}`);
    }
    const folder = join(parent, name);
    await mkdir(folder);
    for (const [file, value] of limits) await writeExisting(folder, file, value);
    return [folder];
  }

  /** Once no plugin runs any more. */
  async close(): Promise<void> {
    for (const parent of this.#parents()) await rmdir(parent).catch(() => {});
  }
}
