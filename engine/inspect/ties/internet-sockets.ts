/** Connections to other machines, and sockets that reach below the usual protocols. */
import type { Finding } from '../../../api/types.ts';
import { inodeOf } from '../facts.ts';
import { descriptorsOf, named, type Rule } from '../rule.ts';

export const internetSockets: Rule = (facts) => {
  const seen = new Set<number>();
  return descriptorsOf(facts).flatMap(({ process, descriptor }): Finding[] => {
    const inode = inodeOf(descriptor.target, 'socket');
    const socket = inode === undefined ? undefined : facts.internetSockets.get(inode);
    if (socket === undefined || seen.has(socket.inode)) return [];
    seen.add(socket.inode);
    const tie = 'internet-socket';
    if (/^(raw|icmp|packet)/.test(socket.protocol)) {
      return [
        {
          tie,
          verdict: 'blocking',
          by: '',
          what: `${named(process)} has a ${socket.protocol} socket, which cannot be saved.`,
          hint: 'Stop what it uses it for (a ping, a capture) and try again.',
        },
      ];
    }
    if (socket.state === 'listening') {
      return [
        {
          tie,
          verdict: 'handled',
          by: 'criu',
          what: `${named(process)} listens at ${socket.local}.`,
          hint: 'It listens again after the resume, if the port is free then.',
        },
      ];
    }
    if (socket.state === 'established') {
      return [
        {
          tie,
          verdict: 'degraded',
          by: 'criu',
          what: `${named(process)} is connected to ${socket.remote}.`,
          hint: 'After the resume the connection is closed, as if the other side had hung up.',
        },
      ];
    }
    return [];
  });
};
