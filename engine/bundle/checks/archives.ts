/**
 * The archives in which CRIU keeps what was in a capsule's own /dev, /dev/shm, /tmp and /run: what GNU tar writes, gzipped
 * (native/criu-programs/gzip). At a restore root unpacks them, so each entry is looked at, and gets an owner of this
 * machine. The format: "Basic Tar Format" and "GNU Extensions" of the GNU tar manual.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { refused } from './refusal.ts';

const block = 512;
/** Of one archive, unpacked: its file systems are in memory. */
const mostBytes = 16 * 1024 ** 3;
const mostNameBytes = 64 * 1024;

/** Who owns what: the new number, or undefined where there may be no such owner. */
export interface Owners {
  uid: (old: number) => number | undefined;
  gid: (old: number) => number | undefined;
}

/** Kernel's Documentation/admin-guide/devices.txt: null, zero, full, random, urandom, tty. */
const devices = new Set(['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:2']);
const setIdBits = 0o6000;

const field = { name: 0, mode: 100, uid: 108, gid: 116, size: 124, sum: 148, type: 156, link: 157 } as const;
const magicAt = 257;
const gnuMagic = 'ustar  \0';
const majorAt = 329;
const minorAt = 337;
const sparseContinues = 482;
const moreSparseContinues = 504;

/** Reads an archive, checks it, and writes it with other owners. @throws TorporError `blocked` */
export async function mapArchive(from: string, to: string, name: string, owners: Owners): Promise<void> {
  const archive = new Archive(name, owners);
  try {
    await pipeline(
      createReadStream(from),
      createGunzip(),
      (parts: AsyncIterable<Buffer>) => archive.map(parts),
      createGzip({ level: 1 }),
      createWriteStream(to, { mode: 0o600 }),
    );
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code.startsWith('Z_')) throw refused(`its archive ${name} is damaged: ${(error as Error).message}`);
    // What is behind the end of the compressed data is left unread, and so the pipeline is given up.
    if (code === 'ABORT_ERR') throw refused(`its archive ${name} goes on behind its end`);
    throw error;
  }
}

type Awaits = { kind: 'header' } | { kind: 'sparse' } | { kind: 'data'; left: number; keeps: 'L' | 'K' | '' };

class Archive {
  readonly #name: string;
  readonly #owners: Owners;
  #awaits: Awaits = { kind: 'header' };
  #sizeBehindSparse = 0;
  #longName: string | undefined;
  #longLink: string | undefined;
  #text: Buffer[] = [];
  #seen = 0;

  constructor(name: string, owners: Owners) {
    this.#name = name;
    this.#owners = owners;
  }

  /** The archive with new owners, part by part. */
  async *map(parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let rest = Buffer.alloc(0);
    for await (const part of parts) {
      this.#seen += part.length;
      if (this.#seen > mostBytes) throw this.#refused('it is larger than memory could have been');
      const bytes = rest.length === 0 ? part : Buffer.concat([rest, part]);
      const whole = bytes.length - (bytes.length % block);
      const out = Buffer.from(bytes.subarray(0, whole));
      for (let at = 0; at < whole; at += block) this.#block(out.subarray(at, at + block));
      rest = Buffer.from(bytes.subarray(whole));
      if (out.length > 0) yield out;
    }
    if (rest.length > 0 || this.#awaits.kind !== 'header') throw this.#refused('it is cut short');
  }

  #refused(why: string) {
    return refused(`its archive ${this.#name} has what no capsule has: ${why}`);
  }

  #block(bytes: Buffer): void {
    const awaits = this.#awaits;
    switch (awaits.kind) {
      case 'header':
        if (bytes.some((byte) => byte !== 0)) this.#header(bytes);
        return;
      case 'sparse':
        if (bytes[moreSparseContinues] === 0) this.#expectData(this.#sizeBehindSparse, '');
        return;
      case 'data':
        if (awaits.keeps !== '') this.#text.push(Buffer.from(bytes.subarray(0, awaits.left)));
        this.#expectData(awaits.left - block, awaits.keeps);
    }
  }

  #expectData(left: number, keeps: 'L' | 'K' | ''): void {
    if (left > 0) {
      this.#awaits = { kind: 'data', left, keeps };
      return;
    }
    this.#awaits = { kind: 'header' };
    if (keeps === '') return;
    const text = Buffer.concat(this.#text).toString('latin1').replace(/\0.*$/s, '');
    this.#text = [];
    if (keeps === 'L') this.#longName = text;
    else this.#longLink = text;
  }

  #header(bytes: Buffer): void {
    if (bytes.toString('latin1', magicAt, magicAt + 8) !== gnuMagic)
      throw this.#refused('a header of another format');
    if (checksumOf(bytes) !== numberAt(bytes, field.sum, 8)) throw this.#refused('a damaged header');
    const type = String.fromCharCode(bytes[field.type] ?? 0);
    const size = numberAt(bytes, field.size, 12);
    if (!Number.isSafeInteger(size) || size < 0 || size > mostBytes)
      throw this.#refused('a size out of bounds');
    if (type === 'L' || type === 'K') {
      if (size > mostNameBytes) throw this.#refused('a name that is too long');
      this.#expectData(size, type);
      return;
    }
    const path = this.#longName ?? textAt(bytes, field.name, 100);
    const link = this.#longLink ?? textAt(bytes, field.link, 100);
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#check(bytes, type, path, link);
    this.#own(bytes, path);
    if (type === 'S' && bytes[sparseContinues] !== 0) {
      this.#sizeBehindSparse = size;
      this.#awaits = { kind: 'sparse' };
    } else this.#expectData(type === '0' || type === '\0' || type === '7' || type === 'S' ? size : 0, '');
  }

  #check(bytes: Buffer, type: string, path: string, link: string): void {
    const named = JSON.stringify(path).slice(1, 201);
    if (leadsOut(path)) throw this.#refused(`${named} leads out of it`);
    if ((numberAt(bytes, field.mode, 8) & setIdBits) !== 0)
      throw this.#refused(`${named} has a set-user-id or set-group-id bit`);
    switch (type) {
      case '0':
      case '\0':
      case '2':
      case '5':
      case '6':
      case 'S':
        return;
      case '1':
        if (leadsOut(link)) throw this.#refused(`${named} is a link that leads out of it`);
        return;
      case '3': {
        const device = `${numberAt(bytes, majorAt, 8)}:${numberAt(bytes, minorAt, 8)}`;
        if (!devices.has(device)) throw this.#refused(`${named} is the device ${device}`);
        return;
      }
      default:
        throw this.#refused(`${named} is of the kind ${JSON.stringify(type)}`);
    }
  }

  #own(bytes: Buffer, path: string): void {
    for (const [at, map, what] of [
      [field.uid, this.#owners.uid, 'user'],
      [field.gid, this.#owners.gid, 'group'],
    ] as const) {
      const old = numberAt(bytes, at, 8);
      const now = map(old);
      if (now === undefined) throw this.#refused(`${JSON.stringify(path)} belongs to the ${what} ${old}`);
      putNumber(bytes, at, now);
    }
    // The names of owners are the other machine's.
    bytes.fill(0, 265, 329);
    bytes.write(`${checksumOf(bytes).toString(8).padStart(6, '0')}\0 `, field.sum, 'latin1');
  }
}

const leadsOut = (path: string) => path.startsWith('/') || path.split('/').includes('..');

function textAt(bytes: Buffer, at: number, length: number): string {
  return bytes.toString('latin1', at, at + length).replace(/\0.*$/s, '');
}

/** Octal digits, or base 256 where the highest bit is set. */
function numberAt(bytes: Buffer, at: number, length: number): number {
  const first = bytes[at] ?? 0;
  if (first === 0x80) {
    let value = 0;
    for (let index = 1; index < length; index++) value = value * 256 + (bytes[at + index] ?? 0);
    return value;
  }
  const text = textAt(bytes, at, length).trim();
  return /^[0-7]*$/.test(text) ? Number.parseInt(text || '0', 8) : Number.NaN;
}

function putNumber(bytes: Buffer, at: number, value: number): void {
  const octal = value.toString(8);
  if (octal.length <= 7) {
    bytes.write(`${octal.padStart(7, '0')}\0`, at, 'latin1');
    return;
  }
  bytes.fill(0, at, at + 8);
  bytes[at] = 0x80;
  bytes.writeUInt32BE(value, at + 4);
}

/** The sum of a header's bytes, its own field counted as blanks. */
function checksumOf(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < block; at++) sum += at >= field.sum && at < field.sum + 8 ? 32 : (bytes[at] ?? 0);
  return sum;
}
