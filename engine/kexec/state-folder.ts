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

const btrfs = '/sys/fs/btrfs';
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
    drivers: below?.drivers ?? (await driversOfFolder(stateDir, mount?.source ?? '')),
    freeBytes: bavail * bsize,
  };
}

/** Where an overlay writes to, if that is to be seen from here. */
const describeBelow = (upper: string) => describeStateFolder(upper).catch(() => undefined);

/** Modules between the disks below a folder and the machine. */
async function driversOfFolder(folder: string, source: string): Promise<string[]> {
  const devices = await disksOf((await stat(folder, { bigint: true })).dev, source);
  return [...new Set((await Promise.all(devices.map(driversBelow))).flat())];
}

const pathOfDevice = (device: bigint) => {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  return { major, path: `/sys/dev/block/${major}:${minor}` };
};

/** As links in sysfs. A file system of several disks, such as btrfs, has a number of its own, and says in sysfs which they are. */
async function disksOf(device: bigint, source: string): Promise<string[]> {
  const { major, path } = pathOfDevice(device);
  if (major !== 0n) return [path];
  const block = await stat(source, { bigint: true }).catch(() => undefined);
  if (block === undefined || !block.isBlockDevice()) return [];
  const name = basename((await readlink(pathOfDevice(block.rdev).path).catch(() => '')) || source);
  for (const each of await readdir(btrfs).catch((): string[] => [])) {
    const disks = await readdir(join(btrfs, each, 'devices')).catch((): string[] => []);
    if (disks.includes(name)) return disks.map((disk) => `/sys/class/block/${disk}`);
  }
  return [pathOfDevice(block.rdev).path];
}

/** Those of a block device, and of what it is made of (RAID, encryption). */
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
