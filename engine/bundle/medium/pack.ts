/** Packs: a header with a salt, by which each has a key of its own, then records, each sealed with its number as the nonce. */
import { randomBytes } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { Place } from './chunk-table.ts';
import { partKey, recordNonce, seal, tagBytes, unseal } from './crypto.ts';
import type { Draft, PackPlace } from './form.ts';
import { mostChunk } from './stream.ts';
import { DamageError } from './trouble.ts';

const magic = Buffer.from('TORPORBP');
const version = 1;
export const packHeaderBytes = 96;
const label = 'torpor bundle packs 1';
export const mostPackBytes = 1024 * 1024 * 1024;
/** Of a record, before and behind what is sealed. */
const lengthBytes = 4;
export const recordBytes = (length: number): number => lengthBytes + length + tagBytes;
const batchBytes = 2 * 1024 * 1024;

/** A pack as the catalogue names it. `id` in hexadecimal. */
export interface Pack {
  id: string;
  bytes: number;
  records: number;
}

/** Of which bundle, and by which key. */
export interface BundleKey {
  id: Buffer;
  key: Buffer;
}

function makePackHeader(bundle: BundleKey, id: Buffer): Buffer {
  const header = Buffer.alloc(packHeaderBytes);
  magic.copy(header, 0);
  header.writeUInt32LE(version, 8);
  bundle.id.copy(header, 16);
  id.copy(header, 32);
  randomBytes(32).copy(header, 48);
  return header;
}

function isPackHeader(header: Buffer, bundle: BundleKey, id: string): boolean {
  return (
    header.length === packHeaderBytes &&
    header.subarray(0, 8).equals(magic) &&
    header.readUInt32LE(8) === version &&
    header.subarray(16, 32).equals(bundle.id) &&
    header.toString('hex', 32, 48) === id
  );
}

/** Seals chunks into packs of a draft. Two buffers take turns: one is filled while the other is being written. */
export class PackWriter {
  readonly #bundle: BundleKey;
  readonly #draft: Draft;
  readonly packs: Pack[] = [];
  #current: { pack: Pack; key: Buffer; header: Buffer } | undefined;
  #batch = Buffer.allocUnsafe(batchBytes);
  #spare = Buffer.allocUnsafe(batchBytes);
  #used = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(bundle: BundleKey, draft: Draft) {
    this.#bundle = bundle;
    this.#draft = draft;
  }

  /** Whether {@link add} can be called now; else {@link makeRoom} must be waited for. */
  hasRoom(length: number): boolean {
    return (
      this.#current !== undefined &&
      this.#used + recordBytes(length) <= batchBytes &&
      this.#current.pack.bytes + recordBytes(length) <= mostPackBytes
    );
  }

  async makeRoom(length: number): Promise<void> {
    if (this.#current !== undefined && this.#current.pack.bytes + recordBytes(length) > mostPackBytes)
      await this.end();
    if (this.#current === undefined) await this.#begin();
    if (this.#used + recordBytes(length) > batchBytes) await this.#flush();
  }

  async #begin(): Promise<void> {
    const id = randomBytes(16);
    const header = makePackHeader(this.#bundle, id);
    const pack: Pack = { id: id.toString('hex'), bytes: packHeaderBytes, records: 0 };
    await this.#draft.beginPack(pack.id);
    this.#current = { pack, key: partKey(this.#bundle.key, label, header), header };
    this.#used = header.copy(this.#batch);
  }

  /** Seals a chunk's payload. @returns where; the pack is one of {@link packs} by its number there. */
  add(payload: Buffer): Place {
    const { pack, key, header } = this.#mustHaveBegun();
    const place = {
      pack: this.packs.length,
      record: pack.records,
      offset: pack.bytes,
      length: payload.length,
    };
    const [sealed, tag] = seal(key, recordNonce(pack.records), header, payload);
    this.#batch.writeUInt32LE(payload.length, this.#used);
    this.#batch.set(sealed, this.#used + lengthBytes);
    this.#batch.set(tag, this.#used + lengthBytes + sealed.length);
    this.#used += recordBytes(payload.length);
    pack.bytes += recordBytes(payload.length);
    pack.records += 1;
    return place;
  }

  #mustHaveBegun() {
    if (this.#current === undefined) throw new Error('a chunk came before there was room for it');
    return this.#current;
  }

  async #flush(): Promise<void> {
    const full = this.#batch.subarray(0, this.#used);
    await this.#writing;
    this.#writing = this.#draft.append(full);
    // Who writes next hears of it.
    this.#writing.catch(() => {});
    [this.#batch, this.#spare] = [this.#spare, this.#batch];
    this.#used = 0;
  }

  /** What was added is written then, though not synced. */
  async end(): Promise<void> {
    if (this.#current === undefined) return;
    await this.#flush();
    await this.#writing;
    await this.#draft.endPack();
    this.packs.push(this.#current.pack);
    this.#current = undefined;
  }
}

/** Reads a place in full. @throws DamageError where the file ends before. */
export async function readAt(
  file: FileHandle,
  position: number,
  length: number,
  what: string,
): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  for (let have = 0; have < length; ) {
    const { bytesRead } = await file.read(bytes, have, length - have, position + have);
    if (bytesRead === 0) throw new DamageError(`${what} is cut short`);
    have += bytesRead;
  }
  return bytes;
}

const leastWindow = 128 * 1024;
const mostWindow = 2 * 1024 * 1024;
const mostOpen = 16;

interface OpenPack {
  place: PackPlace;
  key: Buffer;
  header: Buffer;
  /** What was read of it last, and where that begins. */
  window: Buffer;
  start: number;
  /** How much is read at once: more the longer it goes on in one direction. */
  ahead: number;
}

/** Records of packs, authenticated. What is read in order is read in large parts. */
export class PackReader implements AsyncDisposable {
  readonly #bundle: BundleKey;
  readonly #packs: readonly Pack[];
  readonly #openPlace: (number: number) => Promise<PackPlace>;
  readonly #open = new Map<number, OpenPack>();

  constructor(bundle: BundleKey, packs: readonly Pack[], openPlace: (number: number) => Promise<PackPlace>) {
    this.#bundle = bundle;
    this.#packs = packs;
    this.#openPlace = openPlace;
  }

  async #opened(number: number): Promise<OpenPack> {
    const known = this.#open.get(number);
    if (known !== undefined) return known;
    const pack = this.#packs[number];
    if (pack === undefined) throw new DamageError(`there is no pack ${number}`);
    const [oldest] = this.#open.entries();
    if (this.#open.size >= mostOpen && oldest !== undefined) {
      this.#open.delete(oldest[0]);
      await oldest[1].place.close();
    }
    const place = await this.#openPlace(number);
    try {
      const header = await readAt(place.file, place.start, packHeaderBytes, `the pack ${pack.id}`);
      if (!isPackHeader(header, this.#bundle, pack.id))
        throw new DamageError(`the header of the pack ${pack.id} is not what was written`);
      const opened = {
        place,
        key: partKey(this.#bundle.key, label, header),
        header,
        window: Buffer.alloc(0),
        start: 0,
        ahead: leastWindow,
      };
      this.#open.set(number, opened);
      return opened;
    } catch (error) {
      await place.close();
      throw error;
    }
  }

  /** A chunk's payload, if it need not be waited for. */
  atHand(place: Place): Buffer | undefined {
    const pack = this.#open.get(place.pack);
    return pack && this.#inWindow(pack, place);
  }

  #inWindow(pack: OpenPack, { pack: number, record, offset, length }: Place): Buffer | undefined {
    const at = offset - pack.start;
    const end = at + recordBytes(length);
    if (at < 0 || end > pack.window.length) return undefined;
    const sealed = pack.window.subarray(at + lengthBytes, end);
    const plain =
      pack.window.readUInt32LE(at) === length
        ? unseal(pack.key, recordNonce(record), pack.header, sealed)
        : undefined;
    if (plain === undefined)
      throw new DamageError(
        `record ${record} of the pack ${this.#packs[number]?.id} is not what was written`,
      );
    return plain;
  }

  /** A chunk's payload. @throws DamageError where it is not what was written. */
  async read(place: Place): Promise<Buffer> {
    const pack = await this.#opened(place.pack);
    const known = this.#inWindow(pack, place);
    if (known !== undefined) return known;
    const bytes = this.#packs[place.pack]?.bytes ?? 0;
    const end = pack.start + pack.window.length;
    const goesOn = place.offset <= end && place.offset + recordBytes(mostChunk) > end;
    pack.ahead = goesOn ? Math.min(pack.ahead * 2, mostWindow) : leastWindow;
    const length = Math.min(Math.max(pack.ahead, recordBytes(place.length)), bytes - place.offset);
    const what = `the pack ${this.#packs[place.pack]?.id}`;
    pack.window = await readAt(pack.place.file, pack.place.start + place.offset, length, what);
    pack.start = place.offset;
    const plain = this.#inWindow(pack, place);
    if (plain === undefined) throw new DamageError(`${what} is shorter than its records`);
    return plain;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { place } of this.#open.values()) await place.close();
    this.#open.clear();
  }
}
