import { describe, expect, it } from 'vitest';
import {
  fileEntry,
  imageEntries,
  imageMagic,
  makeImage,
  pstreeEntry,
  readImage,
  rewriteImage,
} from '../../proto/images.ts';
import { encode, message, optional, required, WireError } from '../../proto/wire.ts';

const commonMagic = 0x54564319;

function words(...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 4);
  for (const [index, number] of numbers.entries()) bytes.writeUInt32LE(number, index * 4);
  return bytes;
}

function image(kind: keyof typeof imageMagic, ...entries: Buffer[]): Buffer {
  const head = kind === 'inventory' ? words(imageMagic[kind]) : words(commonMagic, imageMagic[kind]);
  return Buffer.concat([head, ...entries.flatMap((entry) => [words(entry.length), entry])]);
}

/** A file as a later CRIU may write it: with fields that are not in our table, on either level, in odd places. */
const laterFile = message('file_entry', {
  before: optional(50, 'bytes'),
  type: required(1, 'enum'),
  id: required(2, 'uint32'),
  reg: optional(
    3,
    message('reg_file_entry', {
      later: optional(40, 'fixed64'),
      name: required(6, 'bytes'),
      size: optional(8, 'uint64'),
      id: required(1, 'uint32'),
      flags: required(2, 'uint32'),
      pos: required(3, 'uint64'),
      fown: optional(5, 'bytes'),
      checksum: optional(12, 'uint32'),
    }),
  ),
  after: optional(60, 'string'),
});

function file(id: number, name: string | Buffer, size?: bigint): Buffer {
  return encode(laterFile, {
    before: Buffer.from('before'),
    type: 1,
    id,
    reg: {
      later: 7n,
      name: Buffer.from(name as string),
      size,
      id,
      flags: 0x8000,
      pos: 12n,
      fown: Buffer.from([8, 0]),
      checksum: 9,
    },
    after: 'after',
  });
}

const unixSocket = encode(message('file_entry', { type: required(1, 'enum'), id: required(2, 'uint32') }), {
  type: 5,
  id: 9,
});

describe('image files', () => {
  it('are read entry by entry', () => {
    const entries = [1, 2].map((pid) => ({ pid, ppid: pid - 1, pgid: 1, sid: 1, threads: [pid, pid + 10] }));
    const bytes = image('pstree', ...entries.map((entry) => encode(pstreeEntry, entry)));
    expect(readImage('pstree', pstreeEntry, bytes)).toEqual(entries);
  });

  it('may have no entry at all', () => {
    expect(readImage('files', fileEntry, image('files'))).toEqual([]);
  });

  it('have one magic number less in the inventory', () => {
    expect([...imageEntries('inventory', image('inventory', Buffer.from('x')))].map(String)).toEqual(['x']);
  });

  it.each([
    ['another kind', image('pstree'), 'not an image of this kind'],
    ['no image', Buffer.from('something else'), 'not an image of this kind'],
    ['nothing', Buffer.alloc(0), 'shorter than its head'],
    ['half a head', image('files').subarray(0, 6), 'shorter than its head'],
    ['half a length', Buffer.concat([image('files'), Buffer.from([1, 0])]), 'cut off at byte 8'],
    ['a huge length', Buffer.concat([image('files'), words(0xffffffff)]), 'an entry of 4294967295 bytes'],
    ['half an entry', image('files', unixSocket).subarray(0, -1), 'an entry of 4 bytes at byte 12'],
  ])('that are %s are refused', (_what, bytes, message) => {
    expect(() => readImage('files', fileEntry, bytes)).toThrow(WireError);
    expect(() => readImage('files', fileEntry, bytes)).toThrow(message);
  });
});

describe('rewriting an image', () => {
  const bytes = image('files', file(1, '/a', 10n), unixSocket, file(2, '/b', 20n));

  it('changes what it shall and nothing else', () => {
    const second = file(2, '/b', 20n);
    expect(
      rewriteImage('files', bytes, (entry) => (entry.equals(second) ? file(2, '/größer') : entry)),
    ).toEqual(image('files', file(1, '/a', 10n), unixSocket, file(2, '/größer')));
  });

  it('leaves every byte where there is nothing to do', () => {
    expect(rewriteImage('files', bytes, (entry) => entry)).toEqual(bytes);
    expect(makeImage('files', file(1, '/a', 10n), unixSocket, file(2, '/b', 20n))).toEqual(bytes);
  });
});
