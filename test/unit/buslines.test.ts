/** What a bus tells of its connections, and what of that is kept for one. */
import { describe, expect, it } from 'vitest';
import { areWholeMessages, busStateOf, parseLearnt } from '../../engine/sockets/buslines.ts';
import { busSocketSchema } from '../../proto/manifest.ts';

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

  it('is what the program knows, and not what the bus does, where one of ours stands between', () => {
    const text = `connection :1.7 812
name org.example.App :1.7
name org.example.Stranger :1.77
match :1.7 type='signal',destination=':1.7',arg0='org.example.App'
match :1.7 sender=':1.77',arg0='org.example.Stranger'
rules known
`;
    const line = { kind: 'bus', path: '/bus', pids: [812], shown: ':1.77' } as const;
    expect(busStateOf(line, parseLearnt(text))).toMatchObject({
      unique: ':1.77',
      names: ['org.example.App'],
      matches: [
        "type='signal',destination=':1.77',arg0='org.example.App'",
        "sender=':1.7',arg0='org.example.Stranger'",
      ],
      known: [
        { name: 'org.example.App', owner: ':1.77' },
        { name: 'org.example.Stranger', owner: ':1.7' },
      ],
    });
  });

  it('can be read back, whatever the program listens to and the bus says', () => {
    const text = `connection :1.0 812
connection of:nobody 812
name org.example.App :1.0
name org.example.Server who it is
name no/name :1.0
match :1.0 type='signal',arg0='/home/u/My Documents/a.txt'
match :1.0 type='signal',arg0='org.example.Server'
match :1.0 type='signal',arg0='.'
match :1.0 type='signal',arg0='one.${'x'.repeat(300)}'
match :1.0 type='signal',arg0='a line\rfeed.\u2028or so'
match :1.0 type='signal',arg0='org.example.Open
rules known
`;
    const state = busStateOf({ kind: 'bus', path: '/bus', pids: [812] }, parseLearnt(text));
    expect(state).toMatchObject({
      unique: ':1.0',
      names: ['org.example.App'],
      known: [{ name: 'org.example.Server', owner: '' }],
    });
    expect(state?.matches).toHaveLength(6);
    expect(busSocketSchema.parse({ ...state, inode: 1, decision: 'bus' })).toBeDefined();
  });

  it('has an end, and is found soon, whatever the bus says', () => {
    const dots = `match :1.0 arg0='${'.'.repeat(4000)}\n`;
    const text = `connection :1.0 812\n${'match :1.0 x\n'.repeat(300_000)}rules known\n`;
    const state = busStateOf({ kind: 'bus', path: '/bus', pids: [812] }, parseLearnt(text));
    expect(state?.matches.length).toBeLessThan(5000);
    busStateOf(
      { kind: 'bus', path: '/bus', pids: [812] },
      parseLearnt(`connection :1.0 812\n${dots.repeat(4000)}rules known\n`),
    );
    // Within this test's limit of time: where each rule is looked at for each other one, or each dot, that takes hours.
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
