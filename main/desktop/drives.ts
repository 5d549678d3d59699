/** Drives that can be taken away, where they are mounted, and the bundles on them: lsblk(8) and the user's own eyes. */
import { execFile } from 'node:child_process';
import type { Dirent } from 'node:fs';
import { access, constants, lstat, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { BundleOnDrive, Drive } from '../ipc/view.ts';

const run = promisify(execFile);
const limitMs = 10_000;
/** Where desktops mount what is plugged in (udisks), and people what they mount by hand. */
const mediaFolders = ['/media/', '/run/media/', '/mnt/'];
/** What a running system needs: a disk with one of these stays, even if it is an SD card or was booted from a key. */
const systemFolders =
  /^\/(?:$|home$|(?:boot|efi|usr|var|etc|nix|gnu|snap|sysroot|cdrom|run\/(?!media\/).*|lib\/live)(?:\/|$))/;
/** More entries of a folder are not looked at for bundles. */
const mostEntries = 200;
const headerName = 'header.torpor';

const text = z.string().nullable().optional();
const deviceSchema = z.object({
  name: z.string(),
  rm: z.boolean(),
  hotplug: z.boolean(),
  tran: text,
  label: text,
  model: text,
  fstype: text,
  fssize: z.union([z.string(), z.number()]).nullable().optional(),
  fsavail: z.union([z.string(), z.number()]).nullable().optional(),
  mountpoints: z.array(z.string().nullable()),
  get children() {
    return z.array(deviceSchema).optional();
  },
});
type Device = z.infer<typeof deviceSchema>;

export type FoundDrive = Omit<Drive, 'readOnly' | 'bundles'>;

/**
 * Those in what `lsblk --json --bytes` printed that are mounted and can be taken away, or that lie where such are mounted.
 * Pure. @throws Error where it is no such text.
 */
export function drivesIn(lsblk: string): FoundDrive[] {
  const { blockdevices } = z.object({ blockdevices: z.array(deviceSchema) }).parse(JSON.parse(lsblk));
  const found = blockdevices.flatMap((disk) => {
    const isSystems = mountedIn(disk).some((path) => systemFolders.test(path));
    return below(disk, { stays: isSystems, removable: false, model: '' });
  });
  // A file system over several disks is told at each of them.
  return [...new Map(found.map((drive) => [drive.path, drive])).values()];
}

function below(device: Device, above: { stays: boolean; removable: boolean; model: string }): FoundDrive[] {
  const removable = above.removable || device.rm || device.hotplug || device.tran === 'usb';
  const model = device.model?.trim() || above.model;
  const own = pathsOf(device)
    .filter((path) => (removable && !above.stays) || mediaFolders.some((folder) => path.startsWith(folder)))
    .map((path) => ({
      path,
      name: device.label?.trim() || model || basename(path) || device.name,
      fileSystem: device.fstype ?? '',
      freeBytes: Number(device.fsavail ?? 0),
      totalBytes: Number(device.fssize ?? 0),
    }));
  const within = (device.children ?? []).flatMap((child) => below(child, { ...above, removable, model }));
  return [...own, ...within];
}

/** Without swap, which has a word in place of a path. */
const pathsOf = ({ mountpoints }: Device) =>
  mountpoints.filter((path): path is string => path?.startsWith('/') === true);

const mountedIn = (device: Device): string[] => [
  ...pathsOf(device),
  ...(device.children ?? []).flatMap(mountedIn),
];

let listing: Promise<Drive[]> | undefined;

/**
 * Mounted drives that can be taken away; those that the user may write to first. A drive that does not answer is asked
 * once, however often this is called meanwhile.
 * @throws TorporError
 */
export function listDrives(): Promise<Drive[]> {
  listing ??= list().finally(() => {
    listing = undefined;
  });
  return listing;
}

async function list(): Promise<Drive[]> {
  const drives = await Promise.all(
    (await mountedDrives()).map(async (drive): Promise<Drive> => {
      const mayWrite = await access(drive.path, constants.W_OK).then(
        () => true,
        () => false,
      );
      return { ...drive, readOnly: !mayWrite, bundles: await bundlesIn(drive.path) };
    }),
  );
  return drives.sort((a, b) => Number(a.readOnly) - Number(b.readOnly) || a.name.localeCompare(b.name));
}

/** The same, without a look at what is on them. @throws TorporError */
export async function mountedDrives(): Promise<FoundDrive[]> {
  const columns = 'NAME,RM,HOTPLUG,TRAN,LABEL,MODEL,FSTYPE,FSSIZE,FSAVAIL,MOUNTPOINTS';
  try {
    const { stdout } = await run('lsblk', ['--json', '--bytes', '--output', columns], { timeout: limitMs });
    return drivesIn(stdout);
  } catch (error) {
    throw new TorporError(
      'failed',
      `Drives cannot be looked for: ${sentenceOf(error).split('\n')[0]}.`,
      'Install lsblk (`apt install util-linux`, 2.37 or newer), or type the whole path of the bundle.',
    );
  }
}

/** What lies in a folder, or one folder further in, and is a bundle by its name or its header; the newest first. */
export async function bundlesIn(folder: string): Promise<BundleOnDrive[]> {
  const found: BundleOnDrive[] = [];
  const folders: string[] = [];
  for (const entry of await entriesIn(folder)) {
    const path = join(folder, entry.name);
    const here = await bundleAt(path);
    if (here !== undefined) found.push(here);
    else if (entry.isDirectory()) folders.push(path);
  }
  for (const other of folders) {
    for (const { name } of await entriesIn(other)) {
      const inside = await bundleAt(join(other, name));
      if (inside !== undefined) found.push(inside);
    }
  }
  return found.sort((a, b) => b.changedAt.localeCompare(a.changedAt));
}

/** @returns undefined where there is none, or none that the user can see. */
export async function bundleAt(path: string): Promise<BundleOnDrive | undefined> {
  const known = (form: 'file' | 'folder', changed: Date): BundleOnDrive => ({
    ...{ path, name: basename(path), form },
    changedAt: changed.toISOString(),
  });
  const there = await statOf(path);
  if (there?.isFile()) return path.endsWith('.torpor') ? known('file', there.mtime) : undefined;
  if (!there?.isDirectory()) return undefined;
  const header = await statOf(join(path, headerName));
  if (!header?.isFile()) return undefined;
  const catalogues = await statOf(join(path, 'catalogues'));
  return known('folder', catalogues?.mtime ?? header.mtime);
}

/** Links are not followed, as the engine does not. */
const statOf = (path: string) => lstat(path).catch(() => undefined);

/** Without hidden ones, and of very many the first. */
async function entriesIn(folder: string): Promise<Dirent[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries.filter(({ name }) => !name.startsWith('.')).slice(0, mostEntries);
}
