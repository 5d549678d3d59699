/**
 * The files on which a suspended application depends: what its processes have mapped and open, and the folders of
 * its sockets, as they were when it was frozen. CRIU takes a file of the same size for the same file, and says little
 * of any other difference; by these records `compare.ts` finds what has changed before the application is restored.
 *
 * A file counts if the host has it under the name the capsule knows, which leaves out what lies on the capsule's
 * private mounts and what has no name any more: both travel in the image.
 */
import { type BigIntStats, constants } from 'node:fs';
import { copyFile, mkdir, stat } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { z } from 'zod';
import { type FileHashes, openRegular } from './hashes.ts';
import {
  type CapsuleView,
  hostPath,
  keptFolder,
  keptHash,
  pathBytes,
  type RecordedPath,
  recordPath,
} from './paths.ts';
import {
  boundSockets,
  executableOf,
  type Linked,
  mappedFiles,
  openFiles,
  workingFolderOf,
} from './processes.ts';

/** Larger documents are told apart by size and times alone: hashing would take longer than the checkpoint. */
const documentHashLimit = 16n * 1024n * 1024n;
const keepLimit = 8n * 1024n * 1024n;

/** O_ACCMODE of open(2). */
const accessMode = 3;

const decimal = z.string().regex(/^\d+$/);
const named = { path: z.string().startsWith('/'), bytes: z.base64().optional() };
const owned = { uid: z.number().int(), gid: z.number().int(), mode: z.number().int() };

const fileSchema = z.object({
  kind: z.literal('file'),
  ...named,
  /** What it is to the application; a file that is several is the first of these. */
  role: z.enum(['executable', 'library', 'mapped-data', 'document']),
  /** Open for writing, or mapped so that writes go to the file. */
  writable: z.boolean(),
  /** Whoever writes to it appends. */
  append: z.boolean(),
  dev: decimal,
  ino: decimal,
  size: decimal,
  mtimeNs: decimal,
  ctimeNs: decimal,
  ...owned,
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
  /** The application had locked it by flock(2). */
  flock: z.enum(['read', 'write']).optional(),
  /** A copy of it in the snapshot's folder. */
  kept: z
    .string()
    .regex(/^kept\/\d+$/)
    .optional(),
});

const folderSchema = z.object({
  kind: z.enum(['socket-folder', 'working-folder', 'open-folder']),
  ...named,
  ...owned,
});

/** Plain JSON, as it stands in a manifest's `surroundings`. */
export const fileRecordSchema = z.union([fileSchema, folderSchema]);
export type FileRecord = z.infer<typeof fileRecordSchema>;
export type RecordedFile = z.infer<typeof fileSchema>;
export type RecordedFolder = z.infer<typeof folderSchema>;

interface FileUse {
  linked: Linked;
  executable: boolean;
  library: boolean;
  mapped: boolean;
  sharedWritable: boolean;
  writers: number;
  appenders: number;
  /** To read it would take the lease away from the application. */
  leased: boolean;
  flock?: 'read' | 'write';
}

/**
 * Records the files of these processes, by the host's pids. Once it has run, it runs quickly again: so a suspend calls
 * it ahead, to have the hashes, and again when the processes stand still, to have what holds.
 * @throws Error where /proc cannot be read; a single file that cannot be read has no hash.
 */
export async function recordFiles(
  pids: readonly number[],
  view: CapsuleView,
  hashes: FileHashes,
): Promise<FileRecord[]> {
  const { uses, folders } = await findUses(pids);
  const [files, kept] = await Promise.all([
    Promise.all([...uses.values()].map((use) => recordFile(use, view, hashes))),
    Promise.all(folders.map((folder) => recordFolder(folder, view))),
  ]);
  const byPath = new Map<string, FileRecord>();
  for (const record of [...files, ...kept]) {
    if (record !== undefined) byPath.set(`${record.kind} ${record.bytes ?? ''} ${record.path}`, record);
  }
  return [...byPath.values()];
}

interface FoundFolder extends Pick<RecordedFolder, 'kind'> {
  pid: number;
  path: Buffer;
}

async function findUses(pids: readonly number[]) {
  const [mapped, executables, workingFolders, open] = await Promise.all([
    mappedFiles(pids),
    Promise.all(pids.map(executableOf)),
    Promise.all(pids.map(workingFolderOf)),
    Promise.all(pids.map(openFiles)),
  ]);
  const uses = new Map<string, FileUse>();
  const use = (linked: Linked): FileUse => {
    const key = `${linked.stat.dev}:${linked.stat.ino}:${linked.path.toString('latin1')}`;
    const known = uses.get(key);
    if (known !== undefined) return known;
    const none = { executable: false, library: false, mapped: false, sharedWritable: false };
    const added: FileUse = { linked, ...none, writers: 0, appenders: 0, leased: false };
    uses.set(key, added);
    return added;
  };
  for (const file of mapped.values()) {
    const found = use(file);
    found.mapped = true;
    found.library ||= file.executable;
    found.sharedWritable ||= file.sharedWritable;
  }
  for (const file of executables) if (file?.stat.isFile()) use(file).executable = true;

  const folders: FoundFolder[] = [];
  // A capsule has one network namespace, the host's.
  const holder = pids.find((_pid, index) => open[index]?.sockets.length);
  const bound = holder === undefined ? new Map<string, Buffer>() : await boundSockets(holder);
  for (const [index, pid] of pids.entries()) {
    const cwd = workingFolders[index];
    if (cwd !== undefined) folders.push({ kind: 'working-folder', pid, path: cwd.path });
    const { files, sockets } = open[index] ?? { files: [], sockets: [] };
    for (const file of files) {
      if (file.stat.isDirectory()) {
        folders.push({ kind: 'open-folder', pid, path: file.path });
        continue;
      }
      const found = use(file);
      found.leased ||= file.leased;
      if (file.flock !== undefined) found.flock = file.flock;
      if ((file.flags & accessMode) === constants.O_RDONLY) continue;
      found.writers++;
      if ((file.flags & constants.O_APPEND) !== 0) found.appenders++;
    }
    for (const path of sockets.flatMap((inode) => bound.get(inode) ?? [])) {
      const folder = Buffer.from(posix.dirname(path.toString('latin1')), 'latin1');
      folders.push({ kind: 'socket-folder', pid, path: folder });
    }
  }
  return { uses, folders };
}

async function recordFile(
  use: FileUse,
  view: CapsuleView,
  hashes: FileHashes,
): Promise<RecordedFile | undefined> {
  const { path, stat: seen } = use.linked;
  const host = await hostPath(view, path);
  const there = await statOrNothing(host);
  if (there === undefined || !sameInode(there, seen)) return undefined;
  const { executable, library, mapped, sharedWritable } = use;
  const record: RecordedFile = {
    kind: 'file',
    ...recordPath(path),
    role: executable ? 'executable' : library ? 'library' : mapped ? 'mapped-data' : 'document',
    writable: sharedWritable || use.writers > 0,
    append: !sharedWritable && use.writers > 0 && use.appenders === use.writers,
    dev: String(there.dev),
    ino: String(there.ino),
    size: String(there.size),
    mtimeNs: String(there.mtimeNs),
    ctimeNs: String(there.ctimeNs),
    ...ownership(there),
    ...(use.flock === undefined ? {} : { flock: use.flock }),
  };
  if (!mapped && !executable && there.size > documentHashLimit) return record;
  // Writing through a mapping changes the times only now and then, so they say nothing of such a file's contents.
  if (sharedWritable || use.leased) return record;
  const sha256 = await hashes.hash(use.linked.link, there).catch(() => undefined);
  return sha256 === undefined ? record : { ...record, sha256 };
}

async function recordFolder(
  { kind, pid, path }: FoundFolder,
  view: CapsuleView,
): Promise<RecordedFolder | undefined> {
  const host = await hostPath(view, path);
  const inside = (folder: Buffer) => Buffer.concat([Buffer.from(`/proc/${pid}/root`), folder]);
  const there = await statOrNothing(host);
  const seen = await statOrNothing(inside(path));
  if (there !== undefined && seen !== undefined) {
    if (!there.isDirectory() || !sameInode(there, seen)) return undefined;
    return { kind, ...recordPath(path), ...ownership(there) };
  }
  // A folder may be removed once its socket is bound; the checkpoint needs it nevertheless to bind it again.
  if (kind !== 'socket-folder' || there !== undefined || seen !== undefined) return undefined;
  const process = await statOrNothing(`/proc/${pid}`);
  if (process === undefined || !(await isOnHost(path, view, inside))) return undefined;
  return { kind, ...recordPath(path), uid: Number(process.uid), gid: Number(process.gid), mode: 0o700 };
}

/** Whether a path that is not there would be the host's: its nearest folder that is there decides. */
async function isOnHost(
  path: Buffer,
  view: CapsuleView,
  inside: (folder: Buffer) => Buffer,
): Promise<boolean> {
  let folder = path.toString('latin1');
  while (folder !== '/') {
    folder = posix.dirname(folder);
    const bytes = Buffer.from(folder, 'latin1');
    const seen = await statOrNothing(inside(bytes));
    if (seen === undefined) continue;
    const there = await statOrNothing(await hostPath(view, bytes));
    return there !== undefined && sameInode(there, seen);
  }
  return false;
}

/**
 * Copies mapped data of the kind that changes often, such as settings databases and caches, into `kept/` of a
 * snapshot's folder, and notes the copy in the record: with it, a change never keeps the application from being
 * resumed. To be called while the processes stand still. A file that cannot be copied, or is another one by now, has
 * no copy. @throws Error where the folder cannot be written.
 */
export async function keepVolatile(
  records: readonly FileRecord[],
  view: CapsuleView,
  folder: string,
): Promise<void> {
  const chosen = records.filter((record) => record.kind === 'file').filter(isVolatile);
  if (chosen.length === 0) return;
  await mkdir(join(folder, 'kept'), { recursive: true, mode: 0o700 });
  await Promise.all(
    chosen.map(async (record, index) => {
      const kept = `kept/${index}`;
      if (await copyIfSame(record, view, join(folder, kept))) record.kept = kept;
    }),
  );
}

/** What Debian's packages bring changes only with them; of that, these files are made anew by others' triggers. */
export const packaged = /^\/(usr|lib\w*|s?bin|opt)\//;
const generated = /\/(?:[^/]+\.cache|gschemas\.compiled|locale-archive)$/;

function isVolatile({ role, writable, path, size }: RecordedFile): boolean {
  // A copy of what the application writes to would take its writes, unseen.
  if (role !== 'mapped-data' || writable || BigInt(size) > keepLimit) return false;
  if (keptHash(path) !== undefined) return false;
  return !packaged.test(path) || generated.test(path);
}

/** Copies by descriptor, so that a link put in the file's place by its owner does not make root read another file. */
async function copyIfSame(record: RecordedFile, view: CapsuleView, target: string): Promise<boolean> {
  const opened = await openRegular(await hostPath(view, pathBytes(record))).catch(() => undefined);
  if (opened === undefined) return false;
  const { file, stat: there } = opened;
  try {
    if (!sameInode(there, { dev: BigInt(record.dev), ino: BigInt(record.ino) })) return false;
    if (String(there.size) !== record.size) return false;
    await copyFile(`/proc/self/fd/${file.fd}`, target, constants.COPYFILE_FICLONE);
    return true;
  } finally {
    await file.close();
  }
}

/** Whether this is a copy that an earlier resume has put in place of a file. */
export const isKeptCopy = ({ path }: RecordedPath) => path.startsWith(`${keptFolder}/`);

export function sameInode(a: Pick<BigIntStats, 'dev' | 'ino'>, b: Pick<BigIntStats, 'dev' | 'ino'>): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

const ownership = ({ uid, gid, mode }: BigIntStats) => ({
  uid: Number(uid),
  gid: Number(gid),
  mode: Number(mode) & 0o7777,
});

export async function statOrNothing(path: string | Buffer): Promise<BigIntStats | undefined> {
  return await stat(path, { bigint: true }).catch(() => undefined);
}
