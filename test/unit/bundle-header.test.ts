/** The header of bundles: no bit of it can be another. */
import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import {
  addPassphrases,
  headerBytes,
  makeHeader,
  type OpenHeader,
  openHeader,
  parseHeader,
  removePassphrases,
} from '../../engine/bundle/medium/header.ts';

const cheap = { ops: 1, memory: 8192 };
let header: OpenHeader;
beforeAll(async () => {
  header = await makeHeader(['first passphrase', 'second passphrase'], cheap);
});

function flipped(position: number, bit: number): Buffer {
  const bytes = Buffer.from(header.bytes);
  bytes.writeUInt8(bytes.readUInt8(position) ^ (1 << bit), position);
  return bytes;
}

/** As somebody does it who knows the format but not the key. */
function forged(bytes: Buffer): Buffer {
  createHash('sha256').update(bytes.subarray(0, 4064)).digest().copy(bytes, 4064);
  return bytes;
}

const open = async (bytes: Buffer) =>
  await openHeader(parseHeader(bytes, '/media/key'), 'second passphrase', '/media/key');

const expectError = (error: unknown) => expect(error).toBeInstanceOf(TorporError);

it('is opened by each passphrase and gives the key', async () => {
  expect((await open(header.bytes)).key).toEqual(header.key);
  const parsed = parseHeader(header.bytes, '/media/key');
  expect((await openHeader(parsed, 'first passphrase', '')).key).toEqual(header.key);
  await expect(openHeader(parsed, 'third passphrase', '/media/key')).rejects.toThrow(
    'That is not a passphrase of the bundle /media/key.',
  );
});

it('is refused with any one bit of it flipped, before any passphrase is tried', () => {
  for (let position = 0; position < headerBytes; position++)
    for (let bit = 0; bit < 8; bit++) {
      let refused: unknown;
      try {
        parseHeader(flipped(position, bit), '/media/key');
      } catch (error) {
        refused = error;
      }
      expectError(refused);
    }
});

it('is refused with a byte of it changed and the checksum made to fit', async () => {
  for (let position = 0; position < 4064; position++) {
    // Memory that the wrap would need is real: the bit is one that leaves it small.
    const isMemory =
      position >= 64 && position < 256 && (position - 64) % 96 >= 8 && (position - 64) % 96 < 12;
    await open(forged(flipped(position, isMemory ? 0 : position % 8))).then(
      () => expect.fail(`byte ${position} may be another`),
      expectError,
    );
  }
});

describe('what is asked of the memory and the processor is bounded', () => {
  it.each([
    ['passes', 68, 17],
    ['no passes', 68, 0],
    ['4 GiB', 72 + 4, 1],
    ['too little memory', 72, 100],
    ['another function', 64, 2],
    ['no wraps', 32, 0],
    ['nine wraps', 32, 9],
  ])('%s', (_name, position, value) => {
    const bytes = Buffer.from(header.bytes);
    bytes.writeUInt32LE(value, position);
    expect(() => parseHeader(forged(bytes), '/media/key')).toThrow(
      /header of the bundle \/media\/key is damaged/,
    );
  });
});

it('says of a damaged header that it is damaged, and of a changed one that it was changed', async () => {
  expect(() => parseHeader(flipped(2000, 3), '/media/key')).toThrow(
    /is damaged: its checksum does not match/,
  );
  await expect(open(forged(flipped(4040, 1)))).rejects.toThrow(/was changed by somebody/);
  expect(() => parseHeader(flipped(0, 0), '/media/key')).toThrow('/media/key is no bundle');
  expect(() => parseHeader(forged(flipped(8, 1)), '/media/key')).toThrow(/has version 3/);
});

it('takes passphrases in and out, and keeps one', async () => {
  const more = await addPassphrases(header, ['third passphrase', 'first passphrase'], cheap);
  expect(more.wraps).toHaveLength(3);
  const fewer = await removePassphrases(more, ['first passphrase', 'second passphrase']);
  expect(fewer.wraps).toHaveLength(1);
  const parsed = parseHeader(fewer.bytes, '');
  expect((await openHeader(parsed, 'third passphrase', '')).key).toEqual(header.key);
  await expect(openHeader(parsed, 'first passphrase', '')).rejects.toThrow(/not a passphrase/);
  await expect(removePassphrases(fewer, ['third passphrase'])).rejects.toThrow(/last passphrase/);
  const nine = Array.from({ length: 9 }, (_, number) => `passphrase ${number}`);
  await expect(makeHeader(nine, cheap)).rejects.toThrow(/at most 8/);
});
