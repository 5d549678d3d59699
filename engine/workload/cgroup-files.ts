/** Cgroups as files (cgroups(7)): where they are, who is in them, and holding still who is. Version 2 where it is mounted. */
import { readFileSync, writeFileSync } from 'node:fs';
import { readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import type { Mount } from '../mounts.ts';

export type Version = 'v2' | 'v1';
export type Hierarchy = { kind: Version; mountPoint: string };

/** Each takes milliseconds; what is started meanwhile is started in the cgroup already, but for the very last ones. */
const gatherRounds = 100;

/** What a cgroup answers that is not there, or into which no process may be put (cgroups(7)). */
const takesNone = new Set(['ENOENT', 'ENODEV', 'EBUSY', 'EOPNOTSUPP']);

/** The hierarchy to freeze by. Pure. */
export function freezerHierarchy(mounts: readonly Mount[]): Hierarchy | undefined {
  const v2 = mounts.find((mount) => mount.type === 'cgroup2');
  if (v2 !== undefined) return { kind: 'v2', mountPoint: v2.path };
  const v1 = mounts.find(
    (mount) => mount.type === 'cgroup' && mount.superOptions.split(',').includes('freezer'),
  );
  return v1 && { kind: 'v1', mountPoint: v1.path };
}

/** The folder of the cgroup that a process is in; undefined where it has ended. */
export function cgroupOf({ kind, mountPoint }: Hierarchy, pid: number): string | undefined {
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

/** Host pids of the processes in it; none where it is not there. */
export async function pidsIn(folder: string): Promise<number[]> {
  const text = await readFile(join(folder, 'cgroup.procs'), 'utf8').catch(() => '');
  return text.split('\n').filter(Boolean).map(Number);
}

/** Puts a process into it. One that has ended meanwhile is fine. */
export async function move(pid: number, folder: string): Promise<void> {
  await writeFile(join(folder, 'cgroup.procs'), String(pid)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ESRCH') throw error;
  });
}

/**
 * Moves processes, again and again until none has started another meanwhile.
 * @param list those that are not there yet, each with where it is to go.
 */
export async function gather(list: () => Promise<readonly { pid: number; to: string }[]>): Promise<void> {
  for (let round = 0; round < gatherRounds; round++) {
    const outside = await list();
    if (outside.length === 0) return;
    for (const { pid, to } of outside) await move(pid, to);
  }
  throw new TorporError(
    'failed',
    'It starts new processes faster than they can be held together.',
    'Try again when it is less busy.',
  );
}

/** Moves all that is in one cgroup to another. @returns false where that has gone, or takes no processes any more. */
export async function empty(folder: string, to: string): Promise<boolean> {
  try {
    for (let round = 0; round < gatherRounds; round++) {
      const pids = await pidsIn(folder);
      if (pids.length === 0) break;
      for (const pid of pids) await move(pid, to);
    }
    return true;
  } catch (error) {
    if (!takesNone.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
    return false;
  }
}

const freezing = { v2: ['cgroup.freeze', '1', '0'], v1: ['freezer.state', 'FROZEN', 'THAWED'] } as const;

/** Has all in it stand still, or begin to: at once, so that several are told at one instant. */
export function freeze(folder: string, version: Version): void {
  const [file, value] = freezing[version];
  writeFileSync(join(folder, file), value);
}

/** Lets all in it run again; one that is not there is fine. */
export async function thaw(folder: string, version: Version): Promise<void> {
  const [file, , value] = freezing[version];
  await writeFile(join(folder, file), value).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ENODEV') throw error;
  });
}

async function isFrozen(folder: string, version: Version): Promise<boolean> {
  const text = await readFile(join(folder, version === 'v2' ? 'cgroup.events' : 'freezer.state'), 'utf8');
  return version === 'v2' ? /^frozen 1$/m.test(text) : text.trim() === 'FROZEN';
}

/** Whether all in it stands still; not where it is not there. */
export const standsStill = (folder: string, version: Version): Promise<boolean> =>
  isFrozen(folder, version).catch(() => false);

/** Waits until all in them, which have been told to, stand still. @returns the index of one that does not in that time */
export async function restlessOf(
  folders: readonly string[],
  version: Version,
  limitMs: number,
): Promise<number | undefined> {
  for (const end = Date.now() + limitMs; ; await sleep(1)) {
    const frozen = await Promise.all(folders.map((folder) => isFrozen(folder, version)));
    const index = frozen.indexOf(false);
    if (index < 0) return undefined;
    if (Date.now() > end) return index;
    // What version 1 froze only in part must be told again.
    if (version === 'v1') for (const folder of folders) freeze(folder, version);
  }
}

/** Removes a cgroup once its last process has gone; one that is not there is fine. */
export async function removeCgroup(folder: string): Promise<void> {
  for (let round = 0; round < 100; round++) {
    try {
      await rmdir(folder);
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY') throw error;
      await sleep(10);
    }
  }
}
