/**
 * What processes have mapped and open, read from /proc (proc(5)). Files are looked at through the links there, which
 * lead to the very file whatever its name does meanwhile. A process that ends while it is read has nothing.
 */
import { type BigIntStats, readFileSync, readlinkSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';

export interface Mapping {
  /** As in /proc/PID/map_files. */
  range: string;
  executable: boolean;
  /** Writes go to the file. */
  sharedWritable: boolean;
  /** The same for mappings of the same file under the same name. */
  key: string;
}

const mapsLine = /^([0-9a-f]+)-([0-9a-f]+) (....) [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+ \d+) *(\/.*)$/;

/**
 * The mapped files in /proc/PID/maps, read as latin1. The name there is only good for telling files apart: a newline
 * in it is written as \012, but a backslash as itself.
 */
export function parseMaps(text: string): Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of text.split('\n')) {
    const [, start, end, flags, inode, name] = mapsLine.exec(line) ?? [];
    if (start === undefined || end === undefined || flags === undefined) continue;
    mappings.push({
      range: `${withoutZeros(start)}-${withoutZeros(end)}`,
      executable: flags[2] === 'x',
      sharedWritable: flags[1] === 'w' && flags[3] === 's',
      key: `${inode} ${name}`,
    });
  }
  return mappings;
}

const withoutZeros = (hex: string) => hex.replace(/^0+(?=.)/, '');

/** A file, folder or anything else that a link in /proc leads to. */
export interface Linked {
  /** The link itself, by which it can be read even where its name is gone. */
  link: string;
  /** The name it has in the capsule, with ` (deleted)` where it has none. */
  path: Buffer;
  stat: BigIntStats;
}

export interface MappedFile extends Linked {
  executable: boolean;
  sharedWritable: boolean;
}

export interface OpenFile extends Linked {
  /** Those of open(2). */
  flags: number;
  /** Somebody has a lease on it (fcntl(2), F_SETLEASE). */
  leased: boolean;
  /** It is locked by flock(2). */
  flock: 'read' | 'write' | undefined;
}

/** What a link in /proc leads to; undefined for what has no path, and where the process has gone. */
async function follow(link: string): Promise<Linked | undefined> {
  const path = atOnce(() => readlinkSync(link, { encoding: 'buffer' }));
  if (path?.[0] !== 0x2f) return undefined;
  const found = await unlessGone(stat(link, { bigint: true }));
  return found && { link, path, stat: found };
}

/** Asks the kernel's memory alone, never a disk, so it may be done at once: in turn it takes several times as long. */
function atOnce<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH';
}

async function unlessGone<T>(result: Promise<T>): Promise<T | undefined> {
  try {
    return await result;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

const present = <T>(values: readonly (T | undefined)[]) => values.filter((value) => value !== undefined);

/** All files that are mapped by these processes, each once, by key. */
export async function mappedFiles(pids: readonly number[]): Promise<Map<string, MappedFile>> {
  const uses = new Map<string, Mapping & { pid: number }>();
  for (const pid of pids) {
    for (const mapping of parseMaps(atOnce(() => readFileSync(`/proc/${pid}/maps`, 'latin1')) ?? '')) {
      const other = uses.get(mapping.key);
      uses.set(mapping.key, {
        ...mapping,
        pid,
        executable: mapping.executable || other?.executable === true,
        sharedWritable: mapping.sharedWritable || other?.sharedWritable === true,
      });
    }
  }
  const files = new Map<string, MappedFile>();
  await Promise.all(
    [...uses.values()].map(async ({ key, pid, range, executable, sharedWritable }) => {
      const linked = await follow(`/proc/${pid}/map_files/${range}`);
      if (linked?.stat.isFile()) files.set(key, { ...linked, executable, sharedWritable });
    }),
  );
  return files;
}

export const executableOf = (pid: number) => follow(`/proc/${pid}/exe`);
export const workingFolderOf = (pid: number) => follow(`/proc/${pid}/cwd`);

const flockKinds: Readonly<Record<string, 'read' | 'write'>> = { READ: 'read', WRITE: 'write' };

/** What a process has open: files and folders with a path, and the inodes of its sockets. */
export async function openFiles(pid: number): Promise<{ files: OpenFile[]; sockets: string[] }> {
  const names = (await unlessGone(readdir(`/proc/${pid}/fd`))) ?? [];
  const sockets: string[] = [];
  const files = await Promise.all(
    names.map(async (name): Promise<OpenFile | undefined> => {
      const link = `/proc/${pid}/fd/${name}`;
      const target = atOnce(() => readlinkSync(link, { encoding: 'latin1' }));
      const socket = /^socket:\[(\d+)\]$/.exec(target ?? '')?.[1];
      if (socket !== undefined) sockets.push(socket);
      if (!target?.startsWith('/')) return undefined;
      const linked = await follow(link);
      if (!linked?.stat.isFile() && !linked?.stat.isDirectory()) return undefined;
      const info = await unlessGone(readFile(`/proc/${pid}/fdinfo/${name}`, 'latin1'));
      const flags = /^flags:\s*([0-7]+)$/m.exec(info ?? '')?.[1];
      if (flags === undefined) return undefined;
      const leased = /^lock:\s+\d+: LEASE/m.test(info ?? '');
      const flock = /^lock:\s+\d+: FLOCK\s+\S+\s+(READ|WRITE)/m.exec(info ?? '')?.[1];
      return { ...linked, flags: Number.parseInt(flags, 8), leased, flock: flockKinds[flock ?? ''] };
    }),
  );
  return { files: present(files), sockets };
}

/** The paths in /proc/net/unix, read as latin1, by inode. Abstract names and relative ones are left out. */
export function parseUnixSockets(text: string): Map<string, Buffer> {
  const paths = new Map<string, Buffer>();
  for (const line of text.split('\n')) {
    const [, inode, path] = /^[0-9a-f]+: (?:[0-9A-F]+ ){5} *(\d+) (\/.*)$/i.exec(line) ?? [];
    if (inode !== undefined && path !== undefined) paths.set(inode, Buffer.from(path, 'latin1'));
  }
  return paths;
}

/** The bound paths of all Unix sockets that a process could see. */
export async function boundSockets(pid: number): Promise<Map<string, Buffer>> {
  return parseUnixSockets((await unlessGone(readFile(`/proc/${pid}/net/unix`, 'latin1'))) ?? '');
}
