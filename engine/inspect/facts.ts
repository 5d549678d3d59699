/**
 * What is known of a process tree, gathered once from /proc (proc(5)) and the kernel's socket tables, and handed to the
 * rules in `ties/` as plain data. A process that ends while it is read is left out.
 */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { runCommand } from '../command.ts';
import { type Mount, parseMountinfo } from '../mounts.ts';

export interface Descriptor {
  fd: number;
  /** As readlink gives it: a path, or `socket:[123]`, `pipe:[123]`, `anon_inode:[eventpoll]` and the like. */
  target: string;
  /** Flags of open(2), known for pipes only. */
  flags?: number;
  /** Bytes on disk, known for deleted files only. */
  deletedBytes?: number;
}

export interface ProcessFacts {
  pid: number;
  ppid: number;
  name: string;
  command: string[];
  uid: number;
  /** One letter, as in /proc/PID/stat. */
  state: string;
  kernelThread: boolean;
  /** Device number of the controlling terminal, 0 where there is none. */
  terminal: number;
  /** Pid of the process that traces it, or 0. */
  tracer: number;
  /** Proportional set size in bytes. */
  memoryBytes: number;
  /** Namespace links by name, such as `pid:[4026531836]`. */
  namespaces: Readonly<Record<string, string>>;
  descriptors: Descriptor[];
  /** Paths below /dev that are mapped. */
  mappedDevices: string[];
}

export interface UnixSocket {
  inode: number;
  type: string;
  state: string;
  /** Inode of the other end, or 0. */
  peer: number;
  path: string;
}

export interface InternetSocket {
  inode: number;
  protocol: string;
  state: 'established' | 'listening' | 'other';
  local: string;
  remote: string;
}

/** A process outside of the tree that has an end of something inside. */
export interface Outsider {
  pid: number;
  name: string;
}

export interface Facts {
  processes: ProcessFacts[];
  /** The top of the tree: a capsule's init, or the process that was named. */
  root: number;
  isCapsule: boolean;
  unixSockets: ReadonlyMap<number, UnixSocket>;
  internetSockets: ReadonlyMap<number, InternetSocket>;
  /** Pids that hold file locks. */
  lockHolders: ReadonlySet<number>;
  mounts: readonly Mount[];
  /** By inode of a socket or pipe: who outside has it, or its other end. */
  outsiders: ReadonlyMap<number, Outsider>;
  /** At the state folder. */
  freeBytes: number;
}

const namespaceNames = ['pid', 'ipc', 'user', 'net', 'cgroup', 'time'];
const kernelThreadFlag = 0x0020_0000;

const text = (path: string) => readFile(path, 'utf8');

/** Facts of one process; undefined where it has gone. */
export async function readProcess(pid: number): Promise<ProcessFacts | undefined> {
  const folder = `/proc/${pid}`;
  try {
    const [line, status, command, rollup, maps, namespaces, descriptors] = await Promise.all([
      text(`${folder}/stat`),
      text(`${folder}/status`),
      text(`${folder}/cmdline`),
      text(`${folder}/smaps_rollup`).catch(() => ''),
      text(`${folder}/maps`).catch(() => ''),
      readNamespaces(folder),
      readDescriptors(folder),
    ]);
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
    const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? '';
    return {
      pid,
      ppid: Number(fields[1]),
      name: line.slice(line.indexOf('(') + 1, line.lastIndexOf(')')),
      command: command.split('\0').slice(0, -1),
      uid: Number(field('Uid')),
      state: fields[0] ?? '',
      kernelThread: (Number(fields[6]) & kernelThreadFlag) !== 0,
      terminal: Number(fields[4]),
      tracer: Number(field('TracerPid')),
      memoryBytes: Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0) * 1024,
      namespaces,
      descriptors,
      mappedDevices: [
        ...new Set([...maps.matchAll(/ (\/dev\/(?!shm\/).*)$/gm)].map((match) => match[1] ?? '')),
      ],
    };
  } catch {
    return undefined;
  }
}

async function readNamespaces(folder: string): Promise<Record<string, string>> {
  const links = await Promise.all(
    namespaceNames.map(
      async (name) => [name, await readlink(`${folder}/ns/${name}`).catch(() => '')] as const,
    ),
  );
  return Object.fromEntries(links);
}

async function readDescriptors(folder: string): Promise<Descriptor[]> {
  const numbers = await readdir(`${folder}/fd`).catch(() => []);
  const all = await Promise.all(numbers.map((fd) => readDescriptor(folder, fd)));
  return all.filter((each) => each !== undefined);
}

async function readDescriptor(folder: string, fd: string): Promise<Descriptor | undefined> {
  const target = await readlink(`${folder}/fd/${fd}`).catch(() => undefined);
  if (target === undefined) return undefined;
  if (target.startsWith('pipe:')) {
    const info = await text(`${folder}/fdinfo/${fd}`).catch(() => '');
    return { fd: Number(fd), target, flags: Number.parseInt(/^flags:\s+(\d+)/m.exec(info)?.[1] ?? '0', 8) };
  }
  if (target.startsWith('/') && target.endsWith(' (deleted)')) {
    const found = await stat(`${folder}/fd/${fd}`).catch(() => undefined);
    return { fd: Number(fd), target, deletedBytes: found?.size ?? 0 };
  }
  return { fd: Number(fd), target };
}

/** The process and all below it, parents first. */
export async function treeBelow(pid: number): Promise<number[]> {
  const tasks = await readdir(`/proc/${pid}/task`).catch(() => []);
  const lists = await Promise.all(
    tasks.map((task) => text(`/proc/${pid}/task/${task}/children`).catch(() => '')),
  );
  const children = lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
  return [pid, ...(await Promise.all(children.map(treeBelow))).flat()];
}

/** The inode in `socket:[123]` or `pipe:[123]`. */
export function inodeOf(target: string, kind: 'socket' | 'pipe'): number | undefined {
  const inode = new RegExp(`^${kind}:\\[(\\d+)\\]$`).exec(target)?.[1];
  return inode === undefined ? undefined : Number(inode);
}

/** All unix sockets of this network namespace, by inode. */
export async function readUnixSockets(sockdiag: string): Promise<Map<number, UnixSocket>> {
  const { stdout } = await runCommand(sockdiag, []);
  const sockets = stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as UnixSocket);
  return new Map(sockets.map((socket) => [socket.inode, socket]));
}

const internetTables = ['tcp', 'tcp6', 'udp', 'udp6', 'udplite', 'raw', 'raw6', 'icmp', 'icmp6'];
/** Values of /proc/net/tcp's `st`, from the kernel's tcp_states.h. */
const tcpEstablished = 1;
const tcpListen = 10;

/** Addresses in /proc/net/tcp are hexadecimal words in the machine's order: `0100007F:0050`. */
export function formatAddress(hex: string): string {
  const [address = '', port = '0'] = hex.split(':');
  const bytes = (address.match(/.{8}/g) ?? []).flatMap((word) => (word.match(/../g) ?? []).reverse());
  const host =
    bytes.length === 4
      ? bytes.map((byte) => Number.parseInt(byte, 16)).join('.')
      : `[${bytes
          .join('')
          .replace(/(.{4})(?=.)/g, '$1:')
          .replace(/\b0+(?=[0-9a-f])/gi, '')
          .toLowerCase()}]`;
  return `${host}:${Number.parseInt(port, 16)}`;
}

/** Pure part of {@link readInternetSockets}. */
export function parseInternetTable(table: string, protocol: string): InternetSocket[] {
  return table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length > 9)
    .map((fields) => {
      const state = Number.parseInt(fields[3] ?? '0', 16);
      const tcp = protocol.startsWith('tcp');
      return {
        inode: Number(fields[9]),
        protocol,
        state:
          tcp && state === tcpListen
            ? 'listening'
            : tcp && state === tcpEstablished
              ? 'established'
              : 'other',
        local: formatAddress(fields[1] ?? ''),
        remote: formatAddress(fields[2] ?? ''),
      };
    });
}

/** The internet and packet sockets of the network namespace that this process is in, by inode. */
export async function readInternetSockets(pid: number): Promise<Map<number, InternetSocket>> {
  const tables = await Promise.all(
    internetTables.map(async (name) =>
      parseInternetTable(await text(`/proc/${pid}/net/${name}`).catch(() => ''), name),
    ),
  );
  const packet = (await text(`/proc/${pid}/net/packet`).catch(() => '')).split('\n').slice(1).filter(Boolean);
  const packets = packet.map((line): InternetSocket => {
    const inode = Number(line.trim().split(/\s+/)[8]);
    return { inode, protocol: 'packet', state: 'other', local: '', remote: '' };
  });
  return new Map([...tables.flat(), ...packets].map((socket) => [socket.inode, socket]));
}

/** Pids that hold locks, as the reader's pid namespace counts them. */
export async function readLockHolders(): Promise<Set<number>> {
  const lines = (await text('/proc/locks')).split('\n').filter(Boolean);
  return new Set(lines.map((line) => Number(line.trim().split(/\s+/)[4])));
}

export async function readMountsOf(pid: number): Promise<Mount[]> {
  return parseMountinfo(await text(`/proc/${pid}/mountinfo`).catch(() => ''));
}

/**
 * Who outside of the tree has one of these sockets or pipes open. Looks through all processes, so it is asked only
 * where an end is known to be missing inside.
 */
export async function findOutsiders(
  wanted: ReadonlySet<number>,
  inside: ReadonlySet<number>,
): Promise<Map<number, Outsider>> {
  const found = new Map<number, Outsider>();
  if (wanted.size === 0) return found;
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  await Promise.all(
    pids
      .filter((pid) => !inside.has(pid))
      .map(async (pid) => {
        const numbers = await readdir(`/proc/${pid}/fd`).catch(() => []);
        const targets = await Promise.all(
          numbers.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')),
        );
        const inodes = targets.map((target) => inodeOf(target, 'socket') ?? inodeOf(target, 'pipe'));
        const hits = inodes.filter((inode) => inode !== undefined && wanted.has(inode));
        if (hits.length === 0) return;
        const name = (await text(`/proc/${pid}/comm`).catch(() => '?')).trim();
        for (const inode of hits)
          if (inode !== undefined && !found.has(inode)) found.set(inode, { pid, name });
      }),
  );
  return found;
}
