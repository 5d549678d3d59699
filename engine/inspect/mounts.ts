/** The file systems that a process sees (proc(5), mountinfo). Nothing here asks the file systems themselves. */
import type { FileSystem } from './facts.ts';
import { textOf } from './kernel-files.ts';

const farTypes = /^(nfs4?|cifs|smb3|9p|virtiofs|ceph|afs|coda|fuse(\..*)?|fuseblk)$/;

/** On another machine, or a program's making: it may be away, and asking it may take for ever. */
export const isFar = (mount: Pick<FileSystem, 'type'>) => farTypes.test(mount.type);

const unescapeOctal = (text: string) =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Mounts by id, with the device each is of. Pure part of {@link readMountsOf}. */
export function parseMounts(mountinfo: string): Map<number, Omit<FileSystem, 'removable'>> {
  const mounts = new Map<number, Omit<FileSystem, 'removable'>>();
  for (const line of mountinfo.split('\n')) {
    const [, id, parent, device = '', path = '', type = ''] =
      /^(\d+) (\d+) (\d+:\d+) \S+ (\S+) .*? - (\S+) /.exec(line) ?? [];
    if (id !== undefined)
      mounts.set(Number(id), { parent: Number(parent), path: unescapeOctal(path), type, device });
  }
  return mounts;
}

/** The mounts that a process sees, by id. */
export function readMountsOf(pid: number): Map<number, FileSystem> {
  const mounts = parseMounts(textOf(`/proc/${pid}/mountinfo`) ?? '');
  return new Map([...mounts].map(([id, mount]) => [id, { ...mount, removable: isRemovable(mount.device) }]));
}

/** Asks whether what was opened at a path on a mount has had another file system mounted over it since. */
export function coverage(
  mounts: ReadonlyMap<number, Pick<FileSystem, 'parent' | 'path'>>,
): (mount: number, path: string) => boolean {
  const children = new Map<number, number[]>();
  for (const [id, { parent }] of mounts) children.set(parent, [...(children.get(parent) ?? []), id]);
  const isCovered = (mount: number, path: string, besides?: number): boolean => {
    const over = children.get(mount)?.some((id) => {
      const place = mounts.get(id)?.path ?? '';
      return id !== besides && id !== mount && (path === place || path.startsWith(`${place}/`));
    });
    if (over === true) return true;
    const own = mounts.get(mount);
    const isTop = own === undefined || own.parent === mount || !mounts.has(own.parent);
    return !isTop && isCovered(own.parent, own.path, mount);
  };
  return isCovered;
}

/** sysfs says it of the whole disk; a partition's folder lies in that of its disk. */
function isRemovable(device: string): boolean {
  if (device.startsWith('0:')) return false;
  const folder = `/sys/dev/block/${device}`;
  const text = textOf(`${folder}/removable`) ?? textOf(`${folder}/../removable`);
  return text?.trim() === '1';
}
