/** What holds sets together: meetings, which sockets lie between members, which ends belong together, ghosts' numbers. */
import { describe, expect, it } from 'vitest';
import { ghostIdIn, renumberGhosts } from '../../engine/files/ghosts.ts';
import { betweenOf } from '../../engine/sockets/between.ts';
import type { ExternalSocket } from '../../engine/sockets/external.ts';
import { matchEnds } from '../../engine/sockets/pairs.ts';
import { Meeting } from '../../engine/transaction/meeting.ts';
import { makeImage, readImage, remapFpathEntry } from '../../proto/images.ts';
import type { DecidedSocket } from '../../proto/manifest.ts';
import { encode } from '../../proto/wire.ts';

describe('a meeting', () => {
  it('does its work once, when all are there', async () => {
    let done = 0;
    const meeting = new Meeting(2, async () => {
      done++;
    });
    const first = meeting.join();
    await Promise.resolve();
    expect(done).toBe(0);
    await Promise.all([first, meeting.join()]);
    expect(done).toBe(1);
  });

  it('tells all why its work failed', async () => {
    const meeting = new Meeting(2, async () => {
      throw new Error('no disk');
    });
    const both = await Promise.allSettled([meeting.join(), meeting.join()]);
    expect(both.map((each) => each.status)).toEqual(['rejected', 'rejected']);
  });

  it('is called off for those who wait and those who come later, and then does nothing', async () => {
    let done = false;
    const meeting = new Meeting(2, async () => {
      done = true;
    });
    const first = meeting.join();
    meeting.callOff(new Error('one has failed'));
    await expect(first).rejects.toThrow('one has failed');
    await expect(meeting.join()).rejects.toThrow('one has failed');
    expect(done).toBe(false);
  });

  it('cannot be called off once all have been there', async () => {
    const meeting = new Meeting(1, () => new Promise((resolve) => setTimeout(resolve, 5)));
    const only = meeting.join();
    meeting.callOff(new Error('too late'));
    await only;
  });
});

describe('sockets between members', () => {
  const sockets = new Map(
    [
      { inode: 1, peer: 2 },
      { inode: 2, peer: 1 },
      { inode: 3, peer: 9 },
      { inode: 4, peer: 5 },
      { inode: 5, peer: 4 },
    ].map((socket) => [socket.inode, socket]),
  );

  it('are those whose other end another one has, and it alone', () => {
    const holders = new Map([
      [1, new Set(['a'])],
      [2, new Set(['b'])],
      [3, new Set(['a'])],
      [4, new Set(['a'])],
      [5, new Set(['a', 'b'])],
    ]);
    expect([...betweenOf('a', sockets, holders)]).toEqual([[1, { peer: 2, workload: 'b' }]]);
    expect([...betweenOf('b', sockets, holders)]).toEqual([
      [2, { peer: 1, workload: 'a' }],
      [5, { peer: 4, workload: 'a' }],
    ]);
  });
});

describe('ends', () => {
  const session = { id: 's', members: [{ workload: 'a', name: 'a' }] };
  const end = (inode: number, peer: number, type: ExternalSocket['type'] = 'stream'): ExternalSocket => ({
    ...{ inode, type, peer, own: undefined, owner: undefined, unread: [], hasDescriptorsUnread: false },
    address: Buffer.from('/there'),
  });
  const offer = (workload: string, sockets: ExternalSocket[], decided: DecidedSocket[], id = 's') => ({
    manifest: {
      ...{ id: `snapshot-${workload}`, workload, externalSockets: decided },
      session: { ...session, id },
      capsule: {} as never,
    },
    sockets,
  });
  const to = (workload: string, inode: number, peer: number): DecidedSocket => ({
    ...{ decision: 'session', inode, peer, workload },
  });

  it('are matched two by two, once', () => {
    const { pairs, byName } = matchEnds([
      offer('a', [end(1, 2), end(3, 4)], [to('b', 1, 2), to('b', 3, 4)]),
      offer('b', [end(2, 1), end(4, 3)], [to('a', 2, 1), to('a', 4, 3)]),
    ]);
    expect(pairs.map((pair) => pair.map(({ socket }) => socket.inode))).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect(byName).toEqual([]);
  });

  it('are not matched with those of another session, or of a member that is not there', () => {
    const one = offer('a', [end(1, 2)], [to('b', 1, 2)]);
    expect(matchEnds([one]).pairs).toEqual([]);
    expect(matchEnds([one, offer('b', [end(2, 1)], [to('a', 2, 1)], 'other')]).pairs).toEqual([]);
  });

  it('find a datagram socket that takes from anybody by its name', () => {
    const { pairs, byName } = matchEnds([
      offer('a', [end(1, 2, 'datagram')], [to('b', 1, 2)]),
      offer('b', [], []),
    ]);
    expect(pairs).toEqual([]);
    expect(byName.map(({ socket }) => socket.inode)).toEqual([1]);
  });
});

describe('ghosts', () => {
  const entries = [
    { originalId: 7, remapId: 1, kind: 1 },
    { originalId: 8, remapId: 1, kind: 0 },
    { originalId: 9, remapId: 5000, kind: 1 },
  ];
  const image = makeImage('remapFpath', ...entries.map((entry) => encode(remapFpathEntry, entry)));

  it('get numbers of their snapshot, and nothing else does', () => {
    const { rewritten, renamed } = renumberGhosts(image, '0f786d31391a');
    const id = ghostIdIn('0f786d31391a', 1);
    expect(
      readImage('remapFpath', remapFpathEntry, rewritten.get('remap-fpath.img') ?? Buffer.alloc(0)),
    ).toEqual([
      { originalId: 7, remapId: id, kind: 1 },
      { originalId: 8, remapId: 1, kind: 0 },
      { originalId: 9, remapId: 5000, kind: 1 },
    ]);
    expect([...renamed]).toEqual([[`ghost-file-${id.toString(16)}.img`, 'ghost-file-1.img']]);
  });

  it('differ between snapshots, and never have the bit that CRIU keeps to itself', () => {
    const ids = ['0f786d31391a', '0f786d32391a', 'ffffffffffff'].map((snapshot) => ghostIdIn(snapshot, 1));
    expect(new Set(ids).size).toBe(3);
    for (const id of ids) expect(id).toBeLessThan(2 ** 31);
  });
});
