/** Unix sockets: those whose other end is outside of the tree, and names that the whole network namespace shares. */
import { pid as enginePid } from 'node:process';
import type { Finding } from '../../../api/types.ts';
import type { Facts, ProcessFacts, UnixSocket } from '../facts.ts';
import { descriptorsOf, named, ownerOutside, type Rule } from '../rule.ts';

/** Where the X server of a capsule takes viewers. */
const screenSocket = '/run/torpor/screen/rfb';

export const unixSockets: Rule = (facts) => {
  const open = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const socket = descriptor.kind === 'socket' ? facts.unixSockets.get(descriptor.inode) : undefined;
    return socket === undefined ? [] : [{ process, socket }];
  });
  const inside = new Set(open.map(({ socket }) => socket.inode));
  return open.flatMap(({ process, socket }) => [
    ...(socket.peer === 0 || inside.has(socket.peer) ? [] : peerFindings(facts, process, socket)),
    ...nameFindings(process, socket),
  ]);
};

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
  const owner = ownerOutside(facts, `socket:${socket.peer}`);
  if (owner === 'stranger') return [];
  const place = facts.unixSockets.get(socket.peer)?.path || socket.path;
  const who = owner === undefined ? 'a process outside' : named(owner);
  return [
    {
      tie: 'unix-socket',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} talks to ${who}${place === '' ? '' : ` at ${place}`} over a unix socket.`,
      hint: `Close what connects them, or end ${owner?.name ?? 'the other side'}, and try again.`,
    },
  ];
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
