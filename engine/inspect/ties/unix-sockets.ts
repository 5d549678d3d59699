/** Unix sockets: those whose other end is outside of the tree, and names that the whole network namespace shares. */
import type { Finding } from '../../../api/types.ts';
import { inodeOf, type UnixSocket } from '../facts.ts';
import { descriptorsOf, named, type Rule } from '../rule.ts';

/** Where the X server of a capsule takes viewers. */
const screenSocket = '/run/torpor/screen/rfb';

export const unixSockets: Rule = (facts) => {
  const open = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const inode = inodeOf(descriptor.target, 'socket');
    const socket = inode === undefined ? undefined : facts.unixSockets.get(inode);
    return socket === undefined ? [] : [{ process, socket }];
  });
  const inside = new Set(open.map(({ socket }) => socket.inode));
  const seen = new Set<number>();
  return open.flatMap(({ process, socket }) => {
    if (seen.has(socket.inode)) return [];
    seen.add(socket.inode);
    return [...peerFindings(socket), ...nameFindings(socket)];

    function peerFindings(end: UnixSocket): Finding[] {
      if (end.peer === 0 || inside.has(end.peer)) return [];
      if (facts.isCapsule && end.path === screenSocket) {
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
      const peer = facts.unixSockets.get(end.peer);
      const owner = facts.outsiders.get(end.peer);
      const place = peer?.path || end.path;
      const who = owner === undefined ? 'a process outside' : named(owner);
      return [
        {
          tie: 'unix-socket',
          verdict: 'blocking',
          by: '',
          what: `${named(process)} talks to ${who}${place === '' ? '' : ` at ${place}`} over a unix socket.`,
          hint: `Close what connects them, or end ${owner?.name ?? 'the other side'}, and try again.`,
        },
      ];
    }

    function nameFindings(end: UnixSocket): Finding[] {
      if (!end.path.startsWith('@') || end.peer !== 0) return [];
      return [
        {
          tie: 'abstract-socket',
          verdict: 'degraded',
          by: 'criu',
          what: `${named(process)} has the abstract socket ${end.path}, a name that all capsules share.`,
          hint: 'It resumes as it is, but not as a second copy beside itself.',
        },
      ];
    }
  });
};
