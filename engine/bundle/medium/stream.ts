/** The streams of chunks from `torpor-pages export` and to `torpor-pages import`: items, strictly checked. */
import { Socket } from 'node:net';
import { widenPipe } from '../../../native/page-cache.ts';
import { idBytes } from './chunk-table.ts';

const itemHead = 8;
export const pageBytes = 4096;
export const mostPages = 16;
/** Of the payload of a chunk, before its stored bytes: id, codec, pages, two bytes of zeros. */
export const chunkHead = 36;
export const mostChunk = chunkHead + mostPages * pageBytes;
const listHead = 48;
/** 1 TiB. */
const mostListed = 16 * 1024 * 1024;
const mostText = 4096;
const pipeBytes = 1024 * 1024;

/** A program of ours has sent what no bundle can have. */
export class StreamError extends Error {
  override readonly name = 'StreamError';
}

export type Item =
  /** `payload` is a record's contents as it is. */
  | { kind: 'chunk'; payload: Buffer; id: Buffer; codec: number; pages: number }
  | { kind: 'list'; bytes: number; sha256: Buffer; ids: Buffer }
  | { kind: 'error'; errno: number; what: string };

const codecs = { raw: 0, lz4: 1, zstd: 2 };

/** @returns why these can be none of a chunk's; `length` is that of the payload. */
export function chunkFault(codec: number, pages: number, length: number): string | undefined {
  if (codec > codecs.zstd) return `a chunk of codec ${codec}`;
  if (pages < 1 || pages > mostPages) return `a chunk of ${pages} pages`;
  const stored = length - chunkHead;
  const fits =
    codec === codecs.raw ? stored === pages * pageBytes : stored >= 1 && stored <= pages * pageBytes;
  return fits ? undefined : `a chunk of ${pages} pages in ${stored} bytes`;
}

/** The codec and the pages of a chunk's payload. */
export const chunkFields = (payload: Buffer) => ({
  codec: payload.readUInt8(idBytes),
  pages: payload.readUInt8(idBytes + 1),
});

/** Whether a chunk's payload is what it may be. */
export function checkChunk(payload: Buffer): string | undefined {
  if (payload.length <= chunkHead) return 'a chunk without contents';
  if (payload.readUInt16LE(idBytes + 2) !== 0) return 'a chunk with flags';
  const { codec, pages } = chunkFields(payload);
  return chunkFault(codec, pages, payload.length);
}

/** How long the payload of an item may be, by its kind. */
const bounds: Readonly<Record<string, { least: number; most: number }>> = {
  C: { least: chunkHead + 1, most: mostChunk },
  L: { least: listHead, most: listHead + mostListed * idBytes },
  E: { least: 8, most: 8 + mostText },
};

function parseItem(kind: string, payload: Buffer): Item {
  if (kind === 'C') {
    const fault = checkChunk(payload);
    if (fault !== undefined) throw new StreamError(fault);
    return { kind: 'chunk', payload, id: payload.subarray(0, idBytes), ...chunkFields(payload) };
  }
  if (kind === 'E') {
    return { kind: 'error', errno: payload.readUInt32LE(4), what: payload.toString('utf8', 8) };
  }
  const count = payload.readUInt32LE(4);
  const bytes = payload.readBigUInt64LE(8);
  if (payload.length !== listHead + count * idBytes) throw new StreamError('a list of another length');
  if (bytes > BigInt(mostListed * mostPages * pageBytes)) throw new StreamError(`a list of ${bytes} bytes`);
  return {
    kind: 'list',
    bytes: Number(bytes),
    sha256: payload.subarray(16, listHead),
    ids: payload.subarray(listHead),
  };
}

/** One after the other. What is given is gone when `take` has returned, or what it returned is done. */
export async function readItems(
  source: AsyncIterable<Buffer>,
  take: (item: Item) => Promise<void> | undefined,
): Promise<void> {
  const head = Buffer.alloc(itemHead);
  let headHas = 0;
  let kind = '';
  let length = 0;
  /** Of an item that came in parts. */
  let parts: Buffer | undefined;
  let partsHave = 0;
  for await (const data of source) {
    let at = 0;
    while (at < data.length) {
      if (headHas < itemHead) {
        const copied = data.copy(head, headHas, at, at + itemHead - headHas);
        headHas += copied;
        at += copied;
        if (headHas < itemHead) break;
        kind = String.fromCharCode(head.readUInt8(0));
        length = head.readUInt32LE(4);
        const bound = bounds[kind];
        if (bound === undefined || head.readUIntLE(1, 3) !== 0)
          throw new StreamError(`an item of the unknown kind ${head.readUInt32LE(0)}`);
        if (length < bound.least || length > bound.most)
          throw new StreamError(`an item ${kind} of ${length} bytes`);
      }
      let payload: Buffer;
      if (parts === undefined && data.length - at >= length) {
        payload = data.subarray(at, at + length);
        at += length;
      } else {
        parts ??= Buffer.allocUnsafe(length);
        const copied = data.copy(parts, partsHave, at, at + length - partsHave);
        partsHave += copied;
        at += copied;
        if (partsHave < length) break;
        payload = parts;
      }
      headHas = 0;
      parts = undefined;
      partsHave = 0;
      const taken = take(parseItem(kind, payload));
      if (taken !== undefined) await taken;
    }
  }
  if (headHas > 0) throw new StreamError('an item that is cut short');
}

/** Of a pipe or socket that this process was started with. */
export function openInput(fd: number): AsyncIterable<Buffer> {
  widenPipe(fd, pipeBytes);
  return new Socket({ fd, readable: true, writable: false });
}

/** Items to a pipe or socket, gathered so that few writes are needed: one buffer is filled while the other is written. */
export class Output {
  readonly #socket: Socket;
  #batch: Buffer = Buffer.allocUnsafe(pipeBytes);
  #spare: Buffer = Buffer.allocUnsafe(pipeBytes);
  #used = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(fd: number) {
    widenPipe(fd, pipeBytes);
    this.#socket = new Socket({ fd, readable: false, writable: true });
    // Whoever writes is told.
    this.#socket.on('error', () => {});
  }

  /** Of at most a chunk's length. @returns undefined where it need not be waited for. */
  item(kind: string, ...payload: readonly Uint8Array[]): Promise<void> | undefined {
    const length = payload.reduce((sum, part) => sum + part.length, 0);
    if (this.#used + itemHead + length <= pipeBytes) {
      this.#add(kind, length, payload);
      return undefined;
    }
    return this.#flush().then(() => this.#add(kind, length, payload));
  }

  #add(kind: string, length: number, payload: readonly Uint8Array[]): void {
    this.#batch.fill(0, this.#used, this.#used + itemHead);
    this.#batch.write(kind, this.#used, 'latin1');
    this.#batch.writeUInt32LE(length, this.#used + 4);
    this.#used += itemHead;
    for (const part of payload) {
      this.#batch.set(part, this.#used);
      this.#used += part.length;
    }
  }

  async #flush(): Promise<void> {
    await this.#writing;
    this.#writing = this.#write(this.#batch.subarray(0, this.#used));
    // Who flushes next hears of it.
    this.#writing.catch(() => {});
    [this.#batch, this.#spare] = [this.#spare, this.#batch];
    this.#used = 0;
  }

  #write(data: Buffer): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#socket.write(data, (error) => (error ? reject(new StreamError(noReader)) : resolve())),
    );
  }

  /** Everything is with who reads it, and that there is no more. */
  async end(): Promise<void> {
    await this.#flush();
    await this.#writing;
    await new Promise<void>((resolve, reject) => {
      this.#socket.once('error', () => reject(new StreamError(noReader)));
      this.#socket.end(() => resolve());
    });
    this.#socket.destroy();
  }
}

const noReader = 'nobody reads it any more';
