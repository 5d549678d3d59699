/** Messages as the bridge reads and writes them: the same as others do, and nothing that comes is believed. */
import { describe, expect, it } from 'vitest';
import {
  entryOf,
  type Message,
  mapStrings,
  messageLength,
  newCall,
  parseMessage,
  parseSignature,
  readBody,
  type Value,
  writeBody,
  writeMessage,
} from '../../plugins/bridge/message.ts';

const to = { destination: 'org.example.A', path: '/org/example', interface: 'org.example.I', member: 'Do' };
const signature = 'ybnqiuxtdsogayasa{sv}(i(ss))a(ub)v';
const values: Value[] = [
  ...[255, true, -2, 65535, -70000, 4294967295, -(2n ** 40n), 2n ** 63n, 0.5],
  ...['text ä', '/a/b', 'a{sv}', Buffer.from([1, 2, 3]), ['one', '', 'three']],
  [
    ['__proto__', { signature: 's', value: 'kept' }],
    ['2', { signature: 'aay', value: [Buffer.from([9]), Buffer.alloc(0)] }],
    ['1', { signature: 'v', value: { signature: '(ot)', value: ['/x', 7n] } }],
  ],
  [1, ['x', 'y']],
  [
    [1, false],
    [2, true],
  ],
  { signature: 'a{ux}', value: [[3, 4n]] },
];

describe('a message', () => {
  it.each([false, true])('is the same after it was written and read (big-endian: %s)', (bigEndian) => {
    const message: Message = {
      ...newCall(to),
      ...{ signature, body: writeBody(signature, values, bigEndian), bigEndian, serial: 7, flags: 2 },
    };
    const data = writeMessage(message);
    expect(messageLength(data)).toBe(data.length);
    const read = parseMessage(data);
    expect(read).toMatchObject({ ...to, type: 1, flags: 2, serial: 7, signature, bigEndian });
    expect(readBody(read)).toEqual(values);
    expect(entryOf(readBody(read)[14], '__proto__')).toBe('kept');
  });

  it('keeps all of its body but what is mapped', () => {
    const message = { ...newCall(to), signature, body: writeBody(signature, values) };
    expect(mapStrings(message, (text) => text)).toBe(message);
    const mapped = readBody(mapStrings(message, (text, isPath) => (isPath ? `${text}/c` : text)));
    expect(mapped[10]).toBe('/a/b/c');
    expect(mapped[14]).toContainEqual([
      '1',
      { signature: 'v', value: { signature: '(ot)', value: ['/x/c', 7n] } },
    ]);
    expect(mapped.filter((_, index) => ![10, 14].includes(index))).toEqual(
      values.filter((_, index) => ![10, 14].includes(index)),
    );
  });

  it('of nonsense is an error, and never more', () => {
    const good = writeMessage({ ...newCall(to), signature, body: writeBody(signature, values), serial: 1 });
    let refused = 0;
    // Any byte may be any other: the same sequence in each run.
    for (let round = 0, seed = 1; round < 5000; round++) {
      const data = Buffer.from(good);
      for (let count = 0; count < 3; count++) {
        seed = (seed * 1103515245 + 12345) % 2 ** 31;
        data[seed % data.length] = (seed >> 8) & 255;
      }
      try {
        readBody(parseMessage(data));
      } catch (error) {
        refused++;
        expect(['WireError', 'RangeError']).toContain((error as Error).name);
      }
    }
    expect(refused).toBeGreaterThan(100);
  });

  it.each([
    ['a signature without end', () => parseSignature('a'.repeat(100))],
    ['brackets that are not closed', () => parseSignature('(ii')],
    ['an entry that is no pair', () => parseSignature('a{sss}')],
    ['variants within variants', () => readBody({ signature: 'v', bigEndian: false, body: nested(1000) })],
    [
      'an array longer than its message',
      () => readBody({ signature: 'ai', bigEndian: false, body: Buffer.from([255, 255, 0, 0]) }),
    ],
  ])('is refused: %s', (_, read) => expect(read).toThrow());
});

/** Variants in variants, to any depth. */
function nested(depth: number): Buffer {
  return Buffer.concat([...Array(depth).fill(Buffer.from([1, 0x76, 0])), Buffer.from([1, 0x79, 0, 5])]);
}
