/** Pipes of which both ends are this process's own: pipe2(2), which Node has none of. */
import { writeSync } from 'node:fs';
import koffi from 'koffi';
import { SocketError } from './seqpacket.ts';

const libc = koffi.load('libc.so.6');
const pipe2 = libc.func('int pipe2(_Out_ int *, int)');
const fcntl = libc.func('int fcntl(int, int, int)');

/** Linux, on every architecture Torpor runs on. */
const closeOnExec = 0o2000000;
const nonBlocking = 0o4000;
const setPipeSize = 1031;

/**
 * @param capacity in bytes; the kernel's own choice if not given.
 * @returns descriptors of a pipe in which the data waits. @throws SocketError
 */
export function makePipe(data: Buffer, capacity: number | undefined): { read: number; write: number } {
  const ends = [0, 0];
  if (pipe2(ends, closeOnExec | nonBlocking) < 0) throw new SocketError('pipe2', koffi.errno());
  const [read = -1, write = -1] = ends;
  if (capacity !== undefined && fcntl(write, setPipeSize, capacity) < 0)
    throw new SocketError('fcntl', koffi.errno());
  for (let written = 0; written < data.length; ) written += writeSync(write, data, written);
  return { read, write };
}

/**
 * A pipe between two children: both are given an end, and this process closes its own afterwards.
 * @throws SocketError
 */
export function makePlainPipe(): { read: number; write: number } {
  const ends = [0, 0];
  if (pipe2(ends, closeOnExec) < 0) throw new SocketError('pipe2', koffi.errno());
  const [read = -1, write = -1] = ends;
  return { read, write };
}
