/** A descriptor of another process, taken over by its number: pidfd_getfd(2), for root. */
import { closeSync } from 'node:fs';
import koffi from 'koffi';
import { SocketError } from './seqpacket.ts';

const libc = koffi.load('libc.so.6');
const syscall = libc.func('long syscall(long, long, long, long)');

/** Numbers of system calls made since Linux 5 are the same on every architecture. */
const sysPidfdOpen = 434;
const sysPidfdGetfd = 438;

/** @returns our descriptor of the same open file, closed on exec. @throws SocketError */
export function takeDescriptor(pid: number, fd: number): number {
  const process = Number(syscall(sysPidfdOpen, pid, 0, 0));
  if (process < 0) throw new SocketError('pidfd_open', koffi.errno());
  try {
    const taken = Number(syscall(sysPidfdGetfd, process, fd, 0));
    if (taken < 0) throw new SocketError('pidfd_getfd', koffi.errno());
    return taken;
  } finally {
    closeSync(process);
  }
}
