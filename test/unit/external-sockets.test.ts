/** The plan for CRIU's plugin, and what is decided on sockets whose other end is outside. */
import { describe, expect, it } from 'vitest';
import type { TorporError } from '../../api/errors.ts';
import { addressText, decide } from '../../engine/sockets/decisions.ts';
import { type ExternalSocket, socketsOutside } from '../../engine/sockets/external.ts';
import { encodeDumpPlan, encodeRestorePlan, readOutcomes } from '../../engine/sockets/plan.ts';
import { readSocketQueues } from '../../proto/images.ts';
import { WireError } from '../../proto/wire.ts';

const user = { uid: 1500, gid: 1501, groups: [27, 100] };
const socket = (more: Partial<ExternalSocket>): ExternalSocket => ({
  inode: 7,
  type: 'stream',
  peer: 8,
  address: Buffer.from('/srv/a b'),
  own: undefined,
  owner: { comm: 'player', user },
  unread: [],
  hasDescriptorsUnread: false,
  ...more,
});
const outside = (...external: ExternalSocket[]) => ({ external, waiting: [] });
const there = () => true;

describe('the plan', () => {
  it('has a line for each socket, and one for each packet', () => {
    const plan = encodeRestorePlan([
      { inode: 7, type: 'stream', user, own: undefined, action: 'hang-up', unread: [Buffer.from('ab')] },
      {
        inode: 9,
        type: 'datagram',
        user: { uid: 0, gid: 0, groups: [] },
        own: { name: Buffer.from('/x y'), mode: 0o140755 },
        action: 'reconnect',
        address: Buffer.from('\0n'),
        unread: [],
      },
      { inode: 11, type: 'seqpacket', user, own: undefined, action: 'given', fd: 5 },
    ]);
    expect(plan).toBe(
      '---- 7 hang-up 1 1500 1501 27,100 - 0 - 0\npacket 6162\n' +
        '---- 9 reconnect 2 0 0 - 2f782079 755 006e 0\n' +
        '---- 11 given 5 1500 1501 27,100 - 0 - 5\n',
    );
    expect(encodeDumpPlan('reconnect')).toBe('---- 0 reconnect 1 0 0 - - 0 - 0\n');
  });

  it('is read back with what came of each', () => {
    const outcomes = readOutcomes('done 7 hang-up\npacket 6162\nE111 9 reconnect\n---- 11 given\nE00x 13\n');
    expect([...outcomes]).toEqual([
      [7, { kind: 'done' }],
      [9, { kind: 'not-connected', errno: 'ECONNREFUSED' }],
      [11, { kind: 'pending' }],
      [13, { kind: 'pending' }],
    ]);
  });
});

describe('a decision', () => {
  it('hangs up what cannot be connected again', () => {
    const { sockets, findings } = decide(
      'mpv',
      outside(socket({}), socket({ inode: 9, address: Buffer.alloc(0) })),
      'reconnect',
      () => false,
    );
    expect(sockets.map(({ decision }) => decision)).toEqual(['hang-up', 'hang-up']);
    expect(findings.map(({ what }) => what)).toEqual([
      'player talks over the unix socket /srv/a b, which it could not connect to again from where it is.',
    ]);
  });

  it('connects a datagram socket again where nothing else was chosen', () => {
    const datagram = outside(socket({ type: 'datagram' }));
    expect(decide('x', datagram, 'block', there).sockets).toEqual([{ inode: 7, decision: 'reconnect' }]);
    expect(decide('x', datagram, 'hang-up', there).sockets).toEqual([{ inode: 7, decision: 'hang-up' }]);
  });

  it('counts what a new connection does not bring back', () => {
    const unread = [Buffer.from('abc'), Buffer.from('d')];
    const named = { type: 'datagram', own: { name: Buffer.from('/own'), mode: 0 } } as const;
    expect(decide('x', outside(socket({ unread })), 'reconnect', there).findings[0]?.what).toContain(
      '4 bytes',
    );
    expect(decide('x', outside(socket({ unread, ...named })), 'reconnect', there).findings).toEqual([]);
    expect(decide('x', outside(socket({ unread })), 'hang-up', there)).toEqual({
      sockets: [{ inode: 7, decision: 'hang-up' }],
      findings: [],
    });
  });

  it.each([
    [
      'open files under way',
      outside(socket({ hasDescriptorsUnread: true })),
      /sent open files over .*\/srv\/a b/,
    ],
    [
      'a connection nobody has accepted',
      { external: [], waiting: [{ comm: 'player' }] },
      /player is just connecting/,
    ],
  ])('is none for %s', (_name, sockets, words) => {
    try {
      decide('mpv', sockets, 'hang-up', there);
      expect.unreachable();
    } catch (error) {
      expect((error as TorporError).code).toBe('blocked');
      expect((error as TorporError).message).toMatch(words);
    }
  });

  it('shows addresses as people write them', () => {
    expect(addressText(Buffer.from('\0a\0b'))).toBe('@a@b');
    expect(addressText(Buffer.from('/run/x\0'))).toBe('/run/x');
    expect(addressText(Buffer.alloc(0))).toBe('');
  });
});

describe('images', () => {
  const image = (...parts: number[][]) =>
    Buffer.concat([Buffer.from('1943565426402656', 'hex'), ...parts.map((part) => Buffer.from(part))]);

  it('give the packets of each socket, and are refused cut off', () => {
    const whole = image([4, 0, 0, 0, 8, 3, 16, 2], [0x68, 0x69], [8, 0, 0, 0, 8, 4, 16, 0, 34, 2, 8, 1]);
    expect(readSocketQueues(whole)).toEqual([
      { socketId: 3, data: Buffer.from('hi'), hasDescriptors: false },
      { socketId: 4, data: Buffer.alloc(0), hasDescriptors: true },
    ]);
    for (const end of [7, 10, 14, 17, whole.length - 1])
      expect(() => readSocketQueues(whole.subarray(0, end))).toThrow(WireError);
  });

  it('tell the sockets that the plugin makes from those that no restore could', () => {
    const common = {
      type: 'stream',
      isListening: false,
      name: { kind: 'none' },
      rawName: Buffer.alloc(0),
      folder: undefined,
      isDeleted: false,
      owner: undefined,
      isExternal: false,
      isMadeByPlugin: false,
    } as const;
    const images = {
      ...{
        imageVersion: 2,
        closesTcp: false,
        processes: [],
        regFiles: [],
        inetSockets: [],
        mounts: [],
        terminals: [],
      },
      unixSockets: [
        { ...common, id: 1, inode: 10, peer: 20, isMadeByPlugin: true },
        { ...common, id: 2, inode: 20, peer: 0, isExternal: true, rawName: Buffer.from('/s') },
        { ...common, id: 3, inode: 30, peer: 99 },
        { ...common, id: 4, inode: 40, peer: 50 },
        { ...common, id: 5, inode: 50, peer: 40 },
      ],
    };
    const { external, waiting } = socketsOutside(images, [
      { socketId: 1, data: Buffer.from('x'), hasDescriptors: false },
    ]);
    expect(external).toMatchObject([{ inode: 10, address: Buffer.from('/s'), unread: [Buffer.from('x')] }]);
    expect(waiting).toEqual([{ comm: 'a process' }]);
  });
});
