/**
 * Which files go with a workload: those that it has mapped, open, or watches, the folders that they lie in, what its user
 * chose, and, of one that came with a bundle itself, all that it brought and has written since.
 */
import { lstat, readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import { type Manifest, specOf } from '../../proto/manifest.ts';
import type { User } from '../capsule/users.ts';
import { identityOptions, longestOutput, runCommand } from '../command.ts';
import { readImages } from '../criu/images.ts';
import { watchedPaths } from '../criu/watched.ts';
import { type CapsuleView, hostPath, keptHash } from '../files/paths.ts';
import { fileRecordSchema, type RecordedFile } from '../files/record.ts';
import type { LayerEntry, LayerFile } from './contents.ts';

/** A capsule has its own of these, which travel in CRIU's images. */
const ownFolders = ['/proc', '/sys', '/dev', '/run', '/tmp'];
/** What glibc installs beside libc.so.6 that programs are linked with, or that it loads itself. */
const partsOfGlibc = [
  ...[
    'libm.so.6',
    'libmvec.so.1',
    'libpthread.so.0',
    'libdl.so.2',
    'librt.so.1',
    'libutil.so.1',
    'libanl.so.1',
  ],
  ...['libresolv.so.2', 'libnss_files.so.2', 'libnss_dns.so.2', 'libnss_compat.so.2', 'libnsl.so.1'],
  ...['libBrokenLocale.so.1', 'libthread_db.so.1'],
];
/** Where every program looks for its loader. */
const loaderFolders = ['/lib64', '/lib'];
const chosenLimitMs = 10 * 60_000;

/** A file that is to go with it, once it has been read. */
export type WantedFile = Pick<LayerFile, 'path' | 'role' | 'mode' | 'owner' | 'mtimeNs'> & {
  /** Where it lies on this machine. */
  host: Buffer;
  bytes: number;
  /** As it was at the suspend, where that must still hold. */
  expected: string | undefined;
};

export interface Gathered {
  files: WantedFile[];
  others: Exclude<LayerEntry, { kind: 'file' }>[];
  findings: Finding[];
}

/**
 * @param imagesDir CRIU's images of the snapshot, as they are.
 * @param changes the folder of a layer's changes, where the workload came with a bundle.
 * @param chosen absolute paths as the workload sees them.
 * @throws TorporError `not-found` where nothing is at a chosen path, `blocked` where it has files that were replaced here.
 */
export async function gatherFiles(
  manifest: Manifest,
  imagesDir: string,
  view: CapsuleView,
  { chosen, changes }: { chosen: readonly string[]; changes: string | undefined },
): Promise<Gathered> {
  const { user } = specOf(manifest);
  const isOwn = (path: string) =>
    manifest.kind === 'capsule' &&
    ownFolders.some((folder) => path === folder || path.startsWith(`${folder}/`));
  const gatherer = new Gatherer(view, user, isOwn);
  const records = z.array(fileRecordSchema).parse(manifest.surroundings);
  for (const record of records) {
    if (record.bytes !== undefined) gatherer.cannotName(record.path);
    else if (record.kind !== 'file') await gatherer.add(record.path);
    else if (keptHash(record.path) !== undefined) throw goesOnWithReplaced(manifest.name);
    else if (record.kept === undefined) {
      await gatherer.add(record.path, record);
      if (record.role === 'library' || record.role === 'executable') {
        await gatherer.addNames(record.path);
        await gatherer.addParts(record.path);
      }
    }
  }
  const images = await readImages(imagesDir);
  for (const { path, remap, isExternal } of images.regFiles) {
    if (isExternal || remap === 'procfs') continue;
    const absolute = posix.resolve('/', path);
    // One whose name is gone travels in the image; its folder does not.
    await gatherer.add(remap === 'none' ? absolute : posix.dirname(absolute));
  }
  for (const path of watchedPaths(await readFile(join(imagesDir, 'files.img'))))
    await gatherer.add(posix.resolve('/', path));
  for (const path of chosen) {
    const found = await treeBelow(await gatherer.hostOf(path), user);
    if (found === undefined)
      throw new TorporError(
        'not-found',
        `There is nothing at ${path} that ${user.name} can read.`,
        'Name a file or folder as the application sees it.',
      );
    for (const each of found) await gatherer.add(posix.join(path, each), undefined, true);
  }
  if (changes !== undefined)
    for (const each of (await treeBelow(changes, undefined)) ?? [])
      await gatherer.add(posix.join('/', each), undefined, true);
  return gatherer.result();
}

/** Its memory says nothing of the paths by which another machine could have them. */
function goesOnWithReplaced(name: string): TorporError {
  return new TorporError(
    'blocked',
    `${name} goes on with files of packages that were replaced on this machine after it was started: on another machine it could not go on.`,
    `Resume it here (\`torpor resume ${name}\`), start it anew, and export it then.`,
  );
}

class Gatherer {
  readonly #view: CapsuleView;
  readonly #user: User;
  readonly #isOwn: (path: string) => boolean;
  readonly #files = new Map<string, WantedFile>();
  readonly #others = new Map<string, Gathered['others'][number]>();
  readonly #findings: Finding[] = [];
  readonly #links = new Map<string, Promise<Map<string, string[]>>>();

  constructor(view: CapsuleView, user: User, isOwn: (path: string) => boolean) {
    this.#view = view;
    this.#user = user;
    this.#isOwn = isOwn;
  }

  async hostOf(path: string): Promise<Buffer> {
    const folder = await hostPath(this.#view, Buffer.from(posix.dirname(path)));
    return Buffer.concat([folder, Buffer.from(`/${posix.basename(path)}`)]);
  }

  /** Adds a file or folder with the folders above it; what is not there, or is something else, is left out. */
  async add(path: string, record?: RecordedFile, isChosen = false): Promise<void> {
    if (path === '/' || this.#isOwn(path)) return;
    const known = this.#files.get(path);
    if (known !== undefined || (this.#others.has(path) && record === undefined)) return;
    const host = await this.hostOf(path);
    const there = await lstat(host, { bigint: true }).catch(() => undefined);
    if (there === undefined) return;
    if (dirname(path) !== '/') await this.add(dirname(path));
    const owner = Number(there.uid) === this.#user.uid ? ('user' as const) : ('root' as const);
    const mode = Number(there.mode) & 0o777;
    if (there.isDirectory()) this.#others.set(path, { kind: 'folder', path, mode, owner });
    else if (there.isSymbolicLink() && isChosen) await this.#addLink(path, host, owner);
    else if (there.isFile())
      this.#files.set(path, {
        ...{ path, host, mode, owner },
        bytes: Number(there.size),
        role: record?.role ?? (isChosen ? 'data' : 'document'),
        mtimeNs: String(there.mtimeNs),
        expected: record !== undefined && record.role !== 'document' ? record.sha256 : undefined,
      });
  }

  /**
   * Adds the links by which programs ask for a library, or for their loader: what is started there anew asks for it, too,
   * and can only do with the one that goes along.
   */
  async addNames(path: string): Promise<void> {
    const folder = posix.dirname(path);
    for (const each of /^ld[-.]/.test(posix.basename(path)) ? [folder, ...loaderFolders] : [folder])
      for (const link of (await this.#linksIn(each)).get(path) ?? []) await this.add(link, undefined, true);
  }

  /** Of the C library all of its parts go along: they work with those of the same build only. */
  async addParts(path: string): Promise<void> {
    if (posix.basename(path) !== 'libc.so.6') return;
    for (const name of partsOfGlibc) await this.add(posix.join(posix.dirname(path), name), undefined, true);
  }

  /** The links in a folder to files, by the paths of those. */
  #linksIn(folder: string): Promise<Map<string, string[]>> {
    const known = this.#links.get(folder) ?? this.#readLinks(folder);
    this.#links.set(folder, known);
    return known;
  }

  async #readLinks(folder: string): Promise<Map<string, string[]>> {
    const links = new Map<string, string[]>();
    const host = await hostPath(this.#view, Buffer.from(folder));
    const entries = await readdir(host, { withFileTypes: true }).catch(() => []);
    for (const entry of entries.filter((each) => each.isSymbolicLink())) {
      const link = posix.join(folder, entry.name);
      const end = await this.#endOf(link).catch(() => '');
      links.set(end, [...(links.get(end) ?? []), link]);
    }
    return links;
  }

  /** Where a link leads in the end, as the workload sees it. @throws Error where it leads nowhere, or round. */
  async #endOf(link: string): Promise<string> {
    const { root } = this.#view;
    const end =
      root === '/' ? await realpath(link) : (await hostPath(this.#view, Buffer.from(link))).toString();
    return posix.join('/', posix.relative(root, end));
  }

  async #addLink(path: string, host: Buffer, owner: 'root' | 'user'): Promise<void> {
    const target = await readlink(host, 'utf8').catch(() => '');
    if (target !== '') this.#others.set(path, { kind: 'link', path, target, owner });
  }

  cannotName(path: string): void {
    this.#findings.push({
      tie: 'file',
      verdict: 'degraded',
      by: 'engine',
      what: `${path} has a name that is no UTF-8 and does not go into the bundle.`,
      hint: 'Rename it, and open it again before the export.',
    });
  }

  result(): Gathered {
    const byPath = <T extends { path: string }>(map: Map<string, T>) =>
      [...map.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
    return { files: byPath(this.#files), others: byPath(this.#others), findings: this.#findings };
  }
}

/**
 * Everything at and below a path, relative to it, with `.` for itself; nothing on other file systems, no sockets, pipes
 * and devices. As the user it sees what they see. @returns undefined where nothing is there.
 */
async function treeBelow(folder: string | Buffer, user: User | undefined): Promise<string[] | undefined> {
  const find = [
    ...['find', folder.toString(), '-xdev', '(', '-type', 'f', '-o', '-type', 'd', '-o', '-type', 'l', ')'],
    ...['-printf', '%P\\0'],
  ];
  const result =
    user === undefined
      ? await runCommand(find[0] ?? '', find.slice(1), { timeoutMs: chosenLimitMs })
      : await runCommand('setpriv', [...identityOptions(user), '--', ...find], { timeoutMs: chosenLimitMs });
  // Folders in it that cannot be entered are told with the files that could not be read.
  if (result.stdout === '') return undefined;
  if (result.stdout.length >= longestOutput)
    throw new TorporError(
      'failed',
      `There are too many files below ${folder} for one bundle.`,
      'Name the folders in it that are needed.',
    );
  return result.stdout
    .split('\0')
    .slice(0, -1)
    .map((path) => path || '.');
}
