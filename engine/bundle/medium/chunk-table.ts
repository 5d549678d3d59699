/**
 * Where each chunk of a bundle lies, by its id: the index of docs/bundle-format.md in memory as it is on the medium, with a
 * table of hashes over it. A Map of objects would need four times the memory, which counts for a million chunks.
 */

export const entryBytes = 52;
export const idBytes = 32;
/** In a list, for 16 pages of zeros. */
export const zeros = 0xffffffff;

/** What a chunk's record holds, and where it is. */
export interface Place {
  pack: number;
  record: number;
  /** Of the record in the pack. */
  offset: number;
  /** Of what is sealed in the record. */
  length: number;
}

export class ChunkTable {
  #entries: Buffer;
  #count: number;
  /** Number of an entry plus one; 0 is free. Never more than half of it is in use. */
  #slots: Uint32Array;

  /** @throws RangeError where an id is there twice. */
  constructor(entries: Buffer = Buffer.alloc(0)) {
    this.#entries = entries;
    this.#count = entries.length / entryBytes;
    this.#slots = this.#hashed(this.#count);
  }

  #hashed(room: number): Uint32Array {
    let size = 1024;
    while (size < room * 2 + 2) size *= 2;
    this.#slots = new Uint32Array(size);
    for (let number = 0; number < this.#count; number++) {
      const slot = this.#slotOf(this.id(number));
      if (this.#slots[slot] !== 0) throw new RangeError('a chunk is there twice');
      this.#slots[slot] = number + 1;
    }
    return this.#slots;
  }

  /** Ids are SHA-256, so that any four bytes are as good a hash as there is. */
  #slotOf(id: Buffer): number {
    const mask = this.#slots.length - 1;
    for (let slot = id.readUInt32LE(0) & mask; ; slot = (slot + 1) & mask) {
      const number = this.#slots[slot] ?? 0;
      if (number === 0) return slot;
      const at = (number - 1) * entryBytes;
      if (id.compare(this.#entries, at, at + idBytes) === 0) return slot;
    }
  }

  get count(): number {
    return this.#count;
  }

  /** The entries, one after the other. */
  get bytes(): Buffer {
    return this.#entries.subarray(0, this.#count * entryBytes);
  }

  /** @returns its number, or undefined. */
  find(id: Buffer): number | undefined {
    const number = this.#slots[this.#slotOf(id)] ?? 0;
    return number === 0 ? undefined : number - 1;
  }

  id(number: number): Buffer {
    return this.#entries.subarray(number * entryBytes, number * entryBytes + idBytes);
  }

  place(number: number): Place {
    const at = number * entryBytes + idBytes;
    return {
      pack: this.#entries.readUInt32LE(at),
      record: this.#entries.readUInt32LE(at + 4),
      offset: this.#entries.readUInt32LE(at + 8),
      length: this.#entries.readUInt32LE(at + 12),
    };
  }

  /** A number by which chunks are in the order of their packs, and of their offsets there. */
  position(number: number): number {
    const at = number * entryBytes + idBytes;
    return this.#entries.readUInt32LE(at) * 2 ** 31 + this.#entries.readUInt32LE(at + 8);
  }

  pages(number: number): number {
    return this.#entries.readUInt8(number * entryBytes + 49);
  }

  codec(number: number): number {
    return this.#entries.readUInt8(number * entryBytes + 48);
  }

  move(number: number, { pack, record, offset, length }: Place): void {
    const at = number * entryBytes + idBytes;
    this.#entries.writeUInt32LE(pack, at);
    this.#entries.writeUInt32LE(record, at + 4);
    this.#entries.writeUInt32LE(offset, at + 8);
    this.#entries.writeUInt32LE(length, at + 12);
  }

  /** An id that is not there yet. @returns its number. */
  add(id: Buffer, codec: number, pages: number, place: Place): number {
    if ((this.#count + 1) * entryBytes > this.#entries.length) {
      const more = Buffer.alloc(Math.max(this.#entries.length * 2, 1024 * entryBytes));
      this.#entries.copy(more);
      this.#entries = more;
    }
    if (this.#count * 2 + 2 > this.#slots.length) this.#hashed(this.#count * 2);
    const number = this.#count++;
    const at = number * entryBytes;
    id.copy(this.#entries, at, 0, idBytes);
    this.#entries.writeUInt8(codec, at + 48);
    this.#entries.writeUInt8(pages, at + 49);
    this.move(number, place);
    // Its own id is not found by slotOf yet, since its slot is free.
    this.#slots[this.#slotOf(id)] = number + 1;
    return number;
  }
}
