/**
 * Unix sockets that are not where they were bound. Servers of Qt and others bind a socket in a folder made for it, rename
 * it to its final place and remove the folder, so that it appears at once with the right permissions. The kernel goes on
 * giving the first path, and CRIU would bind the socket there: in a folder that is gone, where nobody looks for it.
 * So the path it has come to is found by its inode, and is put into CRIU's image before a restore.
 */
import { lstat, readdir } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { fileEntry, rewriteImage } from '../../proto/images.ts';
import type { MovedSocket } from '../../proto/manifest.ts';
import { decode, delimitedField, rawFields } from '../../proto/wire.ts';
import type { Facts } from '../inspect/facts.ts';

/** A folder of more names than this is not searched: it would hold up a suspend. */
const mostNames = 5000;
/** Fields of file_entry and unix_sk_entry (images/fdinfo.proto and sk-unix.proto of CRIU 4.2). */
const unixOfFileEntry = 16;
const field = { name: 11, deleted: 15 } as const;

/** Of the sockets of a tree, those that are elsewhere or nowhere now. */
export async function findMovedSockets(
  facts: Pick<Facts, 'root' | 'processes' | 'unixSockets'>,
): Promise<MovedSocket[]> {
  const own = new Set(
    facts.processes.flatMap(({ descriptors }) =>
      descriptors.flatMap((each) => (each.kind === 'socket' ? [each.inode] : [])),
    ),
  );
  const bound = [...facts.unixSockets.values()].filter(
    ({ inode, path, file }) => own.has(inode) && path.startsWith('/') && file !== undefined && file !== 0,
  );
  const found = await Promise.all(
    [...new Map(bound.map((socket) => [socket.path, socket])).values()].map(({ path, file = 0 }) =>
      findMoved(`/proc/${facts.root}/root`, path, file),
    ),
  );
  return found.filter((socket) => socket !== undefined);
}

async function findMoved(root: string, path: string, inode: number): Promise<MovedSocket | undefined> {
  const there = await statOf(join(root, path));
  if (there !== undefined) return undefined;
  const folder = posix.dirname(path);
  const isFolderGone = (await statOf(join(root, folder))) === undefined;
  // Renamed in its folder, or out of it.
  for (const place of isFolderGone ? [posix.dirname(folder)] : [folder, posix.dirname(folder)]) {
    const name = await findByInode(join(root, place), inode);
    if (name !== undefined) return { kind: 'moved', from: path, to: posix.join(place, name) };
  }
  // CRIU makes it again where it was and removes its name; it needs a folder for that.
  if (!isFolderGone) return undefined;
  return {
    kind: 'nameless',
    from: path,
    to: posix.join(await nearestFolder(root, folder), posix.basename(path)),
  };
}

const statOf = (path: string) => lstat(path).catch(() => undefined);

async function findByInode(folder: string, inode: number): Promise<string | undefined> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries.slice(0, mostNames)) {
    if (!entry.isSocket()) continue;
    if ((await statOf(join(folder, entry.name)))?.ino === inode) return entry.name;
  }
  return undefined;
}

async function nearestFolder(root: string, folder: string): Promise<string> {
  const parent = posix.dirname(folder);
  if (parent === '/' || (await statOf(join(root, parent)))?.isDirectory()) return parent;
  return nearestFolder(root, parent);
}

/** `files.img` with the sockets where they have come to; undefined where none of them is in it. */
export function placeMovedSockets(image: Buffer, moved: readonly MovedSocket[]): Buffer | undefined {
  const byPath = new Map(moved.map((socket) => [socket.from, socket]));
  let isChanged = false;
  const placed = rewriteImage('files', image, (entry) => {
    const name = decode(fileEntry, entry).unix?.name;
    const socket = name === undefined ? undefined : byPath.get(pathOf(name));
    if (socket === undefined) return entry;
    isChanged = true;
    return place(entry, socket);
  });
  return isChanged ? placed : undefined;
}

/** The name is an address: the path may be followed by a zero byte. */
const pathOf = (name: Uint8Array) => Buffer.from(name).toString('utf8').replace(/\0.*$/s, '');

function place(entry: Buffer, { kind, to }: MovedSocket): Buffer {
  const socket = (content: Buffer) =>
    Array.from(rawFields(content, 'unix_sk_entry'))
      .filter(({ number }) => kind === 'nameless' || number !== field.deleted)
      .map(({ number, whole }) =>
        number === field.name ? delimitedField(field.name, Buffer.from(`${to}\0`)) : whole,
      );
  return Buffer.concat(
    Array.from(rawFields(entry, 'file_entry'), ({ number, content, whole }) =>
      number === unixOfFileEntry ? delimitedField(unixOfFileEntry, Buffer.concat(socket(content))) : whole,
    ),
  );
}
