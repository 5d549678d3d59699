/**
 * What is to become of unix sockets whose other end is outside of a workload. The user chooses: `block`, since nobody here
 * knows what a protocol makes of a new connection; `reconnect`, a new connection to the same address; `hang-up`, as if
 * the other side had closed. Where the user has not chosen, known services have a decision of their own (services.ts), and
 * all others block. A socket that cannot be connected again, because its other end has no name or is itself the one
 * that connected, is hung up under `reconnect`, too. A datagram socket has no connection that could be missed: it is
 * connected again unless the user has chosen otherwise.
 */
import { TorporError } from '../../api/errors.ts';
import type { Finding, SocketChoice } from '../../api/types.ts';
import type { BusSocket, DecidedSocket } from '../../proto/manifest.ts';
import { MomentaryError } from '../momentary.ts';
import type { SocketsBetween } from './between.ts';
import {
  areWholeMessages,
  type BusLine,
  busStateOf,
  degraded,
  type Learnt,
  rulesUnknown,
} from './buslines.ts';
import type { ExternalSocket, SocketsOutside } from './external.ts';

export interface Decisions {
  sockets: DecidedSocket[];
  findings: Finding[];
}

/** What becomes of sockets that need no choice of the user's, by inode. */
export type UsualDecision = 'reconnect' | 'hang-up' | BusLine;
export type UsualDecisions = ReadonlyMap<number, UsualDecision>;

/** An address for people: a path, or `@` and an abstract name; empty where there is none. */
export function addressText(address: Buffer): string {
  if (address.length === 0) return '';
  if (address[0] === 0) return `@${address.toString('utf8', 1).replaceAll('\0', '@')}`;
  return address.toString('utf8').replace(/\0.*$/s, '');
}

/**
 * Decides on every socket of a checkpoint. Pure.
 * @param isThere whether something takes connections at this address, as the workload sees it.
 * @param between those whose other end is suspended at the same instant: they are connected to each other again.
 * @param usual where the user has chosen `block`, or nothing.
 * @param learnt of each bus, by where it listens.
 * @throws MomentaryError where no decision would keep what is under way.
 */
export function decide(
  name: string,
  { external, waiting }: SocketsOutside,
  choice: SocketChoice,
  isThere: (address: Buffer) => boolean,
  between: SocketsBetween = new Map(),
  usual: UsualDecisions = new Map(),
  learnt: ReadonlyMap<string, Learnt> = new Map(),
): Decisions {
  refuseWhatCannotBeKept(name, external, waiting);
  const findings: Finding[] = [];
  const sockets = external.map((socket): DecidedSocket => {
    const { inode, address } = socket;
    const partner = between.get(inode);
    if (partner !== undefined) return { inode, decision: 'session', ...partner };
    const chosen = choice === 'block' ? (usual.get(inode) ?? 'reconnect') : choice;
    if (typeof chosen === 'object') {
      const decided = decideBus(name, socket, chosen, learnt.get(chosen.path));
      if (!decided.rulesKnown) findings.push(rulesUnknown(whose(socket), chosen.path));
      return decided;
    }
    if (chosen === 'hang-up') return { inode, decision: 'hang-up' };
    if (address.length === 0 || !isThere(address)) {
      if (address.length > 0) findings.push(notThere(socket));
      return { inode, decision: 'hang-up' };
    }
    const lost = bytesLost(socket);
    // Of what is asked and answers, this is an answer: it must get that rather than wait for it on a new connection.
    if (lost > 0 && choice === 'block') {
      findings.push(answered(socket));
      return { inode, decision: 'hang-up' };
    }
    if (lost > 0) findings.push(unreadLost(socket, lost));
    return { inode, decision: 'reconnect' };
  });
  return { sockets, findings };
}

function decideBus(
  name: string,
  { inode, unread }: ExternalSocket,
  line: BusLine,
  learnt?: Learnt,
): BusSocket {
  if (!areWholeMessages(Buffer.concat(unread)))
    throw new MomentaryError(`${name} cannot be suspended now: it is just being sent something by its bus.`);
  const state = learnt && busStateOf(line, learnt);
  if (state !== undefined) return { inode, decision: 'bus', ...state };
  throw new TorporError(
    'blocked',
    `${name} cannot be suspended now: the bus at ${line.path} does not know one connection of it.`,
    'Suspend it with `--external-sockets hang-up` to let it find the connection closed.',
  );
}

function refuseWhatCannotBeKept(
  name: string,
  external: readonly ExternalSocket[],
  waiting: SocketsOutside['waiting'],
): void {
  const carrying = external.find(({ hasDescriptorsUnread }) => hasDescriptorsUnread);
  const what =
    carrying !== undefined
      ? `${whose(carrying)} has been sent open files over ${place(carrying)} that it has not taken yet`
      : waiting[0] !== undefined
        ? `${waiting[0].comm} is just connecting to a process outside, which has not accepted yet`
        : undefined;
  if (what === undefined) return;
  throw new MomentaryError(`${name} cannot be suspended now: ${what}.`);
}

/** A datagram socket with a name gets back what it has not read; a new connection begins with nothing. */
export function bytesLost({ type, own, unread }: ExternalSocket): number {
  if (type === 'datagram' && own !== undefined) return 0;
  return unread.reduce((sum, { length }) => sum + length, 0);
}

const whose = ({ owner }: ExternalSocket) => owner?.comm ?? 'A process';
const place = ({ address }: ExternalSocket) =>
  address.length === 0 ? 'a unix socket' : `the unix socket ${addressText(address)}`;

const notThere = (socket: ExternalSocket) =>
  degraded(
    `${whose(socket)} talks over ${place(socket)}, which it could not connect to again from where it is.`,
    'It will find the connection closed.',
  );

const unreadLost = (socket: ExternalSocket, bytes: number) =>
  degraded(
    `${whose(socket)} had not read ${bytes} bytes that were sent to it over ${place(socket)}.`,
    'They are not sent again on the new connection.',
  );

const answered = (socket: ExternalSocket) =>
  degraded(
    `${whose(socket)} was just being sent something over ${place(socket)} as it stopped.`,
    'It gets that after the resume, and finds the connection closed then.',
  );

/** What a resume says of a socket that it could not connect again. */
export const notConnected = (socket: ExternalSocket, errno: string): Finding =>
  degraded(
    `${whose(socket)} could not be connected again to ${place(socket)} (${reasons[errno] ?? errno}).`,
    'It finds the connection closed; start what serves it and let the application connect anew.',
  );

/** What a resume says of a socket to a member of the session that is not resumed with it. */
export const resumedWithout = (socket: ExternalSocket, name: string): Finding =>
  degraded(
    `${whose(socket)} was connected to ${name}, which was suspended at the same instant and is not resumed with it.`,
    'It finds the connection closed. Resumed together they are connected again.',
  );

const reasons: Record<string, string> = {
  ENOENT: 'it is not there',
  ECONNREFUSED: 'nothing answers there',
  EACCES: 'its user may not',
  EAGAIN: 'its queue of connections is full',
};
