/** The mounts of the host, from /proc/self/mountinfo (proc(5)). */
import { readFile } from 'node:fs/promises';
import { runCommand } from './command.ts';

export interface Mount {
  path: string;
  type: string;
  /** Options of this mount of it. */
  options: readonly string[];
  /** What is mounted, such as a device; a file system without one says anything. */
  source: string;
  /** Options of the file system itself. */
  superOptions: string;
}

const unescapeOctal = (text: string) =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** All mounts of this process, in the order they were made. Pure part of {@link readMounts}. */
export function parseMountinfo(text: string): Mount[] {
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [left, right] = line.split(' - ');
      const fields = left?.split(' ') ?? [];
      const [type, source, superOptions] = right?.split(' ') ?? [];
      return {
        path: unescapeOctal(fields[4] ?? ''),
        type: type ?? '',
        options: (fields[5] ?? '').split(','),
        source: unescapeOctal(source ?? ''),
        superOptions: superOptions ?? '',
      };
    });
}

/** The one of these that a path lies on: the deepest, and of those the last. Pure. */
export function mountOf<M extends Pick<Mount, 'path'>>(mounts: readonly M[], path: string): M | undefined {
  return mounts
    .filter((mount) => path === mount.path || path.startsWith(mount.path.replace(/\/?$/, '/')))
    .reduce<M | undefined>(
      (deepest, mount) =>
        deepest !== undefined && deepest.path.length > mount.path.length ? deepest : mount,
      undefined,
    );
}

export async function readMounts(): Promise<Mount[]> {
  return parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** Takes away what is mounted in a folder, as what was killed has left it. */
export async function unmountBelow(folder: string): Promise<void> {
  for (const { path } of (await readMounts()).reverse())
    if (path.startsWith(`${folder}/`)) await runCommand('umount', ['-l', '--', path]);
}

const kernelTypes = new Set(
  'autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc pstore rpc_pipefs securityfs selinuxfs sysfs tracefs'.split(
    ' ',
  ),
);
/** A capsule has its own of these, so what the host mounted below stays outside. */
const privateFolders = ['/proc', '/sys', '/dev', '/run', '/tmp'];

/**
 * The host's file systems, apart from the root, that hold users' files and that a capsule therefore sees too: a
 * separate /home, a data disk, a USB stick. Parents come before what is mounted in them. Not those of fuse: only
 * their own user may enter them, the engine not. Pure.
 */
export function userFileSystems(mounts: readonly Mount[]): string[] {
  const paths = mounts
    .filter(
      (mount) => !kernelTypes.has(mount.type) && !mount.type.startsWith('fuse.') && mount.type !== 'tmpfs',
    )
    .map((mount) => mount.path)
    .filter(
      (path) =>
        path !== '/' && !privateFolders.some((folder) => path === folder || path.startsWith(`${folder}/`)),
    );
  return [...new Set(paths)].sort();
}
