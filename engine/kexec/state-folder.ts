/** On what the state folder lies: which file system, and which modules of the kernel drive the device below. */
import { readdir, readlink, stat, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { readMounts } from '../mounts.ts';

export interface StateFolder {
  fileSystem: string;
  /** In memory only: it does not outlast the kernel. */
  isVolatile: boolean;
  drivers: string[];
  freeBytes: number;
}

const inMemory = new Set(['tmpfs', 'ramfs', 'rootfs', 'devtmpfs']);

export async function describeStateFolder(stateDir: string): Promise<StateFolder> {
  const mounts = (await readMounts()).filter(
    ({ path }) => path === '/' || stateDir === path || stateDir.startsWith(`${path}/`),
  );
  // The last one that was mounted over the innermost path is the one that is seen.
  const innermost = Math.max(...mounts.map(({ path }) => path.length));
  const mount = mounts.filter(({ path }) => path.length === innermost).at(-1);
  const fileSystem = mount?.type ?? '';
  const { bavail, bsize } = await statfs(stateDir);
  const upper = /(?:^|,)upperdir=([^,]+)/.exec(mount?.superOptions ?? '')?.[1];
  const below = fileSystem === 'overlay' && upper !== undefined ? await describeBelow(upper) : undefined;
  return {
    fileSystem,
    isVolatile: below?.isVolatile ?? inMemory.has(fileSystem),
    drivers: [...new Set(await driversOf((await stat(stateDir, { bigint: true })).dev))],
    freeBytes: bavail * bsize,
  };
}

/** Where an overlay writes to, if that is to be seen from here. */
const describeBelow = (upper: string) => describeStateFolder(upper).catch(() => undefined);

/** Modules between a block device and the machine, those of what it is made of (RAID, encryption) included. */
async function driversOf(device: bigint): Promise<string[]> {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  return driversBelow(`/sys/dev/block/${major}:${minor}`);
}

async function driversBelow(path: string): Promise<string[]> {
  const target = await readlink(path).catch(() => undefined);
  if (target === undefined) return [];
  const folder = join(path, '..', target);
  const parts = await readdir(join(folder, 'slaves')).catch(() => []);
  const own = basename(folder).startsWith('dm-') ? ['dm_mod'] : [];
  const below = await Promise.all(parts.map((name) => driversBelow(`/sys/class/block/${name}`)));
  return [...own, ...(await driversAbove(folder)), ...below.flat()];
}

/** A device's own driver, and those of the buses that it hangs on, as far as they are modules. */
async function driversAbove(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (let at = folder; at.startsWith('/sys/devices/') || at.includes('/devices/'); at = join(at, '..')) {
    const module = await readlink(join(at, 'device/driver/module')).catch(() => undefined);
    const own = await readlink(join(at, 'driver/module')).catch(() => undefined);
    for (const each of [module, own]) if (each !== undefined) found.push(basename(each).replaceAll('-', '_'));
    if (basename(at) === 'devices') break;
  }
  return found;
}
