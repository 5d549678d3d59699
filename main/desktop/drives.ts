/** Drives that can be taken away, where they are mounted, and the bundles on them: lsblk(8) and the user's own eyes. */
import { execFile } from 'node:child_process';
import { access, constants, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { BundleOnDrive, Drive } from '../ipc/view.ts';

const run = promisify(execFile);
const limitMs = 10_000;
/** Where desktops mount what is plugged in (udisks), and people what they mount by hand. */
const mediaFolders = ['/media/', '/run/media/', '/mnt/'];
/** More entries of a drive are not looked at for bundles. */
const mostEntries = 2000;
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
  const below = (device: Device, above: { removable: boolean; model: string }): FoundDrive[] => {
    const removable = above.removable || device.rm || device.hotplug || device.tran === 'usb';
    const model = device.model?.trim() || above.model;
    const own = device.mountpoints
      .filter((path): path is string => path?.startsWith('/') === true)
      .filter((path) => removable || mediaFolders.some((folder) => path.startsWith(folder)))
      .map((path) => ({
        path,
        name: device.label?.trim() || model || basename(path) || device.name,
        fileSystem: device.fstype ?? '',
        freeBytes: Number(device.fsavail ?? 0),
        totalBytes: Number(device.fssize ?? 0),
      }));
    return [...own, ...(device.children ?? []).flatMap((child) => below(child, { removable, model }))];
  };
  return blockdevices.flatMap((device) => below(device, { removable: false, model: '' }));
}

/** Mounted drives that can be taken away; those that the user may write to first. */
export async function listDrives(): Promise<Drive[]> {
  const columns = 'NAME,RM,HOTPLUG,TRAN,LABEL,MODEL,FSTYPE,FSSIZE,FSAVAIL,MOUNTPOINTS';
  const { stdout } = await run('lsblk', ['--json', '--bytes', '--output', columns], { timeout: limitMs });
  const drives = await Promise.all(
    drivesIn(stdout).map(async (drive): Promise<Drive> => {
      const mayWrite = await access(drive.path, constants.W_OK).then(
        () => true,
        () => false,
      );
      return { ...drive, readOnly: !mayWrite, bundles: await bundlesIn(drive.path) };
    }),
  );
  return drives.sort((a, b) => Number(a.readOnly) - Number(b.readOnly) || a.name.localeCompare(b.name));
}

/** What lies in a folder, or one folder further in, and is a bundle by its name or its header. */
export async function bundlesIn(folder: string): Promise<BundleOnDrive[]> {
  const found = await Promise.all(
    (await namesIn(folder)).map(async (name) => {
      const path = join(folder, name);
      const here = await bundleAt(path);
      if (here !== undefined) return [here];
      const inside = await Promise.all((await namesIn(path)).map((each) => bundleAt(join(path, each))));
      return inside.filter((each) => each !== undefined);
    }),
  );
  return found.flat().sort((a, b) => b.changedAt.localeCompare(a.changedAt));
}

/** @returns undefined where there is none, or none that the user can see. */
export async function bundleAt(path: string): Promise<BundleOnDrive | undefined> {
  const there = await stat(path).catch(() => undefined);
  if (there === undefined) return undefined;
  const known = (form: 'file' | 'folder', changed: Date): BundleOnDrive => ({
    ...{ path, name: basename(path), form },
    changedAt: changed.toISOString(),
  });
  if (there.isFile()) return path.endsWith('.torpor') ? known('file', there.mtime) : undefined;
  const header = await stat(join(path, headerName)).catch(() => undefined);
  const catalogues = await stat(join(path, 'catalogues')).catch(() => undefined);
  return header?.isFile() ? known('folder', catalogues?.mtime ?? header.mtime) : undefined;
}

async function namesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => !name.startsWith('.')).slice(0, mostEntries);
}
