/**
 * The page store from outside: a client that sends pages as CRIU does, and a reader of what torpor-pages wrote, made
 * from docs/store-format.md alone, so that a mistake in the C code is not made here a second time.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

export const pageBytes = 4096;
const chunkBytes = 16 * pageBytes;
const build = new URL('../../build/native', import.meta.url).pathname;
let programs = build;

/** Uses those that `make -C native sanitized` made with a sanitizer, or the usual ones again. */
export function usePrograms(kind?: 'asan' | 'tsan'): void {
  programs = kind ? join(build, kind) : build;
}

/** Pages of one process (kind 1) or of shared memory (kind 2), in ascending order of addresses. */
export interface SentImage {
  readonly id: number;
  readonly kind: 1 | 2;
  readonly runs: readonly { readonly vaddr: number; readonly bytes: Buffer; readonly flags?: number }[];
}

export interface Received {
  readonly pages: number;
  readonly zeroPages: number;
  readonly parentPages: number;
  readonly unfetchedPages: number;
  readonly knownChunks: number;
  readonly chunks: number;
  readonly newChunks: number;
  readonly rawBytes: number;
  readonly writtenBytes: number;
  readonly codec: string;
}

export interface UnfetchedRange {
  readonly dstId: number;
  readonly vaddr: number;
  readonly pages: number;
  readonly firstPage: number;
}

export const dstId = (image: Pick<SentImage, 'id' | 'kind'>) => image.id * 256 + image.kind;

/** Bytes that look random and are the same each time. */
export const randomBytes = (length: number, seed: number) =>
  createCipheriv('aes-128-ctr', createHash('md5').update(String(seed)).digest(), Buffer.alloc(16)).update(
    Buffer.alloc(length),
  );

/** Bytes that compress about as well as text. */
export function textBytes(length: number, seed: number): Buffer {
  const words = Array.from({ length: 256 }, (_, word) => `${((word + 3) * 7919 * 104_729).toString(36)} `);
  const choice = randomBytes(length / 2, seed);
  let text = '';
  for (let at = 0; text.length < length; at++) text += words[choice[at] ?? 0];
  return Buffer.from(text, 'latin1').subarray(0, length);
}

/** A subcommand that is being run, and what it has said up to now. */
export class PagesProgram {
  readonly child: ChildProcess;
  readonly events: Record<string, unknown>[] = [];
  readonly ended: Promise<number | null>;

  constructor(args: readonly string[]) {
    // Node makes each pipe of a child a pair of unix sockets, which is what CRIU is given too.
    this.child = spawn(join(programs, 'torpor-pages'), args, { stdio: ['pipe', 'pipe', 'inherit', 'pipe'] });
    let rest = '';
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.events.push(JSON.parse(line));
    });
    // A receiver that refuses what it gets hangs up: that is what such tests look for in its events.
    this.child.stdin?.on('error', () => {});
    this.socket.on('error', () => {});
    this.ended = once(this.child, 'close').then(([code]) => code);
  }

  get socket(): Duplex {
    return this.child.stdio[3] as Duplex;
  }

  get last(): Record<string, unknown> {
    return this.events.at(-1) ?? {};
  }

  /** Sends a request of the page server's protocol. */
  request(command: number, fields: { pages?: number; vaddr?: number; dstId?: number } = {}): void {
    const request = Buffer.alloc(32);
    request.writeUInt32LE(command >>> 0);
    request.writeBigUInt64LE(BigInt(fields.pages ?? 0), 8);
    request.writeBigUInt64LE(BigInt(fields.vaddr ?? 0), 16);
    request.writeBigUInt64LE(BigInt(fields.dstId ?? 0), 24);
    this.socket.write(request);
  }

  /** Sends bytes, not faster than they are taken. */
  async send(bytes: Buffer): Promise<void> {
    const drained = () => once(this.socket, 'drain').catch(() => this.ended);
    if (!this.socket.write(bytes)) await Promise.race([drained(), this.ended]);
  }

  async answer(length: number): Promise<Buffer> {
    for (;;) {
      const answer: Buffer | null = this.socket.read(length);
      if (answer) return answer;
      if (this.socket.readableEnded || this.child.exitCode !== null) throw new Error('no answer');
      await Promise.race([once(this.socket, 'readable'), once(this.socket, 'close'), this.ended]);
    }
  }

  async openImage(image: Pick<SentImage, 'id' | 'kind'>): Promise<void> {
    this.request(4, { dstId: dstId(image) });
    const [hasParent] = await this.answer(1);
    if (hasParent !== 0) throw new Error('it says that it has a parent');
  }

  async sendRun(
    image: Pick<SentImage, 'id' | 'kind'>,
    vaddr: number,
    bytes: Buffer,
    flags = 6,
  ): Promise<void> {
    this.request(6 | (flags << 16), { pages: bytes.length / pageBytes, vaddr, dstId: dstId(image) });
    await this.send(bytes);
  }

  async sendImage(image: SentImage): Promise<void> {
    await this.openImage(image);
    for (const run of image.runs) await this.sendRun(image, run.vaddr, run.bytes, run.flags);
  }

  async close(): Promise<void> {
    this.request(0x1024);
    await this.answer(4);
  }

  [Symbol.dispose](): void {
    this.child.kill('SIGKILL');
  }
}

export async function runPages(args: readonly string[]): Promise<Record<string, unknown>> {
  using program = new PagesProgram(args);
  await program.ended;
  return program.last;
}

export function startReceive(store: string, id: string, more: readonly string[] = []): PagesProgram {
  return new PagesProgram([
    'receive',
    '--socket',
    '3',
    '--store',
    store,
    '--stage',
    stageOf(store, id),
    ...more,
  ]);
}

export const stageOf = (store: string, id: string) => join(store, 'staging', id);
export const snapshotOf = (store: string, id: string) => join(store, 'snapshots', id);

/** What the engine does when all has been written. */
export async function commit(store: string, id: string): Promise<void> {
  const stage = stageOf(store, id);
  await mkdir(join(store, 'packs'), { recursive: true });
  await mkdir(join(store, 'snapshots'), { recursive: true });
  for (const name of (await readdir(join(stage, 'packs'))).sort().reverse())
    await rename(join(stage, 'packs', name), join(store, 'packs', name));
  await rm(join(stage, 'packs'), { recursive: true });
  await rename(stage, snapshotOf(store, id));
}

/** Sends images as CRIU would and commits them. */
export async function receive(
  store: string,
  id: string,
  images: readonly SentImage[],
  { go = 'go', args = [] }: { go?: string; args?: readonly string[] } = {},
): Promise<Received> {
  await mkdir(stageOf(store, id), { recursive: true });
  using program = startReceive(store, id, args);
  program.child.stdin?.write(`${go}\n`);
  for (const image of images) await program.sendImage(image);
  await program.close();
  const code = await program.ended;
  if (code !== 0) throw new Error(JSON.stringify(program.last));
  await commit(store, id);
  return program.last as unknown as Received;
}

export async function writeUnfetched(path: string, ranges: readonly UnfetchedRange[]): Promise<void> {
  const bytes = Buffer.alloc(ranges.length * 32);
  for (const [index, range] of ranges.entries()) {
    bytes.writeBigUInt64LE(BigInt(range.dstId), index * 32);
    bytes.writeBigUInt64LE(BigInt(range.vaddr), index * 32 + 8);
    bytes.writeBigUInt64LE(BigInt(range.pages), index * 32 + 16);
    bytes.writeBigUInt64LE(BigInt(range.firstPage), index * 32 + 24);
  }
  await writeFile(path, bytes);
}

export const sha256 = (...parts: Uint8Array[]) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** LZ4's block format: sequences of literals and of matches with what came before. */
function unpackLz4(packed: Buffer, length: number): Buffer {
  const out = Buffer.alloc(length);
  let at = 0;
  let end = 0;
  const extended = (start: number) => {
    let value = start;
    if (start === 15) for (let more = 255; more === 255; value += more) more = packed.readUInt8(at++);
    return value;
  };
  while (at < packed.length) {
    const token = packed.readUInt8(at++);
    const literals = extended(token >> 4);
    packed.copy(out, end, at, at + literals);
    at += literals;
    end += literals;
    if (at >= packed.length) break;
    const distance = packed.readUInt16LE(at);
    at += 2;
    const match = extended(token & 15) + 4;
    for (let each = 0; each < match; each++, end++) out[end] = out.readUInt8(end - distance);
  }
  if (end !== length) throw new Error(`${end} bytes and not ${length}`);
  return out;
}

export interface IdxEntry {
  readonly id: string;
  readonly offset: number;
  readonly stored: number;
  readonly codec: number;
  readonly pages: number;
}

/** The entries of an .idx, after a look at everything that it says of itself. */
export async function readIdx(path: string): Promise<IdxEntry[]> {
  const bytes = await readFile(path);
  const count = Number(bytes.readBigUInt64LE(40));
  if (bytes.toString('latin1', 0, 8) !== 'TORPORIX' || bytes.readUInt32LE(8) !== 1) throw new Error('no idx');
  if (bytes.length !== 48 + count * 48 + 32) throw new Error('length of the idx');
  if (!sha256(bytes.subarray(0, -32)).equals(bytes.subarray(-32))) throw new Error('digest of the idx');
  return Array.from({ length: count }, (_, index) => {
    const entry = bytes.subarray(48 + index * 48, 96 + index * 48);
    return {
      id: entry.toString('hex', 0, 32),
      offset: Number(entry.readBigUInt64LE(32)),
      stored: entry.readUInt32LE(40),
      codec: entry.readUInt8(44),
      pages: entry.readUInt8(45),
    };
  });
}

async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
  if (bytesRead !== length) throw new Error(`a record is cut short at ${offset}`);
  return buffer;
}

/** Every chunk of a folder of packs, by its id, each record looked at as the format says. */
async function readPacks(folder: string): Promise<Map<string, Buffer>> {
  const chunks = new Map<string, Buffer>();
  const zstd: { entry: IdxEntry; stored: Buffer }[] = [];
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.pack')) continue;
    await using file = await open(join(folder, name));
    const header = await readAt(file, 0, 64);
    const packId = header.toString('hex', 16, 32);
    if (header.toString('latin1', 0, 8) !== 'TORPORPK' || `${packId}.pack` !== name)
      throw new Error(`header of ${name}`);
    if (!sha256(header.subarray(0, 56)).subarray(0, 8).equals(header.subarray(56)))
      throw new Error(`check of ${name}`);
    for (const entry of await readIdx(join(folder, `${packId}.idx`))) {
      const record = await readAt(file, entry.offset, 64 + entry.stored);
      if (!sha256(record.subarray(0, 56)).subarray(0, 8).equals(record.subarray(56, 64)))
        throw new Error(`check of the record at ${entry.offset}`);
      if (record.toString('hex', 16, 48) !== entry.id || record.readUInt32LE(8) !== entry.stored)
        throw new Error(`the record at ${entry.offset} is not that of the idx`);
      const stored = record.subarray(64);
      if (entry.codec === 0) chunks.set(entry.id, stored);
      else if (entry.codec === 1) chunks.set(entry.id, unpackLz4(stored, entry.pages * pageBytes));
      else zstd.push({ entry, stored });
    }
  }
  if (zstd.length === 0) return chunks;
  // Frames one after the other are unpacked to bytes one after the other.
  const bytes = execFileSync('zstd', ['-dcq'], {
    input: Buffer.concat(zstd.map(({ stored }) => stored)),
    maxBuffer: zstd.length * chunkBytes,
  });
  let at = 0;
  for (const { entry } of zstd) {
    chunks.set(entry.id, bytes.subarray(at, at + entry.pages * pageBytes));
    at += entry.pages * pageBytes;
  }
  return chunks;
}

export interface ReadImage {
  readonly dstId: number;
  readonly pagesId: number;
  readonly firstPage: number;
  readonly entries: { vaddr: number; pages: number; flags: number }[];
  /** By address. */
  readonly pages: Map<number, Buffer>;
}

/** Reads a committed snapshot back; every hash and id is made anew from the bytes. */
export async function readBack(store: string, id: string): Promise<ReadImage[]> {
  const packs = await readPacks(join(store, 'packs'));
  const folder = join(snapshotOf(store, id), 'pages');
  const [entries, places, hashes, ids] = await Promise.all(
    ['entries', 'places', 'hashes', 'chunks'].map((name) => readFile(join(folder, name))),
  );
  if (!entries || !places || !hashes || !ids) throw new Error('a file of pages/ is missing');
  const chunks = new Map<number, Buffer>();
  const chunk = (number: number) => {
    const known = chunks.get(number);
    if (known) return known;
    const chunkId = ids.toString('hex', number * 32, number * 32 + 32);
    const bytes = packs.get(chunkId);
    if (!bytes) throw new Error(`chunk ${chunkId} is in no pack`);
    const parts = Array.from({ length: bytes.length / pageBytes }, (_, page) =>
      sha256(bytes.subarray(page * pageBytes, (page + 1) * pageBytes)).subarray(0, 16),
    );
    if (sha256(...parts).toString('hex') !== chunkId) throw new Error(`chunk ${chunkId} has other bytes`);
    chunks.set(number, bytes);
    return bytes;
  };
  const images: ReadImage[] = [];
  let page = 0;
  for (let at = 0; at < entries.length; at += 32) {
    const number = (offset: number) => Number(entries.readBigUInt64LE(at + offset));
    if (entries.readUInt32LE(at) === 1) {
      images.push({
        pagesId: entries.readUInt32LE(at + 4),
        dstId: number(8),
        firstPage: number(16),
        entries: [],
        pages: new Map(),
      });
      continue;
    }
    const image = images.at(-1);
    if (!image) throw new Error('an entry before the first image');
    const vaddr = number(8);
    const count = number(16);
    if (number(24) !== page) throw new Error('pages are not in order');
    image.entries.push({ vaddr, pages: count, flags: entries.readUInt32LE(at + 4) });
    for (let each = 0; each < count; each++, page++) {
      const place = places.readUInt32LE(page * 4);
      const bytes =
        place === 0xffffffff
          ? Buffer.alloc(pageBytes)
          : chunk(place >>> 4).subarray((place & 15) * pageBytes, ((place & 15) + 1) * pageBytes);
      const hash = place === 0xffffffff ? Buffer.alloc(16) : sha256(bytes).subarray(0, 16);
      if (!hash.equals(hashes.subarray(page * 16, page * 16 + 16))) throw new Error(`hash of page ${page}`);
      image.pages.set(vaddr + each * pageBytes, bytes);
    }
  }
  if (page * 4 !== places.length || page * 16 !== hashes.length) throw new Error('pages are left over');
  return images;
}

/** The same, as one digest for each image: of addresses and bytes. */
export function digestSent(images: readonly SentImage[]): Record<number, string> {
  return Object.fromEntries(
    images.map((image) => {
      const hash = createHash('sha256');
      for (const { vaddr, bytes } of image.runs)
        for (let at = 0; at < bytes.length; at += pageBytes)
          hash.update(`${vaddr + at}:`).update(bytes.subarray(at, at + pageBytes));
      return [dstId(image), hash.digest('hex')];
    }),
  );
}

export async function digestRead(store: string, id: string): Promise<Record<number, string>> {
  return Object.fromEntries(
    (await readBack(store, id)).map((image) => {
      const hash = createHash('sha256');
      for (const [vaddr, bytes] of image.pages) hash.update(`${vaddr}:`).update(bytes);
      return [image.dstId, hash.digest('hex')];
    }),
  );
}

/** CRIU's own image of where pages lie: its head and its entries, field number to value. */
export async function readPagemap(path: string): Promise<Map<number, number>[]> {
  const bytes = await readFile(path);
  if (bytes.readUInt32LE(0) !== 0x54564319 || bytes.readUInt32LE(4) !== 0x56084025) throw new Error('magic');
  const messages: Map<number, number>[] = [];
  for (let at = 8; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at);
    const fields = new Map<number, number>();
    at += 4;
    const varint = () => {
      let value = 0;
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes.readUInt8(at++);
        value += (byte & 0x7f) * scale;
        if (byte < 0x80) return value;
      }
    };
    while (at < end) {
      const key = varint();
      fields.set(key >> 3, varint());
    }
    messages.push(fields);
  }
  return messages;
}
