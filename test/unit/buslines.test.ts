/** What a bus tells of its connections, and what of that is kept for one. */
import { describe, expect, it } from 'vitest';
import { areWholeMessages, busStateOf, parseLearnt } from '../../engine/sockets/buslines.ts';

const told = `connection :1.0 812
connection :1.4 900
connection :1.9 900
name org.freedesktop.DBus org.freedesktop.DBus
name org.example.App :1.0
name org.example.Server :1.4
match :1.0 type='signal',sender='org.example.Server',path='/a b'
match :1.0 type='signal',member='NameOwnerChanged',arg0='org.example.Gone',sender='org.freedesktop.DBus'
match :1.0 type='signal',sender=':1.4'
match :1.4 type='signal'
something else
rules known
`;

describe('what is kept of a connection', () => {
  it('is its names, its rules, and whom it knows by name', () => {
    expect(busStateOf({ kind: 'bus', path: '/bus', pids: [7, 812] }, parseLearnt(told))).toEqual({
      path: '/bus',
      unique: ':1.0',
      names: ['org.example.App'],
      matches: [
        "type='signal',sender='org.example.Server',path='/a b'",
        "type='signal',member='NameOwnerChanged',arg0='org.example.Gone',sender='org.freedesktop.DBus'",
        "type='signal',sender=':1.4'",
      ],
      rulesKnown: true,
      known: [
        { name: 'org.example.Server', owner: ':1.4' },
        { name: 'org.example.Gone', owner: '' },
      ],
    });
  });

  it('is under the name that the program knows', () => {
    const line = { kind: 'bus', path: '/bus', pids: [812], shown: ':1.77' } as const;
    expect(busStateOf(line, parseLearnt(told))).toMatchObject({
      unique: ':1.77',
      names: ['org.example.App'],
    });
  });

  it('says where the bus does not tell rules', () => {
    const line = { kind: 'bus', path: '/bus', pids: [812] } as const;
    const state = busStateOf(line, parseLearnt('connection :1.0 812\n'));
    expect(state).toMatchObject({ names: [], matches: [], rulesKnown: false });
  });

  it('is nothing where it is none or one of several', () => {
    for (const pid of [1, 900])
      expect(busStateOf({ kind: 'bus', path: '/bus', pids: [pid] }, parseLearnt(told))).toBeUndefined();
  });
});

describe('messages', () => {
  /** A head with so many bytes of fields and body after it. */
  const message = (fields: number, body: number, isBig = false) => {
    const bytes = Buffer.alloc(16 + Math.ceil(fields / 8) * 8 + body);
    bytes.write(isBig ? 'B' : 'l', 'latin1');
    for (const [at, value] of [
      [4, body],
      [12, fields],
    ] as const) {
      if (isBig) bytes.writeUInt32BE(value, at);
      else bytes.writeUInt32LE(value, at);
    }
    return bytes;
  };

  it('are whole, or one of them is not', () => {
    const two = Buffer.concat([message(13, 5), message(0, 0, true)]);
    expect(areWholeMessages(Buffer.alloc(0))).toBe(true);
    expect(areWholeMessages(two)).toBe(true);
    for (const length of [1, 16, 36, two.length - 1])
      expect(areWholeMessages(two.subarray(0, length))).toBe(false);
    expect(areWholeMessages(Buffer.from('a line of text, nothing else'))).toBe(false);
  });
});
