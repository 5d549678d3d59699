/** A connected pair of SOCK_STREAM sockets for two children: socketpair(2), which Node has none of. */
import koffi from 'koffi';
import { descriptor, type PeerDescriptor, SocketError } from './seqpacket.ts';

const libc = koffi.load('libc.so.6');
const socketpair = libc.func('int socketpair(int, int, int, _Out_ int *)');

/** Linux, on every architecture Torpor runs on. */
const afUnix = 1;
const sockStream = 1;
const closeOnExec = 0o2000000;

/** Both ends are closed on exec. @throws SocketError, for instance EMFILE. */
export function openStreamPeers(): [PeerDescriptor, PeerDescriptor] {
  const ends = [0, 0];
  if (socketpair(afUnix, sockStream | closeOnExec, 0, ends) < 0)
    throw new SocketError('socketpair', koffi.errno());
  const [one = -1, other = -1] = ends;
  return [descriptor(one), descriptor(other)];
}
