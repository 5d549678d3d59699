/** Unix sockets: those whose other end is outside of the tree, and names that the whole network namespace shares. */
import { pid as enginePid } from 'node:process';
import type { Finding, SocketChoice } from '../../../api/types.ts';
import { type BusLine, isBusPath } from '../../sockets/buslines.ts';
import type { UsualDecision } from '../../sockets/decisions.ts';
import { type Usual, usualOf } from '../../sockets/services.ts';
import type { Facts, Outsider, ProcessFacts, UnixSocket } from '../facts.ts';
import { descriptorsOf, named, ownerOutside, type Rule, soon } from '../rule.ts';
import { serviceOf } from '../services.ts';
import { heldByPlugin } from './held-by-plugin.ts';

/** Where the X server of a capsule takes viewers. */
const screenSocket = '/run/torpor/screen/rfb';
/** Where its sound server takes what carries the sound outside. */
const soundSocket = '/run/torpor/sound/relay';

export const unixSockets: Rule = (facts) => {
  const open = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const socket = descriptor.kind === 'socket' ? facts.unixSockets.get(descriptor.inode) : undefined;
    return socket === undefined ? [] : [{ process, socket }];
  });
  const carried = socketsInFlight(facts).flatMap((inode) => facts.unixSockets.get(inode) ?? []);
  const inside = new Map([...open.map(({ socket }) => socket), ...carried].map((each) => [each.inode, each]));
  const awaited = connectionsAwaited(facts, inside);
  return open.flatMap(({ process, socket }) => [
    ...awaitedFindings(process, awaited.get(socket.inode)),
    ...waitingFindings(process, socket, inside),
    ...(socket.peer === 0 || inside.has(socket.peer) ? [] : peerFindings(facts, process, socket)),
    ...nameFindings(process, socket),
  ]);
};

/**
 * Sockets with an end outside that need no choice of the user's, by inode, and what becomes of them: datagram sockets that
 * send to a program by its name, and need only that name to do so again, as those of the log do; and, where the user has
 * not chosen, connections to services of which it is known what they make of a new one.
 */
export function usualDecisions(facts: Facts): Map<number, UsualDecision> {
  const inside = new Set(
    descriptorsOf(facts).map(({ descriptor }) => (descriptor.kind === 'socket' ? descriptor.inode : 0)),
  );
  const decisions = new Map<number, UsualDecision>();
  for (const inode of inside) {
    const socket = facts.unixSockets.get(inode);
    if (socket === undefined || socket.peer === 0 || inside.has(socket.peer)) continue;
    const usual = usualFor(facts, socket);
    if (isSentByName(facts, socket)) decisions.set(inode, 'reconnect');
    else if (usual?.kind === 'bus') decisions.set(inode, busLine(facts, socket));
    else if (usual?.kind === 'reconnect' || usual?.kind === 'hang-up') decisions.set(inode, usual.kind);
  }
  return decisions;
}

/** Where the user has chosen, that goes for all. */
function usualFor(facts: Facts, socket: UnixSocket): Usual | undefined {
  if (facts.externalSockets !== undefined) return undefined;
  const owner = facts.outsiders.get(`socket:${socket.peer}`);
  const place = owner?.busLine?.path || facts.unixSockets.get(socket.peer)?.path || socket.path;
  const usual = usualOf(serviceOf(place, owner?.name), place);
  if (usual?.kind !== 'bus') return usual;
  // A capsule has a bus of its own, and to what is outside of it a program's way leads through the capsule's root.
  if (facts.isCapsule) return undefined;
  const { path, pids } = busLine(facts, socket);
  if (!isBusPath(path)) return undefined;
  return hasTwo(facts, path, pids) ? { kind: 'block', hint: whichIsWhich } : usual;
}

const whichIsWhich =
  'It has several connections to this bus, and the bus does not tell which is which. Suspend it with `--external-sockets hang-up` to let it find them closed.';

function busLine(facts: Facts, { inode, peer }: UnixSocket): BusLine {
  const owner = facts.outsiders.get(`socket:${peer}`);
  if (owner?.busLine !== undefined) return { kind: 'bus', ...owner.busLine, pids: [owner.pid] };
  const holders = descriptorsOf(facts).filter(
    ({ descriptor }) => descriptor.kind === 'socket' && descriptor.inode === inode,
  );
  const pids = [...new Set(holders.map(({ process }) => process.pid))];
  return { kind: 'bus', path: facts.unixSockets.get(peer)?.path ?? '', pids };
}

/** Whether the processes that have one connection to a bus have another one. */
function hasTwo(facts: Facts, path: string, pids: readonly number[]): boolean {
  const own = descriptorsOf(facts).flatMap(({ process, descriptor }) =>
    pids.includes(process.pid) && descriptor.kind === 'socket' ? [descriptor.inode] : [],
  );
  const toBus = [...new Set(own)].filter((inode) => {
    const peer = facts.unixSockets.get(inode)?.peer ?? 0;
    return peer !== 0 && facts.unixSockets.get(peer)?.path === path;
  });
  return toBus.length > 1;
}

/** Inodes of sockets that nobody has open, but that are on their way to somebody. */
export const socketsInFlight = (facts: Facts): number[] =>
  facts.hidden.inFlight.flatMap(({ target }) => {
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    return inode === undefined ? [] : [Number(inode)];
  });

const isSentByName = (facts: Facts, { type, peer }: UnixSocket) =>
  type === 'dgram' && peer !== 0 && (facts.unixSockets.get(peer)?.path ?? '') !== '';

/** Listening sockets outside, by the inode of each socket that has connected to one and is not accepted yet. */
function connectionsAwaited(facts: Facts, inside: ReadonlyMap<number, UnixSocket>): Map<number, UnixSocket> {
  const listening = [...facts.unixSockets.values()].filter(({ inode }) => !inside.has(inode));
  return new Map(listening.flatMap((server) => server.waiting.map((inode) => [inode, server])));
}

/** CRIU would dump it, and no restore could make it again. */
function awaitedFindings(process: ProcessFacts, server: UnixSocket | undefined): Finding[] {
  if (server === undefined) return [];
  return [
    {
      tie: 'unix-socket',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has connected to ${server.path || 'a program outside'}, which has not accepted yet.`,
      hint: 'Try again in a moment; a server that never accepts must be ended, or the application close what waits.',
    },
  ];
}

function peerFindings(facts: Facts, process: ProcessFacts, socket: UnixSocket): Finding[] {
  if (facts.isCapsule && socket.path === screenSocket) {
    // The engine itself takes a picture.
    if (facts.outsiders.get(`socket:${socket.peer}`)?.pid === enginePid) return [];
    return [
      {
        tie: 'unix-socket',
        verdict: 'handled',
        by: 'engine',
        what: 'A viewer shows its screen.',
        hint: 'It is disconnected for the suspend and can connect again after the resume.',
      },
    ];
  }
  if (facts.isCapsule && socket.path === soundSocket) {
    return [
      {
        tie: 'unix-socket',
        verdict: 'handled',
        by: 'io.github.torpor.Audio',
        what: 'Its sound goes to the sound server of its user.',
        hint: 'It is halted for the suspend, and goes on where it was after the resume.',
      },
    ];
  }
  const owner = ownerOutside(facts, `socket:${socket.peer}`);
  if (owner === 'stranger') return [];
  const plugin = owner === undefined ? undefined : facts.plugins?.get(owner.pid);
  if (plugin !== undefined) {
    const what = `${named(process)} is connected with the plugin ${plugin}.`;
    return [heldByPlugin('unix-socket', process, plugin, what)];
  }
  const listener = facts.unixSockets.get(socket.peer)?.path ?? '';
  // What stands between stands for the bus that it is connected to.
  const place = owner?.busLine?.path || listener || socket.path;
  const what = `${named(process)} talks to ${peerName(place, owner)}.`;
  const companion = owner === undefined ? undefined : facts.companions?.get(owner.pid);
  if (companion !== undefined) {
    return [
      {
        ...{ tie: 'unix-socket', verdict: 'handled', by: 'engine', pid: process.pid, what },
        hint: `They are connected again where it is resumed together with ${companion}.`,
      },
    ];
  }
  const common = { tie: 'unix-socket', pid: process.pid, what };
  const choice = facts.externalSockets ?? 'block';
  if (choice !== 'hang-up' && isSentByName(facts, socket)) {
    const hint = 'It sends to it again after the resume, if that is there then.';
    return [{ ...common, verdict: 'handled', by: 'engine', hint }];
  }
  const usual = usualFor(facts, socket);
  if (usual?.kind === 'reconnect' && usual.isAsked && isUnderWay(facts, socket)) {
    const asking = `${named(process)} has just asked ${peerName(place, owner)} something, and waits for the answer.`;
    return [{ ...common, what: asking, verdict: 'blocking', by: '', hint: soon }];
  }
  // It may be in the middle of a message, whose second half would be the first thing that a new connection hears.
  if (usual?.kind === 'bus' && socket.unsent > 0) {
    const saying = `${named(process)} is just saying something to ${peerName(place, owner)}, which has not read it yet.`;
    return [{ ...common, what: saying, verdict: 'blocking', by: '', hint: soon }];
  }
  if (usual !== undefined) return [{ ...common, ...usually(usual, listener) }];
  return [
    {
      ...common,
      ...outcomeOf(choice, listener, {
        name: owner?.name ?? 'the other side',
        workload: facts.neighbours?.get(owner?.pid ?? 0),
      }),
    },
  ];
}

const isUnderWay = (facts: Facts, { inode, peer, unsent }: UnixSocket) =>
  unsent > 0 || (facts.unixSockets.get(peer)?.unsent ?? 0) > 0 || facts.awaited?.has(inode) === true;

/** @param listener as in {@link outcomeOf}. */
function usually(usual: Usual, listener: string): Pick<Finding, 'verdict' | 'by' | 'hint'> {
  switch (usual.kind) {
    case 'block':
      return { verdict: 'blocking', by: '', hint: usual.hint };
    case 'bus':
    case 'hang-up':
      return { verdict: 'degraded', by: 'engine', hint: usual.hint };
    case 'reconnect':
      return listener === ''
        ? { verdict: 'degraded', by: 'engine', hint: foundClosed }
        : { verdict: 'handled', by: 'engine', hint: usual.hint };
  }
}

const foundClosed = 'After the resume it finds the connection closed.';

/** @param listener the name by which the other side can be reached again; empty where it has none. */
function outcomeOf(
  choice: SocketChoice,
  listener: string,
  other: { name: string; workload: string | undefined },
): Pick<Finding, 'verdict' | 'by' | 'hint'> {
  if (choice === 'block') {
    const again =
      listener === '' ? '' : '`--external-sockets reconnect` to have it connected again at the resume, or ';
    const together =
      other.workload === undefined
        ? ''
        : `Suspend both at the same instant: name workload ${other.workload} beside it (\`torpor suspend A B\`). `;
    return {
      verdict: 'blocking',
      by: '',
      hint: `${together}Close what connects them, or end ${other.name}, and try again. Or suspend with ${again}\`--external-sockets hang-up\` to let it find the connection closed.`,
    };
  }
  const hint =
    choice === 'reconnect' && listener !== ''
      ? 'It is connected again at the resume; what was under way on the old connection is not repeated.'
      : foundClosed;
  return { verdict: 'degraded', by: 'engine', hint };
}

/** `the session bus (dbus-daemon, pid 812)`, or what there is to say of a peer that is no known service. */
function peerName(place: string, owner: Outsider | undefined): string {
  const service = serviceOf(place, owner?.name);
  if (service !== undefined)
    return owner === undefined ? service : `${service} (${owner.name}, pid ${owner.pid})`;
  const who = owner === undefined ? 'a process outside' : named(owner);
  return `${who}${place === '' ? '' : ` at ${place}`} over a unix socket`;
}

/** CRIU makes a connection again that waits inside, but not what has been said in it, and nothing that waits outside. */
function waitingFindings(
  process: ProcessFacts,
  { path, waiting }: UnixSocket,
  inside: ReadonlyMap<number, UnixSocket>,
): Finding[] {
  const common = { tie: 'unix-socket', pid: process.pid } as const;
  const what = `${named(process)} has not answered a connection that waits at ${path || 'a socket without a name'}`;
  const findings: Finding[] = [];
  if (waiting.some((inode) => (inside.get(inode)?.unsent ?? 0) > 0)) {
    findings.push({
      ...common,
      verdict: 'blocking',
      by: '',
      what: `${what}, and in which something has been said already.`,
      hint: soon,
    });
  }
  if (waiting.some((inode) => !inside.has(inode))) {
    findings.push({
      ...common,
      verdict: 'degraded',
      by: 'criu',
      what: `${what}.`,
      hint: 'That connection is dropped; whoever waits sees it closed.',
    });
  }
  return findings;
}

function nameFindings(process: ProcessFacts, socket: UnixSocket): Finding[] {
  // Connections to it carry its name too.
  if (!socket.path.startsWith('@') || socket.state === 'established') return [];
  return [
    {
      tie: 'abstract-socket',
      verdict: 'degraded',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} has the abstract socket ${socket.path}, a name that all capsules share.`,
      hint: 'It resumes as it is, but not as a second copy beside itself.',
    },
  ];
}
