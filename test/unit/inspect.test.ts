/** The parts of the inspection that take data and return data: parsers of /proc, and rules about what cannot be made. */
import { describe, expect, test } from 'vitest';
import type { Descriptor, DescriptorKind, Facts, ProcessFacts } from '../../engine/inspect/facts.ts';
import { missingEnds } from '../../engine/inspect/outsiders.ts';
import { parseMounts, parseProcessLine } from '../../engine/inspect/proc.ts';
import { list, type Rule } from '../../engine/inspect/rule.ts';
import { formatAddress, joinEnds, parseInternetTable } from '../../engine/inspect/sockets.ts';
import { openFiles } from '../../engine/inspect/ties/open-files.ts';
import { pipes } from '../../engine/inspect/ties/pipes.ts';
import { space } from '../../engine/inspect/ties/space.ts';
import { strangers, stuck } from '../../engine/inspect/ties/strangers.ts';
import { sessions } from '../../engine/inspect/ties/terminals.ts';
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
  kernelThread: false,
  startTime: '1',
  terminal: undefined,
  tracer: 0,
  memoryBytes: 2 * mib,
  imageBytes: mib,
  namespaces: {},
  descriptors: [],
  mappings: [],
  ...more,
});

const factsOf = (more: Partial<Facts> = {}): Facts => ({
  processes: [processOf()],
  root: 12,
  isCapsule: true,
  strangers: [],
  unixSockets: new Map(),
  internetSockets: new Map(),
  mounts: new Map(),
  outsiders: new Map(),
  names: new Map(),
  privateFileBytes: 0,
  freeBytes: 1024 * mib,
  ...more,
});

const descriptorOf = (kind: DescriptorKind, more: Partial<Descriptor> = {}): Descriptor =>
  ({ fd: 3, target: 'it', flags: 0, mount: 1, locked: false, ...more, ...kind }) as Descriptor;

const sentences = (rule: Rule, facts: Facts) => rule(facts).map(({ verdict, what }) => `${verdict}: ${what}`);

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
      [27, { path: '/', type: 'ext4', device: '254:0' }],
      [90, { path: '/media/my disk\né', type: 'fuse.sshfs', device: '0:51' }],
    ]);
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
      [1, { path: '/', type: 'virtiofs', removable: false }],
      [2, { path: '/net', type: 'nfs4', removable: false }],
      [3, { path: '/media/key', type: 'ext4', removable: true }],
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
    const socket = { inode: 5, type: 'stream', state: 'established', peer: 6 };
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
      unixSockets: new Map([[5, { inode: 5, type: 'stream', state: 'established', peer: 6, path: '' }]]),
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
});
