/**
 * A reader and a writer of the stream of chunks, made from docs/chunk-stream.md alone, so that a mistake in the C code is
 * not made here a second time.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { pageBytes, sha256 } from './page-store.ts';

const program = new URL('../../build/native/torpor-pages', import.meta.url).pathname;
const noId = Buffer.alloc(32);

/** How a source was answered. */
export type Answer =
  | {
      readonly kind: 'list';
      readonly source: number;
      readonly bytes: number;
      readonly sha256: string;
      readonly ids: readonly Buffer[];
    }
  | { readonly kind: 'error'; readonly source: number; readonly errno: number; readonly what: string };

export interface ChunkStream {
  /** Pages by id in hexadecimal, each compared with its id. */
  readonly chunks: ReadonlyMap<string, Buffer>;
  readonly answers: readonly Answer[];
}

export const u32 = (...numbers: number[]): Buffer => {
  const bytes = Buffer.alloc(numbers.length * 4);
  for (const [index, number] of numbers.entries()) bytes.writeUInt32LE(number, index * 4);
  return bytes;
};

export function idOf(bytes: Buffer): Buffer {
  const hashes: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += pageBytes)
    hashes.push(sha256(bytes.subarray(at, at + pageBytes)).subarray(0, 16));
  return sha256(...hashes);
}

const zstd = (input: Buffer, ...args: string[]) =>
  execFileSync('zstd', ['-cq', ...args], { input, maxBuffer: 1 << 30 });
/** One frame, which says how long it is unpacked. */
export const pack = (bytes: Buffer): Buffer =>
  zstd(bytes, '-1', '--no-check', `--stream-size=${bytes.length}`);

interface Item {
  readonly kind: string;
  readonly payload: Buffer;
}

function* itemsOf(stream: Buffer): Generator<Item> {
  for (let at = 0; at < stream.length; ) {
    const length = stream.readUInt32LE(at + 4);
    if (stream.readUIntLE(at + 1, 3) !== 0 || at + 8 + length > stream.length)
      throw new Error(`item at ${at}`);
    yield { kind: stream.toString('latin1', at, at + 1), payload: stream.subarray(at + 8, at + 8 + length) };
    at += 8 + length;
  }
}

function readAnswer({ kind, payload }: Item): Answer {
  const source = payload.readUInt32LE(0);
  if (kind === 'E')
    return { kind: 'error', source, errno: payload.readUInt32LE(4), what: payload.toString('utf8', 8) };
  const count = payload.readUInt32LE(4);
  if (kind !== 'L' || payload.length !== 48 + count * 32) throw new Error(`an item of kind ${kind}`);
  return {
    kind: 'list',
    source,
    bytes: Number(payload.readBigUInt64LE(8)),
    sha256: payload.toString('hex', 16, 48),
    ids: Array.from({ length: count }, (_, index) => payload.subarray(48 + index * 32, 80 + index * 32)),
  };
}

/** Reads what `torpor-pages export` writes. */
export function readStream(stream: Buffer): ChunkStream {
  const chunks = new Map<string, Buffer>();
  const answers: Answer[] = [];
  const packed: { id: string; pages: number; stored: Buffer }[] = [];
  for (const item of itemsOf(stream)) {
    if (item.kind !== 'C') {
      answers.push(readAnswer(item));
      continue;
    }
    const id = item.payload.toString('hex', 0, 32);
    const [codec, pages = 0] = item.payload.subarray(32, 34);
    const stored = item.payload.subarray(36);
    if (chunks.has(id) || item.payload.readUInt16LE(34) !== 0) throw new Error(`chunk ${id}`);
    chunks.set(id, stored);
    if (codec === 2) packed.push({ id, pages, stored });
    else if (codec !== 0) throw new Error(`codec ${codec}`);
  }
  // Frames one after the other are unpacked to bytes one after the other.
  const bytes = packed.length ? zstd(Buffer.concat(packed.map(({ stored }) => stored)), '-d') : noId;
  let at = 0;
  for (const { id, pages } of packed) {
    chunks.set(id, bytes.subarray(at, at + pages * pageBytes));
    at += pages * pageBytes;
  }
  for (const [id, pages] of chunks) if (idOf(pages).toString('hex') !== id) throw new Error(`id of ${id}`);
  return { chunks, answers };
}

/** The pages of a list, chunk by chunk. */
export function chunksOf({ chunks }: ChunkStream, answer: Answer | undefined): Buffer[] {
  if (answer?.kind !== 'list') throw new Error(JSON.stringify(answer));
  return answer.ids.map((id) => {
    const pages = id.equals(noId) ? Buffer.alloc(16 * pageBytes) : chunks.get(id.toString('hex'));
    if (pages === undefined) throw new Error(`chunk ${id.toString('hex')} is missing`);
    return pages;
  });
}

const item = (kind: string, ...parts: (Buffer | string)[]): Buffer => {
  const payload = Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  return Buffer.concat([Buffer.from(kind), Buffer.alloc(3), u32(payload.length), payload]);
};

export interface Rights {
  readonly mode?: number;
  readonly owner?: number;
}

export const folderItem = (path: string, { mode = 0o755, owner = 0 }: Rights = {}): Buffer =>
  item('D', u32(mode, owner), path);

export const linkItem = (path: string, target: string, owner = 0): Buffer =>
  item('Y', u32(owner, Buffer.byteLength(target)), target, path);

export function fileItem(
  path: string,
  bytes: number,
  { mode = 0o644, owner = 0, mtime = 0n }: Rights & { readonly mtime?: bigint } = {},
): Buffer {
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64LE(BigInt(bytes));
  numbers.writeBigInt64LE(mtime, 8);
  return item('F', u32(mode, owner), numbers, path);
}

export const zerosItem = (pages: number): Buffer => item('Z', u32(pages));

export interface Stored {
  readonly codec?: number;
  readonly stored?: Buffer;
  readonly id?: Buffer;
  readonly pages?: number;
}

/** A chunk of a file, or of memory (`P`); what is named is other than it should be. */
export const chunkItem = (bytes: Buffer, kind: 'C' | 'P' = 'C', wrong: Stored = {}): Buffer =>
  item(
    kind,
    wrong.id ?? idOf(bytes),
    Buffer.from([wrong.codec ?? 0, wrong.pages ?? bytes.length / pageBytes, 0, 0]),
    wrong.stored ?? bytes,
  );

/** A file with its chunks, as who reads a bundle would send it. */
export function wholeFile(
  path: string,
  chunks: readonly Buffer[],
  bytes: number,
  rights: Rights = {},
): Buffer {
  let left = Math.ceil(bytes / pageBytes);
  const parts = chunks.map((chunk) => {
    const pages = Math.min(left, chunk.length / pageBytes);
    left -= pages;
    return chunk.some((byte) => byte !== 0) ? chunkItem(chunk) : zerosItem(pages);
  });
  return Buffer.concat([fileItem(path, bytes, rights), ...parts]);
}

interface Ended {
  readonly code: number | null;
  readonly out: Buffer;
  readonly err: string;
}

/** Runs it with bytes for descriptors: 0, and 3 and above. */
async function run(args: readonly string[], input: Buffer, more: readonly Buffer[] = []): Promise<Ended> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe', ...more.map(() => 'pipe' as const)] });
  const out: Buffer[] = [];
  let err = '';
  child.stdout?.on('data', (part: Buffer) => out.push(part));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  for (const [index, bytes] of [input, ...more].entries()) {
    const pipe = child.stdio[index === 0 ? 0 : index + 2] as Writable;
    // One that refuses what it gets does not read the rest.
    pipe.on('error', () => {}).end(bytes);
  }
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out: Buffer.concat(out), err };
}

export const snapshotSource = (folder: string): string => `S ${folder}\n`;
export const fileSource = (path: string): string => `F ${Buffer.from(path).toString('hex')}\n`;

export interface ExportOptions {
  readonly args?: readonly string[];
  readonly known?: readonly Buffer[];
  readonly keys?: Buffer | undefined;
}

/** Runs `torpor-pages export` on sources; its stream as bytes. */
export async function exportBytes(
  sources: readonly string[],
  { args = [], known = [], keys }: ExportOptions = {},
): Promise<Buffer> {
  const keyed = keys === undefined ? [] : ['--key-fd', '4'];
  const { code, out, err } = await run(
    ['export', ...args, '--known-fd', '3', ...keyed],
    Buffer.from(sources.join('')),
    [Buffer.concat(known), ...(keys === undefined ? [] : [keys])],
  );
  if (code !== 0 || err !== '') throw new Error(`torpor-pages export: ${code} ${err}`);
  return out;
}

export const exportSources = async (
  sources: readonly string[],
  options: ExportOptions = {},
): Promise<ChunkStream> => readStream(await exportBytes(sources, options));

/** Runs `torpor-pages import`; its exit code and its only event. */
export async function importStream(
  into: string,
  stream: Buffer,
  args: readonly string[] = [],
  keys?: Buffer,
): Promise<{ code: number | null; event: Record<string, unknown> }> {
  const keyed = keys === undefined ? [] : ['--key-fd', '3'];
  const { code, out, err } = await run(
    ['import', '--into', into, ...args, ...keyed],
    stream,
    keys === undefined ? [] : [keys],
  );
  if (err !== '') throw new Error(`torpor-pages import: ${err}`);
  return { code, event: JSON.parse(out.toString('utf8')) };
}
