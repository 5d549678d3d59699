/**
 * What the start of an application depends on: the files that it has read, and which files were in the folders that it has
 * looked into, as they were just after. By these records a later start knows whether one made of them still does.
 *
 * What came with packages is known by its times. What is the user's own is known by its contents, since many programs write
 * their settings anew, and the same, each time they end.
 */
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { z } from 'zod';
import { FileHashes } from '../files/hashes.ts';
import { packaged, statOrNothing } from '../files/record.ts';

/** Larger ones are known by size and time alone. */
const hashLimit = 16n * 1024n * 1024n;
/** Neither programs nor settings: what is made anew at any time, and what belongs to one run alone. */
const passing =
  /^\/(?:proc|sys|dev|run|tmp|var\/(?:tmp|run|cache|log|lib\/torpor))\/|\/\.cache\/|\/[^/]*cache2?\//;
/** Locks, journals of databases, and what is there only while something else is written. */
const momentary =
  /(?:^|\/)(?:[^/]*\.?(?:lock|lck|pid|sock(?:et)?)|lock|\.~[^/]*|\.#[^/]*|[^/]*~|[^/]*-(?:wal|shm|journal)|[^/]*\.(?:tmp|part|new|swp)|\.goutputstream[^/]*|[^/]*\.log)$/i;
/** Of data that changes with each run and that nobody sets: what was open last, statistics. */
const records =
  /\/(?:recently-used\.xbel[^/]*|crashes\/[^/]*|datareporting\/[^/]*|saved-telemetry-pings\/[^/]*)$/;

const decimal = z.string().regex(/^\d+$/);
const path = z.string().min(1);
export const inputSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('file'),
    /** Each byte a character (latin1). */
    path,
    ino: decimal,
    size: decimal,
    mtimeNs: decimal,
    sha256: z.string().optional(),
  }),
  z.object({ kind: z.literal('folder'), path, names: z.string() }),
]);
export type Input = z.infer<typeof inputSchema>;

/** Pure. */
export function countsAsInput(text: string): boolean {
  return !passing.test(text) && !momentary.test(text.replace(/\/$/, '')) && !records.test(text);
}

/** Pure: a hash of the names that matter. */
export function hashOfNames(names: readonly string[]): string {
  const counted = names.filter((name) => !momentary.test(name) && !records.test(`/${name}`)).sort();
  return createHash('sha256').update(counted.join('\0')).digest('hex');
}

/**
 * Records what has been opened; what has gone since is left out.
 * @param opened absolute paths, folders with a slash at the end.
 */
export async function recordInputs(opened: readonly Buffer[]): Promise<Input[]> {
  const hashes = new FileHashes();
  const paths = opened.map((each) => each.toString('latin1')).filter(countsAsInput);
  const found = await Promise.all(
    paths.map((each) => (each.endsWith('/') ? recordFolder(each) : recordFile(each, hashes))),
  );
  return found.filter((input) => input !== undefined);
}

/** @returns the path of one that is not as it was, for people; undefined where all are. */
export async function changedInput(inputs: readonly Input[]): Promise<string | undefined> {
  const hashes = new FileHashes();
  const changed = await Promise.all(
    inputs.map(
      async (input) => (await isSame(input, hashes)) || Buffer.from(input.path, 'latin1').toString(),
    ),
  );
  return changed.find((each) => typeof each === 'string');
}

async function recordFile(name: string, hashes: FileHashes): Promise<Input | undefined> {
  const bytes = Buffer.from(name, 'latin1');
  const now = await statOrNothing(bytes);
  if (now?.isFile() !== true) return undefined;
  const { ino, size, mtimeNs } = now;
  const times = { ino: String(ino), size: String(size), mtimeNs: String(mtimeNs) };
  const isHashed = !packaged.test(name) && size <= hashLimit;
  const sha256 = isHashed ? await hashes.hash(bytes, now).catch(() => undefined) : undefined;
  return { kind: 'file', path: name, ...times, ...(sha256 === undefined ? {} : { sha256 }) };
}

async function recordFolder(name: string): Promise<Input | undefined> {
  const names = await namesIn(name);
  return names && { kind: 'folder', path: name, names: hashOfNames(names) };
}

async function isSame(input: Input, hashes: FileHashes): Promise<boolean> {
  if (input.kind === 'folder') {
    const names = await namesIn(input.path);
    return names !== undefined && hashOfNames(names) === input.names;
  }
  const bytes = Buffer.from(input.path, 'latin1');
  const now = await statOrNothing(bytes);
  if (now?.isFile() !== true || String(now.size) !== input.size) return false;
  if (String(now.ino) === input.ino && String(now.mtimeNs) === input.mtimeNs) return true;
  if (input.sha256 === undefined) return false;
  return (await hashes.hash(bytes, now).catch(() => undefined)) === input.sha256;
}

async function namesIn(folder: string): Promise<string[] | undefined> {
  const names = await readdir(Buffer.from(folder, 'latin1'), { encoding: 'latin1' }).catch(() => undefined);
  return names;
}
