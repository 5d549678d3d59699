/**
 * Which files of a bundle are needed on this machine, and how they come to lie over its own: what is the same here is taken
 * from here, everything else goes into the workload's layer. A workload that has come home needs no layer: of its files
 * only those are needed that were changed on the other machine.
 */
import { chmod, chown, lstat, mkdir, readlink } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { User } from '../capsule/users.ts';
import { runCommand } from '../command.ts';
import type { FileHashes } from '../files/hashes.ts';
import { hostPath } from '../files/paths.ts';
import { refused } from './checks/refusal.ts';
import type { Base, Bundled, LayerEntry, LayerFile } from './contents.ts';

export interface LayerPlan {
  kind: 'over' | 'home';
  /** Those that are taken out of the bundle. */
  files: LayerFile[];
}

/** Whether a process has it in memory. Pure. */
export const isMapped = ({ role }: LayerFile) =>
  role === 'executable' || role === 'library' || role === 'mapped-data';

/** @param isHome the bundle was made of a workload of this user's on this machine. */
export async function planLayer(
  { kind }: Pick<Bundled['manifest'], 'kind'>,
  { layer, base }: Pick<Bundled, 'layer' | 'base'>,
  isHome: boolean,
  user: User,
  hashes: FileHashes,
): Promise<LayerPlan> {
  const files = layer.filter((entry) => entry.kind === 'file');
  const needed: LayerFile[] = [];
  for (const file of files) if (!(await isHere(file, user, hashes))) needed.push(file);
  const replaced = needed.filter(isMapped);
  if (kind === 'job' && replaced[0] !== undefined) throw notTheSame(replaced[0].path, replaced.length);
  if (kind === 'capsule' && !(isHome && replaced.length === 0)) return { kind: 'over', files: needed };
  return { kind: 'home', files: changedSince(base, files) };
}

/** Of the user's own files those that are not as they were then. Pure. */
export function changedSince(base: Base, files: readonly LayerFile[]): LayerFile[] {
  const before = new Map(base.map(({ path, sha256 }) => [path, sha256]));
  return files.filter(
    (file) => file.owner === 'user' && !isMapped(file) && before.get(file.path) !== file.sha256,
  );
}

/** What the user's own files are. Pure. */
export const ownFiles = (layer: readonly LayerEntry[]): Base =>
  layer.flatMap((entry) =>
    entry.kind === 'file' && entry.owner === 'user' ? { path: entry.path, sha256: entry.sha256 } : [],
  );

function notTheSame(path: string, count: number): TorporError {
  const more = count > 1 ? ` The same goes for ${count - 1} more of its files.` : '';
  return new TorporError(
    'blocked',
    `${path} is another one on this machine, and a job brings no files along.${more} Nothing was imported.`,
    'Install the same version here; or start the program in a capsule (`torpor run`), which brings its files along.',
  );
}

/** Whether this machine has the same file, for this user. */
async function isHere(file: LayerFile, user: User, hashes: FileHashes): Promise<boolean> {
  const there = await lstat(file.path, { bigint: true }).catch(() => undefined);
  if (!there?.isFile() || Number(there.size) !== file.bytes) return false;
  if (Number(there.uid) !== (file.owner === 'user' ? user.uid : 0)) return false;
  if ((Number(there.mode) & 0o777) !== file.mode) return false;
  return (await hashes.hash(file.path, there).catch(() => undefined)) === file.sha256;
}

/**
 * Before the layer is mounted: hides folders of this machine that have the path of one of the user's own but belong to
 * somebody else, as the home of a user of the same name does.
 * @throws TorporError `failed` where such a folder lies behind a link.
 */
export async function hideForeign(
  changes: string,
  entries: readonly LayerEntry[],
  { uid }: User,
): Promise<void> {
  const hidden: string[] = [];
  for (const { kind, path, owner } of entries) {
    if (kind !== 'folder' || owner !== 'user') continue;
    if (hidden.some((above) => path.startsWith(`${above}/`))) continue;
    const there = await lstat(path).catch(() => undefined);
    if (there === undefined || (there.isDirectory() && there.uid === uid)) continue;
    await makeParents(changes, path);
    // What the kernel's overlay takes for "not there": Documentation/filesystems/overlayfs.rst, whiteouts.
    const { status, stderr } = await runCommand('mknod', ['--', join(changes, path), 'c', '0', '0']);
    if (status !== 0)
      throw new TorporError(
        'failed',
        `${path} of this machine cannot be kept apart from that of the bundle: ${stderr.trim()}.`,
        'The state folder must lie on a file system with device nodes, such as ext4, xfs or btrfs.',
      );
    hidden.push(path);
  }
}

async function makeParents(changes: string, path: string): Promise<void> {
  const parts = posix.dirname(path).split('/').filter(Boolean);
  for (let count = 1; count <= parts.length; count++) {
    const above = `/${parts.slice(0, count).join('/')}`;
    const there = await lstat(above);
    if (!there.isDirectory())
      throw new TorporError(
        'failed',
        `${path} of the bundle lies behind ${above}, which is a link on this machine.`,
        'Import it on another machine, or at home.',
      );
    const own = join(changes, above);
    await mkdir(own).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await chown(own, there.uid, there.gid);
    await chmod(own, there.mode & 0o7777);
  }
}

/**
 * What the medium is told to send, for a folder that is this machine's with the layer over it, or an empty one. Links of
 * the machine's own on the way to a file are followed beneath that folder.
 */
export async function fillLayer(
  entries: readonly LayerEntry[],
  { kind, files }: LayerPlan,
  root: string,
): Promise<Readonly<Record<string, unknown>>[]> {
  const wanted = new Set<LayerEntry>(files);
  const tasks: Readonly<Record<string, unknown>>[] = [];
  const made = new Set<string>();
  const makeFolder = (path: string, mode: number, owner: string) => {
    if (made.has(path)) return;
    made.add(path);
    tasks.push({ task: 'folder', path, mode, owner });
  };
  for (const entry of [...entries].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    if (entry.kind === 'file' ? !wanted.has(entry) : entry.kind === 'link' && kind === 'home') continue;
    const folder = await hostPath({ root }, Buffer.from(posix.dirname(entry.path)));
    const path = posix.relative(root, join(folder.toString(), posix.basename(entry.path)));
    const there = await lstat(join(root, path)).catch(() => undefined);
    if (entry.kind === 'file') {
      const { list, mode, owner, mtimeNs } = entry;
      tasks.push({ task: 'file', list, path, mode, owner, mtimeNs });
    } else if (entry.kind === 'link') {
      const isSame = there?.isSymbolicLink() && (await readlink(join(root, path))) === entry.target;
      if (!isSame && !there?.isDirectory())
        tasks.push({ task: 'link', path, target: entry.target, owner: entry.owner });
    } else if (there === undefined && entry.kind === 'folder') makeFolder(path, entry.mode, entry.owner);
  }
  return tasks;
}

/** Where a capsule mounts its own: a link in such a place would have root mount elsewhere. */
const mountedFolders = ['/proc', '/sys', '/dev', '/run', '/tmp'];

/** @throws TorporError `blocked` where a bundle brings files that lie where a capsule has its own. */
export function refuseInOwnFolders(entries: readonly LayerEntry[]): void {
  const inside = entries.find(({ path }) =>
    mountedFolders.some((folder) => path === folder || path.startsWith(`${folder}/`)),
  );
  if (inside !== undefined) throw refused(`it brings ${inside.path}, where a capsule has its own files`);
}

/**
 * Makes the folders on which a capsule has mounts, where they are not there.
 * @throws TorporError `blocked` where one of them is a link, or lies behind one.
 */
export async function prepareMountPoints(root: string, mounts: readonly string[]): Promise<void> {
  for (const path of [...mountedFolders, ...mounts]) {
    const parts = path.split('/').filter(Boolean);
    for (let count = 1; count <= parts.length; count++) {
      const above = join(root, ...parts.slice(0, count));
      await mkdir(above, { mode: 0o755 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
      if (!(await lstat(above)).isDirectory())
        throw refused(`${path}, on which it has a mount, is no folder of its own`);
    }
  }
}
