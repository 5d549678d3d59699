/** Reading a bundle: what it contains as a stream for `torpor-pages import`. */
import { everyNumber, type OpenBundle, readAll, readerOf } from './bundle.ts';
import type { List } from './catalogue.ts';
import { idBytes, zeros } from './chunk-table.ts';
import { sha256 } from './crypto.ts';
import type { PackReader } from './pack.ts';
import { mostPages, Output, pageBytes } from './stream.ts';
import { DamageError } from './trouble.ts';

export interface FileTask {
  list: number;
  path: string;
  mode: number;
  owner: 'root' | 'user';
  /** Nanoseconds since 1970. */
  mtimeNs: bigint;
}

const ownerNumber = { root: 0, user: 1 };
const chunkBytes = mostPages * pageBytes;

export class ReadSession implements AsyncDisposable {
  readonly #bundle: OpenBundle;
  readonly #reader: PackReader;
  readonly #output: Output;
  readonly #progress: (done: number, total: number) => void;
  readonly #total: number;
  #done = 0;

  /** @param fd where the stream goes */
  constructor(bundle: OpenBundle, fd: number, progress: (done: number, total: number) => void) {
    this.#bundle = bundle;
    this.#reader = readerOf(bundle);
    this.#output = new Output(fd);
    this.#progress = progress;
    const { lists } = bundle.catalogue;
    this.#total = lists.reduce((sum, list) => sum + (list?.bytes ?? 0), 0);
  }

  #list(number: number): List {
    const list = this.#bundle.catalogue.lists[number];
    if (list === null || list === undefined) throw new DamageError(`it has no contents ${number}`);
    return list;
  }

  #count(bytes: number): void {
    this.#done += bytes;
    this.#progress(this.#done, this.#total);
  }

  /** Reads every chunk. @throws DamageError where one is not what was written. */
  async check(progress: (done: number, total: number) => void): Promise<void> {
    const { table } = this.#bundle.catalogue;
    const all = everyNumber(table.count);
    const total = all.reduce((bytes, number) => bytes + table.place(number).length, 0);
    let done = 0;
    await readAll(this.#reader, { table }, all, (payload) => {
      done += payload.length;
      progress(done, total);
      return undefined;
    });
  }

  async folder(path: string, mode: number, owner: 'root' | 'user'): Promise<void> {
    await this.#output.item('D', numbers(mode, ownerNumber[owner]), Buffer.from(path));
  }

  async link(path: string, target: string, owner: 'root' | 'user'): Promise<void> {
    const [from, to] = [Buffer.from(path), Buffer.from(target)];
    await this.#output.item('Y', numbers(ownerNumber[owner], to.length), to, from);
  }

  async file({ list, path, mode, owner, mtimeNs }: FileTask): Promise<void> {
    const { bytes, chunks } = this.#list(list);
    await this.#begin(path, mode, owner, bytes, mtimeNs);
    const { table } = this.#bundle.catalogue;
    let left = Math.ceil(bytes / pageBytes);
    for (const number of chunks) {
      const pages = number === zeros ? Math.min(mostPages, left) : table.pages(number);
      left -= pages;
      if (number === zeros) await this.#output.item('Z', numbers(pages));
      else await this.#chunk('C', number);
      this.#count(pages * pageBytes);
    }
  }

  async #begin(
    path: string,
    mode: number,
    owner: 'root' | 'user',
    bytes: number,
    mtimeNs: bigint,
  ): Promise<void> {
    const long = Buffer.alloc(16);
    long.writeBigUInt64LE(BigInt(bytes), 0);
    long.writeBigInt64LE(mtimeNs, 8);
    await this.#output.item('F', numbers(mode, ownerNumber[owner]), long, Buffer.from(path));
  }

  async #chunk(kind: 'C' | 'P', number: number): Promise<void> {
    const { table } = this.#bundle.catalogue;
    const place = table.place(number);
    const payload = this.#reader.atHand(place) ?? (await this.#reader.read(place));
    if (payload.compare(table.id(number), 0, idBytes, 0, idBytes) !== 0)
      throw new DamageError('a record holds another chunk than its catalogue says');
    await this.#output.item(kind, payload);
  }

  /** Each chunk once, in the order in which they lie. */
  async memory(list: number): Promise<void> {
    const own = new Set(this.#list(list).chunks);
    own.delete(zeros);
    await readAll(this.#reader, this.#bundle.catalogue, Uint32Array.from(own), (payload) => {
      this.#count(payload.readUInt8(idBytes + 1) * pageBytes);
      return this.#output.item('P', payload);
    });
  }

  /** The ids of a list's chunks as a file: `pages/chunks` of a snapshot (docs/store-format.md). */
  async chunkList(list: number, path: string): Promise<void> {
    const { table } = this.#bundle.catalogue;
    const ids = Buffer.concat(Array.from(this.#list(list).chunks, (number) => table.id(number)));
    await this.#begin(path, 0o600, 'root', ids.length, 0n);
    for (let at = 0; at < ids.length; at += chunkBytes)
      await this.#output.item('C', rawChunk(ids.subarray(at, at + chunkBytes)));
  }

  async end(): Promise<void> {
    await this.#output.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader[Symbol.asyncDispose]();
    await this.#bundle.stored[Symbol.asyncDispose]();
  }
}

function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4);
  return bytes;
}

/** A chunk as a program of ours makes it: its last page filled up with zeros, not compressed. */
function rawChunk(contents: Buffer): Buffer {
  const pages = Math.ceil(contents.length / pageBytes);
  const full = Buffer.alloc(pages * pageBytes);
  contents.copy(full);
  const hashes = Array.from({ length: pages }, (_, page) =>
    sha256(full.subarray(page * pageBytes, (page + 1) * pageBytes)).subarray(0, 16),
  );
  return Buffer.concat([sha256(...hashes), Buffer.from([0, pages, 0, 0]), full]);
}
