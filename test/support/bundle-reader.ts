/** Reads bundles, made from docs/bundle-format.md alone: a second implementation, which the first is held against. */
import { createDecipheriv, createHash, createHmac } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import sodium from 'libsodium-wrappers-sumo';

const sha256 = (data: Buffer) => createHash('sha256').update(data).digest();
const hmac = (key: Buffer, data: Buffer | string) => createHmac('sha256', key).update(data).digest();

function open(key: Buffer, nonce: Buffer, bound: Buffer, sealed: Buffer): Buffer {
  const opening = createDecipheriv('aes-256-gcm', key, nonce);
  opening.setAAD(bound).setAuthTag(sealed.subarray(-16));
  return Buffer.concat([opening.update(sealed.subarray(0, -16)), opening.final()]);
}

function nonceOf(number: number, last = 0): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(BigInt(number), 0);
  nonce.writeUInt32LE(last, 8);
  return nonce;
}

function must(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

const isZero = (bytes: Buffer) => bytes.every((byte) => byte === 0);

async function openHeader(header: Buffer, passphrase: string): Promise<Buffer> {
  must(header.length === 4096 && header.toString('latin1', 0, 8) === 'TORPORBN', 'no bundle');
  must(sha256(header.subarray(0, 4064)).equals(header.subarray(4064)), 'checksum of the header');
  must(header.readUInt32LE(8) === 1, 'version');
  const count = header.readUInt32LE(32);
  must(count >= 1 && count <= 8, 'number of wraps');
  must(isZero(header.subarray(12, 16)) && isZero(header.subarray(36, 64)), 'reserved');
  must(isZero(header.subarray(64 + 96 * count, 4032)), 'behind the wraps');
  const id = header.subarray(16, 32);
  await sodium.ready;
  for (let number = 0; number < count; number++) {
    const wrap = header.subarray(64 + 96 * number, 64 + 96 * (number + 1));
    const [ops, memory] = [wrap.readUInt32LE(4), Number(wrap.readBigUInt64LE(8))];
    must(wrap.readUInt32LE(0) === 1 && wrap.readUInt32LE(44) === 0, 'kind of the wrap');
    must(ops >= 1 && ops <= 16 && memory >= 8192 && memory <= 2 ** 30, 'parameters of Argon2id');
    const stretched = sodium.crypto_pwhash(
      32,
      Buffer.from(passphrase.normalize('NFC')),
      wrap.subarray(16, 32),
      ops,
      memory,
      sodium.crypto_pwhash_ALG_ARGON2ID13,
    );
    const bound = Buffer.concat([Buffer.from('torpor bundle wrap 1'), id, wrap.subarray(0, 48)]);
    let key: Buffer;
    try {
      key = open(Buffer.from(stretched), wrap.subarray(32, 44), bound, wrap.subarray(48));
    } catch {
      continue;
    }
    const tag = hmac(hmac(key, 'torpor bundle header 1'), header.subarray(0, 4032));
    must(tag.equals(header.subarray(4032, 4064)), 'tag of the header');
    return key;
  }
  throw new Error('no wrap opens');
}

interface ReadCatalogue {
  generation: number;
  contents: unknown;
  packs: { id: string; bytes: number; records: number }[];
  lists: ({ bytes: number; sha256: string; chunks: number[] } | null)[];
  chunks: { id: string; pack: number; record: number; offset: number; length: number; pages: number }[];
}

function openCatalogue(bundle: Buffer, key: Buffer, file: Buffer): ReadCatalogue {
  const header = file.subarray(0, 96);
  must(
    header.toString('latin1', 0, 8) === 'TORPORBC' && header.readUInt32LE(8) === 1,
    'magic of a catalogue',
  );
  must(header.subarray(16, 32).equals(bundle), 'catalogue of another bundle');
  const bodyBytes = Number(header.readBigUInt64LE(40));
  const frames = Math.ceil(bodyBytes / 65536);
  must(file.length === 96 + bodyBytes + 16 * frames, 'length of a catalogue');
  const own = hmac(hmac(key, 'torpor bundle catalogues 1'), header);
  const body = Buffer.concat(
    Array.from({ length: frames }, (_, number) =>
      open(
        own,
        nonceOf(number, number === frames - 1 ? 1 : 0),
        header,
        file.subarray(96 + number * 65552, Math.min(96 + (number + 1) * 65552, file.length)),
      ),
    ),
  );
  const jsonBytes = body.readUInt32LE(0);
  const json = JSON.parse(body.toString('utf8', 4, 4 + jsonBytes));
  must(json.version === 1, 'version of a catalogue');
  let at = 4 + jsonBytes;
  const chunks = Array.from({ length: json.chunks }, () => {
    const entry = body.subarray(at, at + 52);
    at += 52;
    return {
      id: entry.toString('hex', 0, 32),
      pack: entry.readUInt32LE(32),
      record: entry.readUInt32LE(36),
      offset: entry.readUInt32LE(40),
      length: entry.readUInt32LE(44),
      pages: entry.readUInt8(49),
    };
  });
  must(new Set(chunks.map(({ id }) => id)).size === chunks.length, 'a chunk twice');
  const lists = (json.lists as ({ bytes: number; sha256: string; entries: number } | null)[]).map((list) => {
    if (list === null) return null;
    const numbers = Array.from({ length: list.entries }, (_, index) => body.readUInt32LE(at + index * 4));
    at += list.entries * 4;
    return { bytes: list.bytes, sha256: list.sha256, chunks: numbers };
  });
  must(at === body.length, 'something behind the lists');
  const generation = Number(header.readBigUInt64LE(32));
  return { generation, contents: json.contents, packs: json.packs, lists, chunks };
}

/** The parts of either form: header, catalogues with the newest first, and a pack's bytes. */
function partsOf(path: string) {
  if (statSync(path).isDirectory()) {
    const name = existsSync(join(path, 'header.torpor')) ? 'header.torpor' : 'header.new';
    return {
      header: readFileSync(join(path, name)),
      catalogues: readdirSync(join(path, 'catalogues'))
        .filter((each) => /^\d{10}\.cat$/.test(each))
        .sort()
        .reverse()
        .map((each) => ({
          generation: Number(each.slice(0, 10)),
          bytes: readFileSync(join(path, 'catalogues', each)),
        })),
      pack: ({ packs }: ReadCatalogue, number: number) =>
        readFileSync(join(path, 'packs', `${packs[number]?.id}.pack`)),
    };
  }
  const file = readFileSync(path);
  const trailer = file.subarray(-64);
  must(trailer.toString('latin1', 0, 8) === 'TORPORBE', 'trailer');
  must(sha256(trailer.subarray(0, 32)).equals(trailer.subarray(32)), 'checksum of the trailer');
  const end = file.length - 64;
  const bytes = file.subarray(end - Number(trailer.readBigUInt64LE(8)), end);
  return {
    header: file.subarray(0, 4096),
    catalogues: [{ generation: undefined, bytes }],
    pack: ({ packs }: ReadCatalogue, number: number) => {
      const start = packs.slice(0, number).reduce((sum, pack) => sum + pack.bytes, 4096);
      return file.subarray(start, start + (packs[number]?.bytes ?? 0));
    },
  };
}

export interface ReadBundle {
  generation: number;
  contents: unknown;
  /** Contents of each list whose chunks are all raw. */
  files: (Buffer | null)[];
}

/** Everything of a bundle's newest complete generation. @throws Error where anything is not as the page says. */
export async function readBundle(path: string, passphrase: string): Promise<ReadBundle> {
  const { header, catalogues, pack } = partsOf(path);
  const key = await openHeader(header, passphrase);
  let problem: unknown = new Error('no generation');
  for (const { generation, bytes } of catalogues) {
    let catalogue: ReadCatalogue;
    let packs: Buffer[];
    try {
      catalogue = openCatalogue(header.subarray(16, 32), key, bytes);
      must(generation === undefined || generation === catalogue.generation, 'generation');
      packs = catalogue.packs.map((_, number) => pack(catalogue, number));
      for (const [number, each] of packs.entries())
        must(each.length === catalogue.packs[number]?.bytes, 'length of a pack');
    } catch (error) {
      problem = error;
      continue;
    }
    const chunks = openChunks(header.subarray(16, 32), key, catalogue, packs);
    const files = catalogue.lists.map((list) => list && contentsOf(list, catalogue, chunks));
    return { generation: catalogue.generation, contents: catalogue.contents, files };
  }
  throw problem;
}

function openChunks(
  bundle: Buffer,
  key: Buffer,
  { chunks, packs: named }: ReadCatalogue,
  packs: Buffer[],
): Buffer[] {
  return chunks.map(({ id, pack: number, record, offset, length, pages }) => {
    const pack = packs[number] ?? Buffer.alloc(0);
    const header = pack.subarray(0, 96);
    must(header.toString('latin1', 0, 8) === 'TORPORBP' && header.readUInt32LE(8) === 1, 'magic of a pack');
    must(header.subarray(16, 32).equals(bundle), 'pack of another bundle');
    must(header.toString('hex', 32, 48) === named[number]?.id, 'id of a pack');
    must(pack.readUInt32LE(offset) === length, 'length of a record');
    const own = hmac(hmac(key, 'torpor bundle packs 1'), header);
    const contents = open(own, nonceOf(record), header, pack.subarray(offset + 4, offset + 4 + length + 16));
    must(contents.toString('hex', 0, 32) === id, 'id of a chunk');
    must(contents.readUInt8(32) === 0 && contents.readUInt8(33) === pages, 'fields of a chunk');
    const bytes = contents.subarray(36);
    const hashes = Array.from({ length: pages }, (_, page) =>
      sha256(bytes.subarray(page * 4096, (page + 1) * 4096)).subarray(0, 16),
    );
    must(sha256(Buffer.concat(hashes)).toString('hex') === id, 'hashes of a chunk');
    return bytes;
  });
}

function contentsOf(
  list: { bytes: number; sha256: string; chunks: number[] },
  catalogue: ReadCatalogue,
  chunks: Buffer[],
): Buffer {
  let left = Math.ceil(list.bytes / 4096);
  const parts = list.chunks.map((number) => {
    const pages = number === 0xffffffff ? Math.min(16, left) : (catalogue.chunks[number]?.pages ?? 0);
    left -= pages;
    return number === 0xffffffff ? Buffer.alloc(pages * 4096) : (chunks[number] ?? Buffer.alloc(0));
  });
  must(left === 0, 'pages of a list');
  const bytes = Buffer.concat(parts).subarray(0, list.bytes);
  must(/^0+$/.test(list.sha256) || sha256(bytes).toString('hex') === list.sha256, 'hash of a file');
  return bytes;
}
