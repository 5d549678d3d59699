/**
 * The unix sockets in a checkpoint whose other end is outside of it, as CRIU's images have them: CRIU keeps a socket
 * and what it has not read yet, and of its peer the name. What the peer has not read yet stays with the peer.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type QueuedPacket, readSocketQueues } from '../../proto/images.ts';
import { type Images, readImages, readUnixSockets, type UnixSocketImage } from '../criu/images.ts';
import type { SocketType, SocketUser } from './plan.ts';

export interface ExternalSocket {
  inode: number;
  type: SocketType;
  /** Inode of the other end, at the checkpoint. */
  peer: number;
  /** The name of the other end, as connect(2) takes it; empty where it has none. */
  address: Buffer;
  /** Of a datagram socket with a name. */
  own: { name: Buffer; mode: number } | undefined;
  /** The process that has it, and as whom it acts; undefined where none has it open. */
  owner: { comm: string; user: SocketUser } | undefined;
  unread: Buffer[];
  /** With descriptors in what it has not read yet, which cannot be kept. */
  hasDescriptorsUnread: boolean;
}

export interface SocketsOutside {
  external: ExternalSocket[];
  /** Connecting to a server outside that has not accepted yet. No restore could make that again. */
  waiting: { comm: string }[];
}

/** @throws TorporError `failed` where an image is damaged. */
export async function readSocketsOutside(imagesDir: string): Promise<SocketsOutside> {
  // Most checkpoints have none, and the images of all their processes need not be read for that.
  if (endsOutside(await readUnixSockets(imagesDir)).length === 0) return { external: [], waiting: [] };
  const images = await readImages(imagesDir);
  const queues = await readFile(join(imagesDir, 'sk-queues.img')).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return socketsOutside(images, queues === undefined ? [] : readSocketQueues(queues));
}

/** Pure part of {@link readSocketsOutside}. */
export function socketsOutside(images: Images, packets: readonly QueuedPacket[]): SocketsOutside {
  const external: ExternalSocket[] = [];
  const waiting: { comm: string }[] = [];
  for (const { socket, peer } of endsOutside(images.unixSockets)) {
    const owner = ownerOf(images, socket);
    if (!socket.isMadeByPlugin) {
      waiting.push({ comm: owner?.comm ?? 'a process' });
      continue;
    }
    const unread = packets.filter(({ socketId }) => socketId === socket.id);
    external.push({
      inode: socket.inode,
      type: socket.type === 'unknown' ? 'stream' : socket.type,
      peer: socket.peer,
      address: peer?.rawName ?? Buffer.alloc(0),
      own: ownName(socket),
      owner,
      unread: unread.map(({ data }) => data),
      hasDescriptorsUnread: unread.some(({ hasDescriptors }) => hasDescriptors),
    });
  }
  return { external, waiting };
}

/** Those that the plugin makes, and those whose other end CRIU's images name and do not have. */
function endsOutside(
  sockets: readonly UnixSocketImage[],
): { socket: UnixSocketImage; peer: UnixSocketImage | undefined }[] {
  const byInode = new Map(sockets.map((socket) => [socket.inode, socket]));
  return sockets.flatMap((socket) => {
    if (socket.isExternal || socket.peer === 0) return [];
    const peer = byInode.get(socket.peer);
    return socket.isMadeByPlugin || peer === undefined ? [{ socket, peer }] : [];
  });
}

function ownName({ type, rawName, owner }: UnixSocketImage): ExternalSocket['own'] {
  if (type !== 'datagram' || rawName.length === 0) return undefined;
  return { name: rawName, mode: owner?.mode ?? 0 };
}

function ownerOf(images: Images, { id }: UnixSocketImage): ExternalSocket['owner'] {
  for (const process of images.processes) {
    if (process.kind !== 'alive' || !process.descriptors.some(({ fileId }) => fileId === id)) continue;
    const credentials = process.threads[0]?.credentials;
    if (credentials === undefined) continue;
    const { euid: uid, egid: gid, groups } = credentials;
    return { comm: process.comm, user: { uid, gid, groups } };
  }
  return undefined;
}
