/** Bundles as a whole, whatever their form: finding one, opening it, and which of its generations counts. */
import { lstat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TorporError } from '../../../api/errors.ts';
import { type Catalogue, decodeCatalogue } from './catalogue.ts';
import type { ChunkTable } from './chunk-table.ts';
import { partialOf, replaceFileHeader, StoredFile } from './file-form.ts';
import { lockBundle, putHeader, readFolderHeader, StoredFolder } from './folder-form.ts';
import type { Stored } from './form.ts';
import {
  addPassphrases,
  headerBytes,
  type Kdf,
  looksLikeHeader,
  noBundle,
  type OpenHeader,
  openHeader,
  openHeaderByKey,
  parseHeader,
  removePassphrases,
} from './header.ts';
import { PackReader } from './pack.ts';
import { DamageError, errnoOf } from './trouble.ts';

export type Kind = 'file' | 'folder' | 'nothing';

/** @throws TorporError where it is neither a file nor a folder. */
export async function kindOf(path: string): Promise<Kind> {
  try {
    const found = await lstat(path);
    if (found.isDirectory()) return 'folder';
    if (found.isFile()) return 'file';
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    await refuseWithoutParent(path);
    return 'nothing';
  }
  throw new TorporError(
    'usage',
    `${path} is neither a file nor a folder, so that it can be no bundle.`,
    'Name the file or the folder itself, not a link to it.',
  );
}

async function refuseWithoutParent(path: string): Promise<void> {
  try {
    if ((await lstat(dirname(path))).isDirectory() || dirname(path) === path) return;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT')
      throw new TorporError(
        'not-found',
        `The folder ${dirname(path)} is not there.`,
        'Plug the medium in, or make the folder first.',
      );
    throw error;
  }
}

/** What is there, if it is a bundle at all. */
export async function findStored(path: string, kind: 'file' | 'folder'): Promise<Stored | undefined> {
  if (kind === 'folder') {
    const header = await readFolderHeader(path);
    return header && new StoredFolder(path, header);
  }
  const stored = await StoredFile.open(path);
  if (stored.header.length === headerBytes && looksLikeHeader(stored.header)) return stored;
  await stored[Symbol.asyncDispose]();
  return undefined;
}

async function openStored(path: string): Promise<Stored> {
  const kind = await kindOf(path);
  if (kind !== 'nothing') {
    const stored = await findStored(path, kind);
    if (stored !== undefined) return stored;
    throw noBundle(path);
  }
  if ((await kindOf(partialOf(path))) !== 'nothing')
    throw new TorporError(
      'failed',
      `The bundle ${path} is incomplete: its export was interrupted.`,
      'Export the session once more. What the interrupted export has left is replaced then.',
    );
  throw new TorporError(
    'not-found',
    `There is no bundle ${path}.`,
    'Plug the medium in, or name another one.',
  );
}

/** A bundle with its newest complete generation. */
export interface OpenBundle {
  stored: Stored;
  header: OpenHeader;
  catalogue: Catalogue;
  /** A newer generation that is not complete. */
  passedOver: number | undefined;
  bytes: number;
}

/** The newest generation that is complete and authentic. @throws TorporError where there is none. */
export async function openCurrent(stored: Stored, header: OpenHeader, path: string): Promise<OpenBundle> {
  let passedOver: number | undefined;
  let why: string | undefined;
  for (const candidate of await stored.candidates()) {
    try {
      const bytes = await candidate.read();
      const catalogue = decodeCatalogue(header, bytes);
      if (candidate.generation !== undefined && candidate.generation !== catalogue.generation)
        throw new DamageError('a catalogue has the name of another');
      const size = await stored.measure(catalogue.packs, bytes.length);
      passedOver ??= await stored.unfinishedAfter(catalogue.generation);
      return { stored, header, catalogue, passedOver, bytes: size };
    } catch (error) {
      if (!(error instanceof DamageError) && errnoOf(error) === undefined) throw error;
      why ??=
        error instanceof DamageError ? error.message : `its catalogue cannot be read (${errnoOf(error)})`;
      passedOver ??= candidate.generation;
    }
  }
  throw new TorporError(
    'failed',
    `The bundle ${path} is incomplete: it has no generation that was written to its end${why === undefined ? '' : `, or that is still whole (${why})`}.`,
    'Use another copy of it, or export the session anew.',
  );
}

/** What opens a bundle: a passphrase, or the key that it has given when it was opened before. */
export type Opener = { passphrase: string } | { key: Buffer };

export async function openBundle(path: string, by: Opener): Promise<OpenBundle> {
  const stored = await openStored(path);
  try {
    const parsed = parseHeader(stored.header, path);
    const header =
      'key' in by ? openHeaderByKey(parsed, by.key, path) : await openHeader(parsed, by.passphrase, path);
    return await openCurrent(stored, header, path);
  } catch (error) {
    await stored[Symbol.asyncDispose]();
    throw error;
  }
}

export const readerOf = ({ stored, header, catalogue }: OpenBundle): PackReader =>
  new PackReader(header, catalogue.packs, (number) => stored.openPack(catalogue.packs, number));

/** Reads all these chunks in the order in which they lie. @throws DamageError where one is not what was written */
export async function readAll(
  reader: PackReader,
  { table }: Pick<Catalogue, 'table'>,
  numbers: Uint32Array,
  seen: (payload: Buffer) => Promise<void> | undefined,
): Promise<void> {
  for (const number of inOrder(table, numbers)) {
    const place = table.place(number);
    const payload = reader.atHand(place) ?? (await reader.read(place));
    if (payload.compare(table.id(number), 0, 32, 0, 32) !== 0)
      throw new DamageError('a record holds another chunk than its catalogue says');
    const waiting = seen(payload);
    if (waiting !== undefined) await waiting;
  }
}

/** As they lie in the packs. */
function inOrder(table: ChunkTable, numbers: Uint32Array): Uint32Array {
  // One number for the place and the chunk at once would not be exact any more; sorted by places, found by them.
  const places = Float64Array.from(numbers, (number) => table.position(number));
  const byPlace = new Map<number, number>();
  for (const [index, number] of numbers.entries()) byPlace.set(places[index] ?? 0, number);
  return Uint32Array.from(places.sort(), (place) => byPlace.get(place) ?? 0);
}

/** Every chunk of a table. */
export const everyNumber = (count: number): Uint32Array => Uint32Array.from({ length: count }, (_, n) => n);

/** Other passphrases for a bundle that is there. @returns how many it has now. */
export async function changePassphrases(
  path: string,
  passphrase: string,
  change: { add: readonly string[]; remove: readonly string[]; kdf: Kdf },
): Promise<number> {
  using _held = (await kindOf(path)) === 'folder' ? lockBundle(path) : undefined;
  await using stored = await openStored(path);
  const old = await openHeader(parseHeader(stored.header, path), passphrase, path);
  const header = await removePassphrases(await addPassphrases(old, change.add, change.kdf), change.remove);
  if (header !== old) {
    if (stored.kind === 'folder') await putHeader(path, header.bytes);
    else await replaceFileHeader(path, header.bytes);
  }
  return header.wraps.length;
}
