/**
 * The catalogue of one generation: what the bundle's owner wrote into it, the lists of chunks that make files and memories,
 * and where each chunk lies. Nothing of it is looked at before all of it is authenticated.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { ChunkTable, entryBytes, zeros } from './chunk-table.ts';
import { partKey, recordNonce, seal, tagBytes, unseal } from './crypto.ts';
import { type BundleKey, mostPackBytes, type Pack, packHeaderBytes, recordBytes } from './pack.ts';
import { chunkFault, mostPages, pageBytes } from './stream.ts';
import { DamageError } from './trouble.ts';

const magic = Buffer.from('TORPORBC');
const version = 1;
export const catalogueHeaderBytes = 96;
const label = 'torpor bundle catalogues 1';
const frameBytes = 65536;
const mostBodyBytes = 1024 * 1024 * 1024;
const mostJsonBytes = 64 * 1024 * 1024;

/** A file's contents or a snapshot's memory. `sha256` in hexadecimal. */
export interface List {
  bytes: number;
  sha256: string;
  /** Numbers in the table, or {@link zeros}. */
  chunks: Uint32Array;
}

export interface Catalogue {
  generation: number;
  contents: Record<string, unknown>;
  packs: readonly Pack[];
  /** Those of sources that could not be read are missing. */
  lists: readonly (List | null)[];
  table: ChunkTable;
}

const bytesSchema = z.int().min(0);
const schema = z.strictObject({
  version: z.literal(1),
  contents: z.record(z.string(), z.unknown()),
  packs: z.array(
    z.strictObject({
      id: z.string().regex(/^[0-9a-f]{32}$/),
      bytes: z.int().min(packHeaderBytes).max(mostPackBytes),
      records: z.int().min(0),
    }),
  ),
  lists: z.array(
    z
      .strictObject({ bytes: bytesSchema, sha256: z.string().regex(/^[0-9a-f]{64}$/), entries: bytesSchema })
      .nullable(),
  ),
  chunks: bytesSchema,
});

/** As it lies on the medium. */
export function encodeCatalogue(bundle: BundleKey, catalogue: Catalogue): Buffer {
  const { generation, contents, packs, lists, table } = catalogue;
  const json = Buffer.from(
    JSON.stringify({
      version,
      contents,
      packs: [...packs],
      lists: lists.map(
        (list) => list && { bytes: list.bytes, sha256: list.sha256, entries: list.chunks.length },
      ),
      chunks: table.count,
    } satisfies z.input<typeof schema>),
  );
  if (json.length > mostJsonBytes) throw new RangeError('the contents are too long for a bundle');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(json.length);
  const numbers = lists.map((list) => numbersToBytes(list?.chunks ?? new Uint32Array()));
  const body = Buffer.concat([length, json, table.bytes, ...numbers]);
  if (body.length > mostBodyBytes) throw new RangeError('the catalogue is too long for a bundle');
  const header = Buffer.alloc(catalogueHeaderBytes);
  magic.copy(header, 0);
  header.writeUInt32LE(version, 8);
  bundle.id.copy(header, 16);
  header.writeBigUInt64LE(BigInt(generation), 32);
  header.writeBigUInt64LE(BigInt(body.length), 40);
  randomBytes(32).copy(header, 48);
  const key = partKey(bundle.key, label, header);
  const parts: Buffer[] = [header];
  for (let at = 0, number = 0; at < body.length; at += frameBytes, number++) {
    const isLast = at + frameBytes >= body.length;
    parts.push(...seal(key, recordNonce(number, isLast), header, body.subarray(at, at + frameBytes)));
  }
  return Buffer.concat(parts);
}

/** Everything Torpor runs on is little-endian; the bytes are copied for their alignment. */
const numbersToBytes = (numbers: Uint32Array) =>
  Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);

function bytesToNumbers(bytes: Buffer): Uint32Array {
  const copy = new Uint8Array(bytes);
  return new Uint32Array(copy.buffer);
}

/** @throws DamageError where it is not what was written, or not complete. */
export function decodeCatalogue(bundle: BundleKey, bytes: Buffer): Catalogue {
  const header = bytes.subarray(0, catalogueHeaderBytes);
  if (header.length < catalogueHeaderBytes) throw new DamageError('its catalogue is cut short');
  if (
    !header.subarray(0, 8).equals(magic) ||
    header.readUInt32LE(8) !== version ||
    !header.subarray(16, 32).equals(bundle.id)
  )
    throw new DamageError('its catalogue is not what was written');
  const bodyBytes = header.readBigUInt64LE(40);
  const frames = Math.ceil(Number(bodyBytes) / frameBytes);
  if (
    bodyBytes < 1n ||
    bodyBytes > BigInt(mostBodyBytes) ||
    bytes.length !== catalogueHeaderBytes + Number(bodyBytes) + frames * tagBytes
  )
    throw new DamageError('its catalogue is not complete');
  const key = partKey(bundle.key, label, header);
  const parts = Array.from({ length: frames }, (_, number) => {
    const at = catalogueHeaderBytes + number * (frameBytes + tagBytes);
    const frame = bytes.subarray(at, at + frameBytes + tagBytes);
    const plain = unseal(key, recordNonce(number, number === frames - 1), header, frame);
    if (plain === undefined) throw new DamageError('its catalogue is not what was written');
    return plain;
  });
  return parseBody(Number(header.readBigUInt64LE(32)), Buffer.concat(parts));
}

/** What is authentic comes from a program with the key; a mistake of that program is found here. */
export function parseBody(generation: number, body: Buffer): Catalogue {
  const wrong = (what: string) => new DamageError(`its catalogue contradicts itself (${what})`);
  const jsonBytes = body.length < 4 ? -1 : body.readUInt32LE(0);
  if (jsonBytes < 2 || jsonBytes > mostJsonBytes || 4 + jsonBytes > body.length) throw wrong('length');
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8', 4, 4 + jsonBytes));
  } catch {
    throw wrong('no JSON');
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw wrong(z.prettifyError(parsed.error).split('\n')[0] ?? '');
  const { contents, packs, lists, chunks } = parsed.data;
  const entriesEnd = 4 + jsonBytes + chunks * entryBytes;
  const listed = lists.reduce((sum, list) => sum + (list?.entries ?? 0), 0);
  if (entriesEnd + listed * 4 !== body.length) throw wrong('length of the lists');
  if (new Set(packs.map(({ id }) => id)).size !== packs.length) throw wrong('a pack twice');
  let table: ChunkTable;
  try {
    table = new ChunkTable(body.subarray(4 + jsonBytes, entriesEnd));
  } catch (error) {
    if (error instanceof RangeError) throw wrong(error.message);
    throw error;
  }
  for (let number = 0; number < table.count; number++) {
    const fault = entryFault(table, number, packs);
    if (fault !== undefined) throw wrong(fault);
  }
  let at = entriesEnd;
  return {
    generation,
    contents,
    packs,
    table,
    lists: lists.map((list) => {
      if (list === null) return null;
      const numbers = bytesToNumbers(body.subarray(at, at + list.entries * 4));
      at += list.entries * 4;
      const fault = listFault(table, list.bytes, numbers);
      if (fault !== undefined) throw wrong(fault);
      return { bytes: list.bytes, sha256: list.sha256, chunks: numbers };
    }),
  };
}

function entryFault(table: ChunkTable, number: number, packs: readonly Pack[]): string | undefined {
  const place = table.place(number);
  const pack = packs[place.pack];
  if (pack === undefined) return 'a chunk in no pack';
  if (place.record >= pack.records) return 'a record that is not there';
  if (place.offset < packHeaderBytes || place.offset + recordBytes(place.length) > pack.bytes)
    return 'a chunk outside of its pack';
  return chunkFault(table.codec(number), table.pages(number), place.length);
}

/** Why these chunks do not make so many bytes. */
export function listFault(table: ChunkTable, bytes: number, numbers: Uint32Array): string | undefined {
  let left = Math.ceil(bytes / pageBytes);
  for (const number of numbers) {
    if (number !== zeros && number >= table.count) return 'a list of a chunk that is not there';
    const pages = number === zeros ? Math.min(mostPages, left) : table.pages(number);
    if (left === 0 || pages > left) return `a list of more than its ${bytes} bytes`;
    left -= pages;
  }
  return left === 0 ? undefined : `a list of less than its ${bytes} bytes`;
}
