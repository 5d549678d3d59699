/** Rules about jobs that need no process: who belongs to a set, what a job may be given back, which pipes come together. */
import { describe, expect, it } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import type { Credentials, ProcessImage } from '../../engine/criu/images.ts';
import type { Descriptor, Facts } from '../../engine/inspect/facts.ts';
import { companionsOf, refuseOverlap } from '../../engine/job/members.ts';
import { checkRights } from '../../engine/job/rights.ts';
import { pipesOf, refuseTwoReaders } from '../../engine/sockets/between.ts';
import { pipesBroken, pipesTogether } from '../../engine/sockets/pipes.ts';
import { imageMagic, readPipeContents } from '../../proto/images.ts';

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return error instanceof TorporError ? `${error.code}: ${error.message}` : String(error);
  }
  return 'done';
}

describe('members of a set', () => {
  it('know the others by all their processes', () => {
    const all = [
      { meant: 10, pids: [10, 11] },
      { meant: 20, pids: [20] },
    ];
    const [first] = all;
    expect(first && [...companionsOf(first, all)]).toEqual([[20, 'process 20']]);
  });

  it.each([
    [
      [10, 11, 12],
      [11, 12],
    ],
    [
      [11, 12],
      [10, 11, 12],
    ],
  ])('are refused where one lies in the other', (one, other) => {
    const members = [one, other].map((pids) => ({ meant: pids[0] ?? 0, pids }));
    expect(codeOf(() => refuseOverlap(members))).toBe(
      'blocked: Process 11 belongs to process 11 and to process 10, which it runs below. Nothing was touched.',
    );
  });
});

describe('rights of a job', () => {
  const alice = { uid: 1500, gid: 1500, groups: [1500, 27], name: 'alice', home: '/', shell: '/bin/sh' };
  const none = { inheritable: 0n, permitted: 0n, effective: 0n, bounding: 0n, ambient: 0n };
  const creds = (uid: number, groups: number[]): Credentials => ({
    ...none,
    ...{ uid, euid: uid, suid: uid, fsuid: uid, gid: 1500, egid: 1500, sgid: 1500, fsgid: 1500, groups },
    securebits: 0,
    noNewPrivs: false,
  });
  const tree = (...all: Credentials[]): ProcessImage[] =>
    all.map((credentials, index) => ({
      ...{ kind: 'alive', pid: index + 1, ppid: index, pgid: 1, sid: 1, comm: 'x', stopped: false },
      threads: [{ tid: index + 1, comm: 'x', credentials, seccomp: 'disabled' }],
      ...{ descriptors: [], executable: undefined, cwd: undefined, root: undefined },
    }));
  const check = (
    processes: ProcessImage[],
    user: { name: string; groups: number[] } | undefined,
    isRoot: boolean,
    then = alice,
  ) => {
    let found: string[] = [];
    const outcome = codeOf(() => {
      const groupNames = new Map([[27, 'sudo']]);
      found = checkRights('job', then, { user, groupNames }, processes, isRoot).map(({ what }) => what);
    });
    return found.length > 0 ? found : outcome;
  };
  const now = { name: 'alice', groups: [1500, 27] };
  const lost = { name: 'alice', groups: [1500] };

  it('are given back where nothing has changed', () => {
    expect(check(tree(creds(1500, [1500, 27])), now, false)).toBe('done');
    expect(check(tree(creds(1500, [1500, 27])), now, true)).toBe('done');
  });

  it('that the user has lost are root’s to give, and those that it never used are nobody’s matter', () => {
    const sentence = 'job acts with rights of a group in which alice no longer is: sudo.';
    expect(check(tree(creds(1500, [1500, 27])), lost, false)).toBe(`not-permitted: ${sentence}`);
    expect(check(tree(creds(1500, [1500, 27])), lost, true)).toEqual([sentence]);
    expect(check(tree(creds(1500, [1500])), lost, false)).toBe('done');
  });

  it('of another user are root’s to give', () => {
    const processes = tree(creds(1500, []), creds(0, []));
    expect(check(processes, now, false)).toBe(
      'not-permitted: job has a process that acts as another user (0).',
    );
    expect(check(processes, now, true)).toBe('done');
  });

  it('stay with a user who was removed, unless the number is another’s now', () => {
    expect(check(tree(creds(1500, [])), undefined, true)).toEqual([
      'The user of job, alice, no longer exists on this machine.',
    ]);
    const sentence = 'job belongs to alice, whose number 1500 is that of bob now.';
    expect(check(tree(creds(1500, [])), { name: 'bob', groups: [1500, 27] }, false)).toBe(
      `not-permitted: ${sentence}`,
    );
    expect(check(tree(creds(1500, [])), undefined, false, { ...alice, name: '1500' })).toBe('done');
  });
});

describe('pipes between members', () => {
  it('are those of which several have an end', () => {
    const holders = new Map([
      [1, new Set(['a'])],
      [2, new Set(['a', 'b', 'c'])],
      [3, new Set(['b', 'c'])],
    ]);
    expect([...pipesOf('a', holders)]).toEqual([[2, ['b', 'c']]]);
    expect([...pipesOf('b', holders)]).toEqual([
      [2, ['a', 'c']],
      [3, ['c']],
    ]);
  });

  it('come back where another member of the same session is there', () => {
    const session = { id: 's', members: ['a', 'b', 'c'].map((each) => ({ workload: each, name: each })) };
    const member = (workload: string, pipes: [number, string[]][], id = 's') => ({
      ...{ id: `${workload}-snapshot`, workload, session: { ...session, id } },
      sharedPipes: pipes.map(([inode, workloads]) => ({ inode, workloads })),
    });
    const a = member('a', [
      [2, ['b', 'c']],
      [4, ['c']],
    ]);
    const b = member('b', [[2, ['a', 'c']]]);
    expect(pipesTogether(a, [a, b])).toEqual([2]);
    expect(pipesTogether(a, [a, { ...b, session: { ...session, id: 'other' } }])).toEqual([]);
    expect(pipesTogether(a, [a])).toEqual([]);
    expect(pipesBroken(a, [a, b]).map(({ what }) => what)).toEqual([
      'It had a pipe to c, which was suspended at the same instant and is not resumed with it.',
    ]);
    expect(pipesBroken(b, [a, b])).toEqual([]);
    expect(pipesBroken({ id: 'x', workload: 'x' }, [])).toEqual([]);
  });

  it('that have a name may have one reader', () => {
    const fifo = (flags: number): Descriptor => ({
      ...{ kind: 'fifo', inode: { key: '1:2', bytes: 0, links: 1 }, fd: 3, target: '/tmp/fifo', flags },
      ...{ mount: 1, locked: false, unseen: false, leased: false },
    });
    const member = (name: string, ...flags: number[]) => ({
      name,
      facts: { processes: [{ descriptors: flags.map(fifo) }] } as unknown as Facts,
    });
    expect(codeOf(() => refuseTwoReaders([member('a', 0, 0), member('b', 1)]))).toBe('done');
    for (const flags of [0, 2])
      expect(codeOf(() => refuseTwoReaders([member('a', 0), member('b', flags)]))).toBe(
        'blocked: a and b cannot be suspended together: both read from the named pipe /tmp/fifo.',
      );
  });
});

describe('what waits in pipes', () => {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x54564319, 0);
  head.writeUInt32LE(imageMagic.pipeData, 4);
  // pipe_id 7, bytes 3, size 4096
  const entry = Buffer.from([0x08, 7, 0x10, 3, 0x18, 0x80, 0x20]);
  const length = Buffer.from([entry.length, 0, 0, 0]);

  it('is read with how much the pipe holds', () => {
    const image = Buffer.concat([head, length, entry, Buffer.from('abc')]);
    expect(readPipeContents(image)).toEqual([{ inode: 7, data: Buffer.from('abc'), capacity: 4096 }]);
  });

  it('is refused where the image is cut off', () => {
    expect(() => readPipeContents(Buffer.concat([head, length, entry, Buffer.from('ab')]))).toThrow(
      /cut off/,
    );
  });
});
