/** Reads from a bundle: gives the stream of files, folders and memory that `torpor-pages import` takes. */
import { TorporError } from '../../../api/errors.ts';
import { everyNumber, type OpenBundle, type Opener, openBundle, readAll, readerOf } from './bundle.ts';
import type { List } from './catalogue.ts';
import { zeros } from './chunk-table.ts';
import { sha256 } from './crypto.ts';
import { type PackReader, recordBytes } from './pack.ts';
import { mostPages, type Output, pageBytes } from './stream.ts';

export type Owner = 'root' | 'user';
const chunkBytes = mostPages * pageBytes;
const ownerNumber = (owner: Owner): number => (owner === 'root' ? 0 : 1);

export class Reading implements AsyncDisposable {
  readonly #bundle: OpenBundle;
  readonly #reader: PackReader;
  readonly #read: (bytes: number) => void;

  private constructor(bundle: OpenBundle, read: (bytes: number) => void) {
    this.#bundle = bundle;
    this.#reader = readerOf(bundle);
    this.#read = read;
  }

  /** @param read gets how many bytes of packs were read more */
  static async open(path: string, by: Opener, read: (bytes: number) => void): Promise<Reading> {
    return new Reading(await openBundle(path, by), read);
  }

  /** Bytes of all packs. */
  get packBytes(): number {
    return this.#bundle.catalogue.packs.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get opened() {
    const { stored, header, catalogue, passedOver, bytes } = this.#bundle;
    return {
      id: header.id.toString('hex'),
      key: header.key.toString('hex'),
      generation: catalogue.generation,
      form: stored.kind,
      passedOver: passedOver ?? null,
      contents: catalogue.contents,
      lists: catalogue.lists.map(
        (list) => list && { bytes: list.bytes, sha256: list.sha256, chunks: list.chunks.length },
      ),
      bytes,
    };
  }

  /** Reads and authenticates everything. @returns how many chunks */
  async check(): Promise<number> {
    const { table } = this.#bundle.catalogue;
    await readAll(this.#reader, { table }, everyNumber(table.count), (payload) => {
      this.#read(recordBytes(payload.length));
      return undefined;
    });
    return table.count;
  }

  async folder(output: Output, folder: { path: string; mode: number; owner: Owner }): Promise<void> {
    const head = Buffer.alloc(8);
    head.writeUInt32LE(folder.mode, 0);
    head.writeUInt32LE(ownerNumber(folder.owner), 4);
    await output.item('D', head, Buffer.from(folder.path));
  }

  async link(output: Output, link: { path: string; target: string; owner: Owner }): Promise<void> {
    const target = Buffer.from(link.target);
    const head = Buffer.alloc(8);
    head.writeUInt32LE(ownerNumber(link.owner), 0);
    head.writeUInt32LE(target.length, 4);
    await output.item('Y', head, target, Buffer.from(link.path));
  }

  #list(number: number): List {
    const list = this.#bundle.catalogue.lists[number];
    if (list) return list;
    throw new TorporError('usage', `The bundle has no list ${number}.`, 'Ask for one that it has.');
  }

  async file(
    output: Output,
    file: { list: number; path: string; mode: number; owner: Owner; mtimeNs: bigint },
  ): Promise<void> {
    const { bytes, chunks } = this.#list(file.list);
    const head = Buffer.alloc(24);
    head.writeUInt32LE(file.mode, 0);
    head.writeUInt32LE(ownerNumber(file.owner), 4);
    head.writeBigUInt64LE(BigInt(bytes), 8);
    head.writeBigInt64LE(file.mtimeNs, 16);
    await output.item('F', head, Buffer.from(file.path));
    const { table } = this.#bundle.catalogue;
    let left = Math.ceil(bytes / pageBytes);
    for (const number of chunks) {
      if (number === zeros) {
        const pages = Math.min(mostPages, left);
        left -= pages;
        const count = Buffer.alloc(4);
        count.writeUInt32LE(pages);
        await output.item('Z', count);
        continue;
      }
      left -= table.pages(number);
      const place = table.place(number);
      const payload = this.#reader.atHand(place) ?? (await this.#reader.read(place));
      this.#read(recordBytes(payload.length));
      const waiting = output.item('C', payload);
      if (waiting !== undefined) await waiting;
    }
  }

  /** The chunks of a memory, each once, as they lie in the packs. */
  async memory(output: Output, memory: { list: number }): Promise<void> {
    const numbers = new Set(this.#list(memory.list).chunks);
    numbers.delete(zeros);
    await readAll(this.#reader, this.#bundle.catalogue, Uint32Array.from(numbers), (payload) => {
      this.#read(recordBytes(payload.length));
      return output.item('P', payload);
    });
  }

  /** The ids of a list's chunks as a file: `pages/chunks` of a snapshot (docs/store-format.md). */
  async chunkList(output: Output, { list, path }: { list: number; path: string }): Promise<void> {
    const { table } = this.#bundle.catalogue;
    const ids = Buffer.concat(Array.from(this.#list(list).chunks, (number) => table.id(number)));
    const head = Buffer.alloc(24);
    head.writeUInt32LE(0o600, 0);
    head.writeBigUInt64LE(BigInt(ids.length), 8);
    await output.item('F', head, Buffer.from(path));
    for (let at = 0; at < ids.length; at += chunkBytes)
      await output.item('C', rawChunk(ids.subarray(at, at + chunkBytes)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader[Symbol.asyncDispose]();
    await this.#bundle.stored[Symbol.asyncDispose]();
  }
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
