/**
 * The plan that CRIU's plugin (native/criu-plugin) works by: what is to become of each unix socket whose other end is
 * not in the checkpoint. A file of lines; its path is in the environment of that one CRIU. The plugin writes how it went
 * over the first four characters of each line, from whichever of CRIU's processes makes the socket.
 */
import { getSystemErrorName } from 'node:util';

export type SocketType = 'stream' | 'datagram' | 'seqpacket';

/** Who a socket belongs to: it is made and connected as that user. */
export interface SocketUser {
  uid: number;
  gid: number;
  groups: readonly number[];
}

interface PlannedCommon {
  inode: number;
  type: SocketType;
  user: SocketUser;
  /** The name of a datagram socket, as bind(2) takes it, and the permissions of its file. */
  own: { name: Buffer; mode: number } | undefined;
}

export type PlannedSocket = PlannedCommon &
  (
    | { action: 'hang-up'; unread: readonly Buffer[] }
    | { action: 'reconnect'; address: Buffer; unread: readonly Buffer[] }
    /** As soon as there is somebody at the address, who is just being restored by another CRIU. */
    | { action: 'meet'; address: Buffer; unread: readonly Buffer[] }
    /** An end of ours, by the descriptor in CRIU's process. What it has to read is in its queue already. */
    | { action: 'given'; fd: number }
  );

/** How it went with one socket at a restore. */
export type SocketOutcome =
  | { kind: 'done' }
  /** Presented as hung up instead, for this errno's name. */
  | { kind: 'not-connected'; errno: string }
  /** CRIU did not come to it. */
  | { kind: 'pending' };

/** socket(2), the same on every architecture Torpor runs on. */
const typeNumbers: Record<SocketType, number> = { stream: 1, datagram: 2, seqpacket: 5 };

const pending = '----';
const done = 'done';

/** At a dump the plugin only lets CRIU take what it finds: these sockets, and all others or none. */
export function encodeDumpPlan(
  others: 'block' | 'hang-up' | 'reconnect',
  inodes: Iterable<number> = [],
): string {
  const line = (inode: number, decision: string) =>
    `${pending} ${inode} ${decision} ${typeNumbers.stream} 0 0 - - 0 - 0\n`;
  return line(0, others) + Array.from(inodes, (inode) => line(inode, 'hang-up')).join('');
}

export function encodeRestorePlan(sockets: readonly PlannedSocket[]): string {
  return sockets.map(encodeSocket).join('');
}

function encodeSocket(socket: PlannedSocket): string {
  const { inode, action, type, user, own } = socket;
  const packets = action === 'given' ? [] : socket.unread;
  const words = [
    ...[pending, inode, action, typeNumbers[type], user.uid, user.gid],
    user.groups.length === 0 ? '-' : user.groups.join(','),
    own === undefined ? '-' : own.name.toString('hex'),
    ((own?.mode ?? 0) & 0o7777).toString(8),
    action === 'reconnect' || action === 'meet' ? socket.address.toString('hex') : '-',
    action === 'given' ? socket.fd : 0,
  ];
  const lines = [words.join(' '), ...packets.map((packet) => `packet ${packet.toString('hex')}`)];
  return lines.map((line) => `${line}\n`).join('');
}

/** What the plugin has written into a plan, by inode. */
export function readOutcomes(plan: string): Map<number, SocketOutcome> {
  const lines = plan.split('\n').filter((line) => line !== '' && !line.startsWith('packet '));
  return new Map(
    lines.map((line) => {
      const [outcome = '', inode] = line.split(' ');
      return [Number(inode), outcomeOf(outcome)];
    }),
  );
}

function outcomeOf(word: string): SocketOutcome {
  if (word === done) return { kind: 'done' };
  const errno = Number(/^E(\d{3})$/.exec(word)?.[1] ?? 0);
  return errno === 0 ? { kind: 'pending' } : { kind: 'not-connected', errno: getSystemErrorName(-errno) };
}
