/** Connections to other machines, and sockets that reach below the usual protocols. */
import type { Finding } from '../../../api/types.ts';
import type { Facts, InternetSocket, ProcessFacts } from '../facts.ts';
import { descriptorsOf, named, ownerOutside, type Rule } from '../rule.ts';

const tie = 'internet-socket';

export const internetSockets: Rule = (facts) => {
  const seen = new Set<number>();
  return descriptorsOf(facts).flatMap(({ process, descriptor }): Finding[] => {
    const socket = descriptor.kind === 'socket' ? facts.internetSockets.get(descriptor.inode) : undefined;
    if (socket === undefined || seen.has(socket.inode)) return [];
    seen.add(socket.inode);
    if (/^icmp/.test(socket.protocol)) return [ping(process)];
    if (/^(raw|packet)/.test(socket.protocol)) return [belowProtocols(process, socket)];
    if (socket.state === 'listening') return listening(process, socket);
    return socket.state === 'established' ? [established(facts, process, socket)] : [];
  });
};

/** CRIU 4.2.1 saves and restores both; both were tried. */
function belowProtocols(process: ProcessFacts, socket: InternetSocket): Finding {
  return {
    tie,
    verdict: 'handled',
    by: 'criu',
    pid: process.pid,
    what: `${named(process)} has a ${socket.protocol} socket.`,
    hint: 'What arrives while it is suspended is not seen.',
  };
}

function ping(process: ProcessFacts): Finding {
  return {
    tie,
    verdict: 'blocking',
    by: '',
    pid: process.pid,
    what: `${named(process)} has a socket for pings (icmp), which cannot be saved.`,
    hint: 'Wait until it has done pinging, and try again.',
  };
}

function listening(process: ProcessFacts, { local, waiting }: InternetSocket): Finding[] {
  const listens: Finding = {
    tie,
    verdict: 'handled',
    by: 'criu',
    pid: process.pid,
    what: `${named(process)} listens at ${local}.`,
    hint: 'It listens again after the resume, if the port is free then.',
  };
  if (waiting === 0) return [listens];
  return [
    {
      tie,
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has not answered a connection that waits at ${local}.`,
      hint: 'Try again in a moment, when it has.',
    },
    listens,
  ];
}

function established(facts: Facts, process: ProcessFacts, { local, remote, peer }: InternetSocket): Finding {
  const inside = facts.processes.find(({ descriptors }) =>
    descriptors.some((each) => each.kind === 'socket' && each.inode === peer),
  );
  const outside = ownerOutside(facts, `socket:${peer}`);
  const other = inside ?? (outside === 'stranger' ? undefined : outside);
  const closed = 'After the resume the connection is closed, as if the other side had hung up.';
  return {
    tie,
    verdict: 'degraded',
    by: 'criu',
    pid: process.pid,
    what: `${named(process)} is connected to ${other === undefined ? '' : `${named(other)} at `}${remote}.`,
    hint: isServed(facts, local) ? `${closed} ${lingering}` : closed,
  };
}

/** The kernel keeps the port for what is left of the connection: 60 s in TIME_WAIT or FIN_WAIT2 (tcp(7)). */
const lingering = 'Within a minute of the suspend its port may still be taken: then resume a little later.';

/** Whether the connection came to a port at which the tree listens, and will again. */
function isServed(facts: Facts, local: string): boolean {
  const port = portOf(local);
  return descriptorsOf(facts).some(({ descriptor }) => {
    const socket = descriptor.kind === 'socket' ? facts.internetSockets.get(descriptor.inode) : undefined;
    return socket?.state === 'listening' && portOf(socket.local) === port;
  });
}

const portOf = (address: string) => address.slice(address.lastIndexOf(':') + 1);
