/**
 * The readers of bundles and of streams, with what nobody would write: each input is refused by an error of theirs, or is
 * right in all that is made use of. An input that is refused with words that none was refused with before is a beginning
 * for others. A run of three seconds; TORPOR_FUZZ_SECONDS makes it longer, and with TORPOR_FUZZ_KEEP=1 those beginnings are
 * kept in test/fuzz/bundle, where also what was ever found is. What is there comes first.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import {
  type Catalogue,
  decodeCatalogue,
  encodeCatalogue,
  parseBody,
} from '../../engine/bundle/medium/catalogue.ts';
import { ChunkTable, entryBytes, zeros } from '../../engine/bundle/medium/chunk-table.ts';
import { makeHeader, parseHeader } from '../../engine/bundle/medium/header.ts';
import { readItems, StreamError } from '../../engine/bundle/medium/stream.ts';
import { DamageError } from '../../engine/bundle/medium/trouble.ts';
import { fileStream, item, noise, number32 } from '../support/bundle.ts';
import { random } from '../support/disk-faults/disk.ts';
import { mutated } from '../support/mutated.ts';

const corpus = new URL('../fuzz/bundle', import.meta.url).pathname;
const seconds = Number(process.env.TORPOR_FUZZ_SECONDS ?? 3);
const seed = Number(process.env.TORPOR_FUZZ_SEED ?? Date.now() % 2 ** 32);

const bundle = { id: noise(1, 16), key: noise(2, 32) };

function madeCatalogue(): Catalogue {
  const table = new ChunkTable();
  for (let number = 0; number < 5; number++)
    table.add(noise(number + 10, 32), number % 3, 4, {
      pack: number % 2,
      record: number >> 1,
      offset: 96 + number * 17000,
      length: 36 + 4 * 4096,
    });
  const packs = ['aa', 'bb'].map((pair) => ({ id: pair.repeat(16), bytes: 100_000, records: 3 }));
  const lists = [
    { bytes: 65_000, sha256: 'cd'.repeat(32), chunks: Uint32Array.from([0, 1, 2, 3]) },
    null,
    { bytes: 100_000, sha256: '0'.repeat(64), chunks: Uint32Array.from([zeros, 4, zeros]) },
  ];
  return { generation: 3, contents: { a: [1, { b: 'ü' }] }, packs, lists, table };
}

/** What is authenticated, as it comes out. */
function bodyOf({ contents, packs, lists, table }: Catalogue): Buffer {
  const named = lists.map(
    (list) => list && { bytes: list.bytes, sha256: list.sha256, entries: list.chunks.length },
  );
  const json = Buffer.from(
    JSON.stringify({ version: 1, contents, packs, lists: named, chunks: table.count }),
  );
  const numbers = lists.flatMap((list) => [...(list?.chunks ?? [])]);
  return Buffer.concat([number32(json.length), json, table.bytes, number32(...numbers)]);
}

function tryBody(input: Buffer): string {
  let catalogue: Catalogue;
  try {
    catalogue = parseBody(1, input);
  } catch (error) {
    if (error instanceof DamageError) return error.message;
    throw error;
  }
  const { table, packs, lists } = catalogue;
  for (let number = 0; number < table.count; number++) {
    const place = table.place(number);
    const pack = packs[place.pack];
    if (!pack || place.offset < 96 || place.offset + place.length + 20 > pack.bytes)
      throw new Error('a place outside of its pack');
    if (place.length < 37 || place.length > 65572) throw new Error('a length that no chunk has');
    if (table.find(table.id(number)) !== number) throw new Error('a chunk that is not found');
  }
  for (const list of lists) {
    let pages = 0;
    for (const number of list?.chunks ?? []) {
      if (number !== zeros && number >= table.count) throw new Error('a chunk that is not there');
      pages +=
        number === zeros ? Math.min(16, Math.ceil((list?.bytes ?? 0) / 4096) - pages) : table.pages(number);
    }
    if (list && pages !== Math.ceil(list.bytes / 4096)) throw new Error('pages that do not make the file');
  }
  return 'right';
}

function tryWhole(input: Buffer): string {
  try {
    decodeCatalogue(bundle, input);
  } catch (error) {
    if (error instanceof DamageError) return error.message;
    throw error;
  }
  if (!input.equals(encoded)) throw new Error('a changed catalogue was taken');
  return 'right';
}

function tryHeader(input: Buffer): string {
  if (input.length === 4096) createHash('sha256').update(input.subarray(0, 4064)).digest().copy(input, 4064);
  try {
    for (const { ops, memory } of parseHeader(input, '/media/key').wraps)
      if (ops < 1 || ops > 16 || memory < 8192 || memory > 2 ** 30) throw new Error('out of bounds');
  } catch (error) {
    if (error instanceof TorporError) return error.message;
    throw error;
  }
  return 'right';
}

async function tryStream(input: Buffer): Promise<string> {
  async function* parts() {
    const cut = random(input.length);
    for (let at = 0; at < input.length; ) {
      const length = 1 + Math.floor(cut() * 9000);
      yield input.subarray(at, at + length);
      at += length;
    }
  }
  try {
    await readItems(parts(), (each) => {
      if (each.kind === 'chunk' && (each.pages < 1 || each.pages > 16 || each.codec > 2))
        throw new Error('a chunk that is none');
      if (each.kind === 'list' && each.ids.length % 32 !== 0) throw new Error('half an id');
      return undefined;
    });
  } catch (error) {
    if (error instanceof StreamError) return error.message;
    throw error;
  }
  return 'right';
}

const encoded = encodeCatalogue(bundle, madeCatalogue());
let header: Buffer;
beforeAll(async () => {
  header = (await makeHeader(['some passphrase'], { ops: 1, memory: 8192 })).bytes;
});

const targets = {
  body: { seed: () => bodyOf(madeCatalogue()), attempt: tryBody },
  whole: { seed: () => encoded, attempt: tryWhole },
  header: { seed: () => header, attempt: tryHeader },
  stream: {
    seed: () => Buffer.concat([fileStream(noise(4, 20_000)), item('E', number32(1, 13), Buffer.from('no'))]),
    attempt: tryStream,
  },
} as const;

const kept = (name: string) =>
  readdirSync(corpus)
    .filter((each) => each.startsWith(`${name}-`))
    .map((each) => readFileSync(join(corpus, each)));

/** @returns the name of the file that has it from now on. */
function keep(name: string, input: Buffer): string {
  const file = `${name}-${createHash('sha256').update(input).digest('hex').slice(0, 16)}`;
  writeFileSync(join(corpus, file), input);
  return file;
}

it('reads what it has written', () => {
  expect(decodeCatalogue(bundle, encoded)).toEqual(madeCatalogueRead());
  tryBody(bodyOf(madeCatalogue()));
});

function madeCatalogueRead() {
  const made = madeCatalogue();
  return { ...made, table: new ChunkTable(Buffer.from(made.table.bytes)) };
}

it('finds chunks among many', () => {
  const table = new ChunkTable();
  for (let number = 0; number < 5000; number++)
    table.add(noise(number, 32), 0, 1, { pack: 0, record: number, offset: number, length: 4132 });
  for (let number = 0; number < 5000; number++) expect(table.find(noise(number, 32))).toBe(number);
  expect(table.find(noise(9999, 32))).toBeUndefined();
  expect(table.bytes).toHaveLength(5000 * entryBytes);
  expect(() => new ChunkTable(Buffer.concat([table.bytes, table.bytes.subarray(0, entryBytes)]))).toThrow(
    RangeError,
  );
});

describe.each(Object.keys(targets) as (keyof typeof targets)[])('%s', (name) => {
  it('stands what was found before', async () => {
    for (const input of kept(name)) await targets[name].attempt(input);
  });

  it(
    'stands what comes by chance',
    async () => {
      const next = random(seed + name.length);
      const { seed: made, attempt } = targets[name];
      const whole = made();
      const beginnings = [whole, ...kept(name)];
      const words = new Set<string>();
      const answer = async (input: Buffer) => (await attempt(Buffer.from(input))).replaceAll(/\d+/g, '0');
      for (const each of beginnings) words.add(await answer(each));
      const until = Date.now() + (seconds * 1000) / Object.keys(targets).length;
      let tries = 0;
      for (; Date.now() < until; tries++) {
        const input = mutated(beginnings[Math.floor(next() * beginnings.length)] ?? whole, next, whole);
        let said: string;
        try {
          said = await answer(input);
        } catch (error) {
          throw new Error(`seed ${seed}: ${keep(name, input)}`, { cause: error });
        }
        if (words.has(said) || words.size > 200) continue;
        words.add(said);
        beginnings.push(input);
        if (process.env.TORPOR_FUZZ_KEEP === '1') keep(name, input);
      }
      if (seconds > 3) console.log(`${name}: ${tries} tries, ${words.size} answers, seed ${seed}`);
      expect(tries).toBeGreaterThan(100);
    },
    seconds * 1000 + 20_000,
  );
});
