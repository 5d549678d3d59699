/** Who sleeps until something comes on a socket: it has asked, and waits for the answer. */
import { readdirSync } from 'node:fs';
import { arch } from 'node:os';
import type { ProcessFacts, UnixSocket } from './facts.ts';
import { textOf } from './kernel-files.ts';

/** read, readv, recvfrom and recvmsg, whose first argument is the descriptor. */
const reading: Readonly<Record<string, readonly number[]>> = {
  x64: [0, 19, 45, 47],
  arm64: [63, 65, 207, 212],
};

/** Inodes of connected sockets with an end outside of the tree that a thread of it reads from just now. */
export function socketsAwaited(
  processes: readonly ProcessFacts[],
  sockets: ReadonlyMap<number, UnixSocket>,
): Set<number> {
  const inside = new Set(
    processes.flatMap(({ descriptors }) =>
      descriptors.flatMap((each) => (each.kind === 'socket' ? [each.inode] : [])),
    ),
  );
  const awaited = new Set<number>();
  for (const { pid, descriptors } of processes) {
    const outside = new Map<number, number>();
    for (const each of descriptors) {
      const peer = each.kind === 'socket' ? (sockets.get(each.inode)?.peer ?? 0) : 0;
      if (each.kind === 'socket' && peer !== 0 && !inside.has(peer)) outside.set(each.fd, each.inode);
    }
    if (outside.size === 0) continue;
    for (const fd of descriptorsRead(pid)) {
      const inode = outside.get(fd);
      if (inode !== undefined) awaited.add(inode);
    }
  }
  return awaited;
}

function descriptorsRead(pid: number): number[] {
  const folder = `/proc/${pid}/task`;
  const calls = reading[arch()] ?? [];
  try {
    return readdirSync(folder).flatMap((thread) => {
      // `0 0x3 0x7ffd...`, or `running`.
      const [call, fd] = textOf(`${folder}/${thread}/syscall`)?.split(' ') ?? [];
      return calls.includes(Number(call)) && fd !== undefined ? [Number(fd)] : [];
    });
  } catch {
    // It has ended.
    return [];
  }
}
