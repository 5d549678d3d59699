/** The kernel's tables of sockets, by inode. */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { TorporError } from '../../api/errors.ts';
import { runCommand } from '../command.ts';
import type { InternetSocket, NetlinkSocket, UnixSocket } from './facts.ts';
import { namespaceOf } from './proc.ts';

/**
 * All unix sockets of the network namespace that this process is in.
 * @throws TorporError `failed` where the table cannot be read: without it, no finding means nothing.
 */
export async function readUnixSockets(sockdiag: string, pid: number): Promise<Map<number, UnixSocket>> {
  const namespace = namespaceOf(pid, 'net');
  // Of a process that has ended there is nothing to be asked.
  if (namespace === undefined) return new Map();
  const isOurs = namespace === namespaceOf(process.pid, 'net');
  const enter = isOurs ? [] : ['nsenter', `--net=/proc/${pid}/ns/net`, '--'];
  const [program = sockdiag, ...args] = [...enter, sockdiag];
  const { status, stdout, stderr } = await runCommand(program, args);
  if (status !== 0) {
    throw new TorporError(
      'failed',
      `The unix sockets of this machine cannot be listed: ${stderr.trim() || `status ${status}`}.`,
      'Load the kernel module unix_diag: `modprobe unix_diag`.',
    );
  }
  const sockets = stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as UnixSocket);
  return new Map(sockets.map((socket) => [socket.inode, socket]));
}

const internetTables = ['tcp', 'tcp6', 'udp', 'udp6', 'udplite', 'udplite6', 'raw', 'raw6', 'icmp', 'icmp6'];
/** Values of /proc/net/tcp's `st`, from the kernel's tcp_states.h. */
const tcpEstablished = 1;
const tcpListen = 10;
/** TIME_WAIT and CLOSE: nobody's, or not connected. */
const tcpIdle = new Set([6, 7]);

/** Addresses in /proc/net/tcp are hexadecimal words in the machine's order: `0100007F:0050`. */
export function formatAddress(hex: string): string {
  const [address = '', port = '0'] = hex.split(':');
  const bytes = (address.match(/.{8}/g) ?? []).flatMap((word) =>
    (word.match(/../g) ?? []).reverse().map((byte) => Number.parseInt(byte, 16)),
  );
  return `${formatHost(bytes)}:${Number.parseInt(port, 16)}`;
}

/** An address by its bytes, in the network's order. */
export function formatHost(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join('.');
  const isMapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  if (isMapped) return bytes.slice(12).join('.');
  const groups = Array.from({ length: 8 }, (_, index) =>
    (((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0)).toString(16),
  );
  // As RFC 5952 has it: the first of the longest runs of zeros is left out.
  let [start, length] = [0, 1];
  for (let from = 0; from < groups.length; from++) {
    let to = from;
    while (groups[to] === '0') to++;
    if (to - from > length) [start, length] = [from, to - from];
  }
  if (length === 1) return `[${groups.join(':')}]`;
  return `[${groups.slice(0, start).join(':')}::${groups.slice(start + length).join(':')}]`;
}

/** Pure part of {@link readInternetSockets}. */
export function parseInternetTable(table: string, protocol: string): InternetSocket[] {
  return table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length > 9)
    .map((fields) => {
      const state = protocol.startsWith('tcp') ? Number.parseInt(fields[3] ?? '0', 16) : 0;
      const isListening = state === tcpListen;
      return {
        inode: Number(fields[9]),
        protocol,
        state: stateName(state),
        local: formatAddress(fields[1] ?? ''),
        remote: formatAddress(fields[2] ?? ''),
        waiting: isListening ? arrived(fields) : 0,
        peer: 0,
        unread: protocol.startsWith('tcp') ? 0 : arrived(fields),
      };
    });
}

function stateName(state: number): InternetSocket['state'] {
  if (state === tcpListen) return 'listening';
  if (state === tcpEstablished) return 'established';
  return state === 0 || tcpIdle.has(state) ? 'other' : 'open';
}

/** The second of `tx_queue:rx_queue`. */
const arrived = (fields: readonly string[]) => Number.parseInt(fields[4]?.split(':')[1] ?? '0', 16);

/** Pure part of {@link readNetlinkSockets}: /proc/net/netlink, of which proc(5) says nothing. */
export function parseNetlinkTable(table: string): NetlinkSocket[] {
  return table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length > 9)
    .map(([, protocol, port, groups, unread, , , , , inode]) => ({
      inode: Number(inode),
      protocol: Number(protocol),
      port: Number(port),
      groups: Number.parseInt(groups ?? '0', 16),
      unread: Number(unread),
    }));
}

/** The sockets to the kernel of the network namespace that this process is in. */
export async function readNetlinkSockets(pid: number): Promise<Map<number, NetlinkSocket>> {
  const table = await readFile(`/proc/${pid}/net/netlink`, 'latin1').catch(() => '');
  return new Map(parseNetlinkTable(table).map((socket) => [socket.inode, socket]));
}

/** Gives connections whose two ends are both in the table each other's inode. Pure. */
export function joinEnds(sockets: readonly InternetSocket[]): InternetSocket[] {
  const byEnds = new Map<string, number>();
  for (const { state, local, remote, inode } of sockets)
    if (state === 'established') byEnds.set(`${local} ${remote}`, inode);
  return sockets.map((socket) =>
    socket.state === 'established'
      ? { ...socket, peer: byEnds.get(`${socket.remote} ${socket.local}`) ?? 0 }
      : socket,
  );
}

/** The internet and packet sockets of the network namespace that this process is in. */
export async function readInternetSockets(pid: number): Promise<Map<number, InternetSocket>> {
  const read = (name: string) => readFile(`/proc/${pid}/net/${name}`, 'latin1').catch(() => '');
  const tables = await Promise.all(
    internetTables.map(async (name) => parseInternetTable(await read(name), name)),
  );
  const packet = (await read('packet')).split('\n').slice(1).filter(Boolean);
  const packets = packet.map((line): InternetSocket => {
    const inode = Number(line.trim().split(/\s+/)[8]);
    return {
      inode,
      protocol: 'packet',
      state: 'other',
      local: '',
      remote: '',
      waiting: 0,
      peer: 0,
      unread: 0,
    };
  });
  return new Map([...joinEnds(tables.flat()), ...packets].map((socket) => [socket.inode, socket]));
}

/** Whether root's group may have sockets for pings (icmp(7)). */
export function mayPing(): boolean {
  const [first] = readFileSync('/proc/sys/net/ipv4/ping_group_range', 'latin1').split(/\s+/);
  return first === '0';
}
