/** Connections to other machines, and sockets that reach below the usual protocols. */
import type { Finding } from '../../../api/types.ts';
import type { Facts, InternetSocket, ProcessFacts } from '../facts.ts';
import { descriptorsOf, named, ownerOutside, type Rule } from '../rule.ts';

const tie = 'internet-socket';

export const internetSockets: Rule = (facts) => {
  const seen = new Set<number>();
  return descriptorsOf(facts).flatMap(({ process, descriptor }): Finding[] => {
    const socket = descriptor.kind === 'socket' ? facts.internetSockets.get(descriptor.inode) : undefined;
    // What only carries another socket is told of by `other-sockets.ts`.
    const isCarrier = socket !== undefined && facts.hidden.protocols.get(socket.inode) === 'MPTCP';
    if (socket === undefined || isCarrier || seen.has(socket.inode)) return [];
    seen.add(socket.inode);
    return [...ofState(facts, process, socket), ...unread(process, socket)];
  });
};

function ofState(facts: Facts, process: ProcessFacts, socket: InternetSocket): Finding[] {
  if (/^icmp/.test(socket.protocol)) return [ping(facts, process)];
  if (/^(raw|packet)/.test(socket.protocol)) return [belowProtocols(process, socket)];
  if (socket.state === 'listening') return listening(process, socket);
  if (socket.state === 'open') return [unsettled(facts, process, socket)];
  return socket.state === 'established' ? [established(facts, process, socket)] : [];
}

/** Of datagrams, which may get lost on their way too. */
function unread(process: ProcessFacts, { protocol, unread: bytes }: InternetSocket): Finding[] {
  if (bytes === 0) return [];
  return [
    {
      tie,
      verdict: 'degraded',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} has not read yet what has arrived at its ${protocol} socket.`,
      hint: 'That is lost, as if it had been lost on its way.',
    },
  ];
}

function unsettled({ connections }: Facts, process: ProcessFacts, { remote }: InternetSocket): Finding {
  const what = `${named(process)} is just opening or closing a connection to ${remote}.`;
  const common = { tie, by: 'criu', pid: process.pid, what };
  return connections === 'keep'
    ? {
        ...common,
        verdict: 'handled',
        hint: 'It goes on with that after the resume, if the other side still knows of it then.',
      }
    : { ...common, verdict: 'degraded', hint: 'After the resume the connection is closed.' };
}

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

/** CRIU makes it again as root's group, which must be among those that may have one. */
function ping(facts: Facts, process: ProcessFacts): Finding {
  const what = `${named(process)} has a socket for pings (icmp)`;
  if (facts.mayPing)
    return { tie, verdict: 'handled', by: 'criu', pid: process.pid, what: `${what}.`, hint: '' };
  return {
    tie,
    verdict: 'blocking',
    by: '',
    pid: process.pid,
    what: `${what}, which could not be made again.`,
    hint: 'Allow it (`sysctl net.ipv4.ping_group_range="0 2147483647"`), or wait until it has done pinging, and try again.',
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
      verdict: 'degraded',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} has not answered a connection that waits at ${local}.`,
      hint: 'That connection is dropped; whoever waits sees it closed.',
    },
    listens,
  ];
}

function established(facts: Facts, process: ProcessFacts, { remote, peer }: InternetSocket): Finding {
  const inside = facts.processes.find(({ descriptors }) =>
    descriptors.some((each) => each.kind === 'socket' && each.inode === peer),
  );
  const outside = ownerOutside(facts, `socket:${peer}`);
  const other = inside ?? (outside === 'stranger' ? undefined : outside);
  const what = `${named(process)} is connected to ${other === undefined ? '' : `${named(other)} at `}${remote}.`;
  const common = { tie, by: 'criu', pid: process.pid, what };
  if (facts.connections === 'keep') {
    const hint =
      inside === undefined
        ? 'The connection goes on after the resume, if the other side still has it then; `--connections close` closes it.'
        : 'The connection goes on after the resume.';
    return { ...common, verdict: 'handled', hint };
  }
  return {
    ...common,
    verdict: 'degraded',
    hint: 'After the resume the connection is closed, as if the other side had hung up; `torpor suspend --connections keep` keeps it.',
  };
}
