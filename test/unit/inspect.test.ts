/** The parts of the inspection that take data and return data: parsers of /proc, and rules about what cannot be made. */
import { describe, expect, test } from 'vitest';
import {
  type Descriptor,
  type DescriptorKind,
  type Facts,
  nothingHidden,
  type ProcessFacts,
} from '../../engine/inspect/facts.ts';
import { coverage, parseMounts } from '../../engine/inspect/mounts.ts';
import { missingEnds } from '../../engine/inspect/outsiders.ts';
import { parseProcessLine } from '../../engine/inspect/proc.ts';
import { list, type Rule } from '../../engine/inspect/rule.ts';
import {
  formatAddress,
  joinEnds,
  parseInternetTable,
  parseNetlinkTable,
} from '../../engine/inspect/sockets.ts';
import { internetSockets } from '../../engine/inspect/ties/internet-sockets.ts';
import { memory } from '../../engine/inspect/ties/memory.ts';
import { openFiles } from '../../engine/inspect/ties/open-files.ts';
import { otherSockets } from '../../engine/inspect/ties/other-sockets.ts';
import { pids } from '../../engine/inspect/ties/pids.ts';
import { pipes } from '../../engine/inspect/ties/pipes.ts';
import { processors } from '../../engine/inspect/ties/processors.ts';
import { protection } from '../../engine/inspect/ties/protection.ts';
import { sharedResources } from '../../engine/inspect/ties/shared-resources.ts';
import { space } from '../../engine/inspect/ties/space.ts';
import { strangers, stuck } from '../../engine/inspect/ties/strangers.ts';
import { sessions } from '../../engine/inspect/ties/terminals.ts';
import { tracing } from '../../engine/inspect/ties/tracing.ts';
import { unixSockets } from '../../engine/inspect/ties/unix-sockets.ts';

const mib = 1024 ** 2;

const processOf = (more: Partial<ProcessFacts> = {}): ProcessFacts => ({
  pid: 12,
  ppid: 1,
  session: 12,
  name: 'gimp',
  command: ['gimp'],
  uid: 1000,
  owners: [1000],
  state: 'S',
  threadsLeft: false,
  kernelThread: false,
  startTime: '1',
  terminal: undefined,
  tracer: 0,
  memoryBytes: 2 * mib,
  imageBytes: mib,
  lockedBytes: 0,
  hugeBytes: 0,
  timers: 0,
  seccomp: 'none',
  filters: 0,
  shadowStack: false,
  processors: '0-1',
  alarmClocks: false,
  namespaces: {},
  descriptors: [],
  mappings: [],
  folders: [],
  ...more,
});

const factsOf = (more: Partial<Facts> = {}): Facts => ({
  processes: [processOf()],
  root: 12,
  isCapsule: true,
  hasOwnPids: true,
  isContained: false,
  strangers: [],
  unixSockets: new Map(),
  internetSockets: new Map(),
  netlinkSockets: new Map(),
  processors: '0-1',
  mayPing: true,
  hidden: nothingHidden,
  memory: { available: 1024 * mib, total: 2048 * mib },
  mounts: new Map(),
  outsiders: new Map(),
  names: new Map(),
  privateFileBytes: 0,
  freeBytes: 1024 * mib,
  ...more,
});

const descriptorOf = (kind: DescriptorKind, more: Partial<Descriptor> = {}): Descriptor =>
  ({ fd: 3, target: 'it', flags: 0, mount: 1, locked: false, leased: false, ...more, ...kind }) as Descriptor;

const sentences = (rule: Rule, facts: Facts) => rule(facts).map(({ verdict, what }) => `${verdict}: ${what}`);

test('who traces it is named, but for a pager, and for one that has ended meanwhile', () => {
  const told = (tracer: number, names: [number, string][] = []) =>
    sentences(
      tracing,
      factsOf({ processes: [processOf({ tracer }), processOf({ pid: 13 })], names: new Map(names) }),
    );
  expect(told(99, [[99, 'gdb']])).toEqual([expect.stringMatching(/^blocking: gimp .*traced by .*gdb/)]);
  expect(told(13)).toHaveLength(1);
  expect(told(99, [[99, 'torpor-pager-t']])).toEqual([]);
  expect(told(99)).toEqual([]);
});

describe('what /proc says', () => {
  test('a name may look like the rest of the line', () => {
    const line = '7 (a) R 1 (b) S 3 4 5 34816 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 99 0';
    expect(parseProcessLine(line)).toEqual({
      name: 'a) R 1 (b',
      state: 'S',
      ppid: 3,
      session: 5,
      terminal: 34816,
      kernelThread: false,
      startTime: '99',
    });
    expect(parseProcessLine('2 (kthreadd) S 0 0 0 0 -1 2129984').kernelThread).toBe(true);
  });

  test('mounts with spaces and newlines in their names', () => {
    const mounts = parseMounts(
      [
        '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw',
        '90 27 0:51 / /media/my\\040disk\\012é rw,nosuid shared:3 master:1 - fuse.sshfs me@there: rw',
        '',
      ].join('\n'),
    );
    expect([...mounts]).toEqual([
      [27, { parent: 1, path: '/', type: 'ext4', device: '254:0' }],
      [90, { parent: 27, path: '/media/my disk\né', type: 'fuse.sshfs', device: '0:51' }],
    ]);
  });

  test('what has been mounted over is told from what lies beside it', () => {
    const isCovered = coverage(
      new Map([
        [1, { parent: 0, path: '/' }],
        [2, { parent: 1, path: '/a/b' }],
        [3, { parent: 2, path: '/a/b' }],
        [4, { parent: 1, path: '/c' }],
        [5, { parent: 4, path: '/c/d' }],
        [6, { parent: 1, path: '/c/d' }],
      ]),
    );
    expect([isCovered(1, '/a'), isCovered(1, '/a/bc'), isCovered(1, '/a/b/file')]).toEqual([
      false,
      false,
      true,
    ]);
    expect([isCovered(2, '/a/b/file'), isCovered(3, '/a/b/file')]).toEqual([true, false]);
    expect([isCovered(4, '/c/file'), isCovered(5, '/c/d/file')]).toEqual([false, false]);
    expect([isCovered(4, '/c/d/file'), isCovered(99, '/c')]).toEqual([true, false]);
  });

  test.each([
    ['0100007F:0050', '127.0.0.1:80'],
    ['0000000000000000FFFF00000100007F:1F90', '127.0.0.1:8080'],
    ['00000000000000000000000001000000:0016', '[::1]:22'],
    ['00000000000000000000000000000000:0000', '[::]:0'],
    ['B80D01200000000067452301EFCDAB89:01BB', '[2001:db8::123:4567:89ab:cdef]:443'],
    ['000080FE00000000FF57A6705EC3A2FE:0001', '[fe80::70a6:57ff:fea2:c35e]:1'],
  ])('address %s', (hex, address) => {
    expect(formatAddress(hex)).toBe(address);
  });

  test('the two ends of a connection within the machine find each other, also across families', () => {
    const head = '  sl  local_address rem_address   st tx_queue rx_queue\n';
    const tail = '00:00000000 00000000     0        0';
    const tcp = `${head}   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 ${tail} 11 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000002 ${tail} 12 1
   2: 0100007F:AAAA 08080808:0035 01 00000000:00000000 ${tail} 13 1
`;
    const tcp6 = `${head}   0: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 ${tail} 21 1
`;
    const sockets = joinEnds([...parseInternetTable(tcp, 'tcp'), ...parseInternetTable(tcp6, 'tcp6')]);
    expect(sockets.map(({ inode, state, waiting, peer }) => [inode, state, waiting, peer])).toEqual([
      [11, 'established', 0, 21],
      [12, 'listening', 2, 0],
      [13, 'established', 0, 0],
      [21, 'established', 0, 11],
    ]);
  });
});

describe('tables of sockets', () => {
  test('a socket to the kernel, and a line that is none', () => {
    const table = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000030bf8c4f 0   30289      00000113 64       0        0     2        0        10715083
cut short
`;
    expect(parseNetlinkTable(table)).toEqual([
      { inode: 10715083, protocol: 0, port: 30289, groups: 0x113, unread: 64 },
    ]);
    expect(parseNetlinkTable('')).toEqual([]);
  });

  test('connections by their state, and what has arrived at others', () => {
    const line = (state: string, queues: string, inode: number) =>
      `   0: 0100007F:1F90 0100007F:C350 ${state} ${queues} 00:00000000 00000000     0        0 ${inode} 1`;
    const of = (protocol: string, ...lines: string[]) =>
      parseInternetTable(['head', ...lines].join('\n'), protocol).map(({ state, unread }) => [state, unread]);
    const idle = '00000000:00000000';
    const states = ['01', '02', '03', '04', '06', '07', '08', '0A'].map((state) => line(state, idle, 1));
    expect(of('tcp', ...states).map(([state]) => state)).toEqual([
      'established',
      ...['open', 'open', 'open'],
      ...['other', 'other'],
      'open',
      'listening',
    ]);
    expect(of('udp', line('07', '00000000:00000300', 1))).toEqual([['other', 0x300]]);
    expect(of('tcp', line('01', '00000000:00000300', 1))).toEqual([['established', 0]]);
  });
});

describe('ends that are missing', () => {
  test('of pipes, sockets and terminals, but not those inside', () => {
    const process = processOf({
      terminal: '9#4',
      descriptors: [
        descriptorOf({ kind: 'pipe', inode: 1 }, { flags: 0, target: 'pipe:[1]' }),
        descriptorOf({ kind: 'pipe', inode: 2 }, { flags: 0, target: 'pipe:[2]' }),
        descriptorOf({ kind: 'pipe', inode: 2 }, { flags: 1, target: 'pipe:[2]' }),
        descriptorOf({ kind: 'pipe', inode: 3 }, { flags: 2, target: 'pipe:[3]' }),
        descriptorOf({ kind: 'socket', inode: 5 }),
        descriptorOf({ kind: 'socket', inode: 6 }),
        descriptorOf({ kind: 'socket', inode: 7 }),
        descriptorOf({ kind: 'terminal', end: 'master', key: '9#5' }),
        descriptorOf({ kind: 'terminal', end: 'slave', key: '9#5' }),
      ],
    });
    const unix = new Map([
      [5, { peer: 6 }],
      [6, { peer: 5 }],
      [7, { peer: 8 }],
    ]);
    expect([...missingEnds([process], unix, new Map())]).toEqual([
      ['pipe:1', 'pipe:[1]'],
      ['socket:8', 'socket:[8]'],
      ['master:9#4', ''],
    ]);
  });
});

describe('rules', () => {
  test('file systems that may be away, but not the root', () => {
    const mounts = new Map([
      [1, { parent: 0, path: '/', type: 'virtiofs', device: '0:1', removable: false }],
      [2, { parent: 1, path: '/net', type: 'nfs4', device: '0:2', removable: false }],
      [3, { parent: 1, path: '/media/key', type: 'ext4', device: '8:1', removable: true }],
    ]);
    const open = [1, 2, 3].map((mount) =>
      descriptorOf({ kind: 'other' }, { mount, target: `${mounts.get(mount)?.path}/a file` }),
    );
    const facts = factsOf({ mounts, processes: [processOf({ descriptors: open })] });
    expect(sentences(openFiles, facts)).toEqual([
      'degraded: gimp (pid 12) has /net/a file (nfs4), /media/key/a file (removable disk) open, on a file system that may not be there at the resume.',
    ]);
  });

  test('long lists are cut', () => {
    expect(list(['a', 'b'])).toBe('a, b');
    expect(list(['a', 'b', 'c', 'd', 'e', 'f', 'g'])).toBe('a, b, c, d, e and 2 more');
  });

  test('room on the disk: memory, private files and what is fixed', () => {
    expect(sentences(space, factsOf({ privateFileBytes: 3 * mib, freeBytes: 36 * mib }))).toEqual([
      'handled: It needs up to 36 MiB of disk; 36 MiB are free.',
    ]);
    const [tooLittle] = space(factsOf({ privateFileBytes: 3 * mib, freeBytes: 36 * mib - 1 }));
    expect(tooLittle).toMatchObject({ tie: 'disk', verdict: 'blocking' });
    expect(tooLittle?.hint).toContain('torpor rm');
  });

  test('a viewer of the screen is cut by the engine; another peer blocks', () => {
    const descriptors = [descriptorOf({ kind: 'socket', inode: 5 })];
    const socket = { inode: 5, type: 'stream', state: 'established', peer: 6, unsent: 0, waiting: [] };
    const at = (path: string, isCapsule = true) =>
      factsOf({
        isCapsule,
        processes: [processOf({ name: 'Xvnc', descriptors })],
        unixSockets: new Map([[5, { ...socket, path }]]),
        outsiders: new Map([['socket:6', { pid: 812, name: 'viewer' }]]),
      });
    expect(unixSockets(at('/run/torpor/screen/rfb'))).toMatchObject([{ verdict: 'handled', by: 'engine' }]);
    const sentence = (path: string) =>
      `blocking: Xvnc (pid 12) talks to viewer (pid 812) at ${path} over a unix socket.`;
    expect(sentences(unixSockets, at('/home/me/rfb'))).toEqual([sentence('/home/me/rfb')]);
    expect(sentences(unixSockets, at('/run/torpor/screen/rfb', false))).toEqual([
      sentence('/run/torpor/screen/rfb'),
    ]);
  });

  test('of what a stranger has an end of, only the stranger is told', () => {
    const stranger = { pid: 99, name: 'xdotool' };
    const facts = factsOf({
      strangers: [stranger],
      processes: [
        processOf({
          descriptors: [descriptorOf({ kind: 'pipe', inode: 1 }), descriptorOf({ kind: 'socket', inode: 5 })],
        }),
      ],
      unixSockets: new Map([
        [5, { inode: 5, type: 'stream', state: 'established', peer: 6, path: '', unsent: 0, waiting: [] }],
      ]),
      outsiders: new Map([
        ['pipe:1', stranger],
        ['socket:6', stranger],
      ]),
    });
    expect([...pipes(facts), ...unixSockets(facts)]).toEqual([]);
    expect(sentences(strangers, facts)).toEqual([
      'blocking: xdotool (pid 99), started by `torpor exec`, still runs in it.',
    ]);
  });

  test('a session whose leader has ended is nobody else’s', () => {
    const processes = [processOf({ session: 7 })];
    expect(sessions(factsOf({ processes }))).toEqual([]);
    expect(sentences(sessions, factsOf({ processes, names: new Map([[7, 'bash']]) }))).toEqual([
      'blocking: gimp (pid 12) belongs to a session that bash (pid 7) leads, which is outside.',
    ]);
  });

  test('a process that waits for a disk', () => {
    expect(stuck(factsOf())).toEqual([]);
    expect(sentences(stuck, factsOf({ processes: [processOf({ state: 'D' })] }))[0]).toMatch(
      /^blocking: gimp/,
    );
  });

  const withSocket = (more: Partial<Facts>) =>
    factsOf({
      processes: [processOf({ descriptors: [descriptorOf({ kind: 'socket', inode: 5 })] })],
      ...more,
    });

  test.each([
    ['MPTCP', /multipath TCP/],
    ['AF_VSOCK', /vsock/],
    ['ALG', /AF_ALG/],
    ['XDP', /of the kind XDP/],
  ])('a socket of the protocol %s blocks', (protocol, words) => {
    const facts = withSocket({ hidden: { ...nothingHidden, protocols: new Map([[5, protocol]]) } });
    const [finding] = otherSockets(facts);
    expect(finding).toMatchObject({ tie: 'socket', verdict: 'blocking', what: expect.stringMatching(words) });
    expect(finding?.hint).not.toBe('');
  });

  test.each(['TCP', 'TCPv6', 'UDP', 'UNIX', 'UNIX-STREAM', 'NETLINK', 'PACKET', 'RAW', 'PING'])(
    'a socket of the protocol %s is known',
    (protocol) => {
      const facts = withSocket({ hidden: { ...nothingHidden, protocols: new Map([[5, protocol]]) } });
      expect(otherSockets(facts)).toEqual([]);
    },
  );

  test('news from the kernel at a socket without an address', () => {
    const socket = { inode: 5, protocol: 0, port: 0, groups: 1, unread: 0 };
    const of = (more: Partial<typeof socket>) =>
      otherSockets(withSocket({ netlinkSockets: new Map([[5, { ...socket, ...more }]]) })).map(
        ({ verdict }) => verdict,
      );
    expect(of({})).toEqual(['blocking']);
    expect(of({ port: 7 })).toEqual([]);
    expect(of({ groups: 0 })).toEqual([]);
    expect(of({ groups: 0, unread: 1 })).toEqual(['blocking']);
  });

  test('a socket for pings needs leave', () => {
    const socket = {
      inode: 5,
      protocol: 'icmp',
      state: 'other',
      local: '',
      remote: '',
      waiting: 0,
      peer: 0,
      unread: 0,
    };
    const verdicts = (mayPing: boolean) =>
      internetSockets(
        withSocket({ mayPing, internetSockets: new Map([[5, { ...socket, state: 'other' as const }]]) }),
      ).map(({ verdict }) => verdict);
    expect([verdicts(true), verdicts(false)]).toEqual([['handled'], ['blocking']]);
  });

  test('memory to come back to: what is free and what it has itself', () => {
    const of = (available: number) =>
      memory(
        factsOf({ memory: { available, total: 64 * mib }, processes: [processOf({ imageBytes: 10 * mib })] }),
      )[0];
    expect(of(8 * mib)).toMatchObject({ verdict: 'handled', by: 'engine' });
    const scarce = of(8 * mib - 1);
    expect(scarce).toMatchObject({ tie: 'memory', verdict: 'degraded' });
    expect(scarce?.what).toBe('Its resume needs up to 10 MiB of memory; 10 MiB would be free now.');
    expect(scarce?.hint).toContain('Close something');
  });

  test('process numbers are nobody else’s in a pid namespace', () => {
    expect(pids(factsOf())).toEqual([]);
    expect(pids(factsOf({ isCapsule: false, hasOwnPids: true }))).toEqual([]);
    expect(sentences(pids, factsOf({ isCapsule: false, hasOwnPids: false }))).toEqual([
      'handled: Its process number is 12, which others may have at the resume.',
    ]);
  });

  test('of a capsule, its own filter of system calls is nothing to speak of', () => {
    const below = [12, 13, 14].map((pid, index) =>
      processOf({ pid, seccomp: 'filter', filters: index === 2 ? 3 : index }),
    );
    expect(sentences(protection, factsOf({ processes: below }))).toEqual([
      'handled: gimp (pid 14) has given up some system calls (seccomp); it stays that way.',
    ]);
    expect(protection(factsOf({ isCapsule: false, processes: below }))).toHaveLength(2);
    expect(protection(factsOf({ processes: [processOf({ seccomp: 'strict' })] }))).toHaveLength(1);
    expect(protection(factsOf({ processes: [processOf({ shadowStack: true })] }))).toMatchObject([
      { tie: 'processor', verdict: 'handled' },
    ]);
  });

  test('the processor is told of where it matters', () => {
    const of = (more: Partial<ProcessFacts>) =>
      processors(factsOf({ processes: [processOf(more)] })).map(({ verdict }) => verdict);
    expect(of({})).toEqual([]);
    expect(of({ processors: '1' })).toEqual(['degraded']);
  });

  test('memory in common blocks wherever the other is; what is copied is different afterwards', () => {
    const outsider = { pid: 99, ppid: 1, name: 'make' };
    const of = (what: 'memory' | 'descriptors' | 'folder' | 'handlers', other: typeof outsider | number) =>
      sharedResources(factsOf({ hidden: { ...nothingHidden, shared: [{ what, pid: 12, other }] } })).map(
        ({ verdict }) => verdict,
      );
    expect([of('memory', outsider), of('memory', 12), of('folder', 12)]).toEqual([
      ['blocking'],
      ['blocking'],
      ['blocking'],
    ]);
    expect([of('folder', outsider), of('descriptors', outsider), of('handlers', outsider)]).toEqual([
      ['degraded'],
      ['degraded'],
      ['degraded'],
    ]);
    expect(of('descriptors', 12)).toEqual([]);
  });
});
