/**
 * The identities and limits in a checkpoint become those of this machine: whoever the application's user was is the importing user,
 * and nobody keeps a capability or a limit that is higher than here. That holds for a capsule's init too, which is root at home: its memory comes from a
 * stranger, and all it does for a capsule that runs is to reap. Fields are those of CRIU 4.2's images/*.proto.
 */
import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { credsEntry, type ImageKind, rewriteImage } from '../../../proto/images.ts';
import {
  decode,
  delimitedField,
  encode,
  message,
  optional,
  rawFields,
  required,
  withFields,
} from '../../../proto/wire.ts';
import type { User } from '../../capsule/users.ts';
import { mapArchive } from './archives.ts';
import { type Limit, lowerLimits } from './limits.ts';
import { refused } from './refusal.ts';

/** The group of terminals, which has this number on every Debian; a terminal's device belongs to it. */
const terminals = 5;

export interface IdentityChange {
  from: Pick<User, 'uid' | 'gid'>;
  to: Pick<User, 'uid' | 'gid' | 'groups'>;
  /** The highest that they get. */
  limits: readonly Limit[];
}

/** @throws TorporError `blocked` where something belongs to somebody else, WireError where an image is damaged. */
export async function mapIdentity(folder: string, change: IdentityChange): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const next = `${path}.new`;
    if (/^tmpfs-/.test(name)) await mapArchive(path, next, name, ownersOf(change));
    else {
      const rewrite = rewriterOf(name);
      if (rewrite === undefined) continue;
      await writeFile(next, rewrite(await readFile(path), new Owners(change, name)), { mode: 0o600 });
    }
    await rename(next, path);
  }
}

const mapped = (old: number, from: number, to: number) => (old === 0 ? 0 : old === from ? to : undefined);

const ownersOf = ({ from, to }: IdentityChange) => ({
  uid: (old: number) => mapped(old, from.uid, to.uid),
  gid: (old: number) => (old === terminals ? old : mapped(old, from.gid, to.gid)),
});

class Owners {
  readonly change: IdentityChange;
  readonly #name: string;

  constructor(change: IdentityChange, name: string) {
    this.change = change;
    this.#name = name;
  }

  uid(old: number): number {
    return this.#sure(ownersOf(this.change).uid(old), `user ${old}`);
  }

  gid(old: number): number {
    return this.#sure(ownersOf(this.change).gid(old), `group ${old}`);
  }

  #sure(owner: number | undefined, whose: string): number {
    if (owner === undefined) throw refused(`its image ${this.#name} has something of ${whose}`);
    return owner;
  }
}

type Rewrite = (image: Buffer, owners: Owners) => Buffer;

function rewriterOf(name: string): Rewrite | undefined {
  if (/^core-\d+\.img$/.test(name)) return mapCore;
  if (/^ghost-file-[0-9a-f]+\.img$/.test(name)) return mapGhost;
  if (/^ipcns-shm-\d+\.img$/.test(name)) return entries('ipcnsShm', mapShm);
  return {
    'files.img': entries('files', mapFile),
    'tty-info.img': entries('ttyInfo', mapTty),
    'memfd.img': entries('memfd', mapMemfd),
  }[name];
}

const entries =
  (kind: ImageKind, map: (entry: Buffer, owners: Owners) => Buffer): Rewrite =>
  (image, owners) =>
    rewriteImage(kind, image, (entry) => map(entry, owners));

const taskOfCore = 3;
const limitsOfTask = 8;
const loginOfTask = 13;
const threadOfCore = 5;
const credsOfThread = 10;

const mapCore = entries('core', (core, { change: { to, limits } }) =>
  withFields(core, 'core_entry', (number, content) => {
    if (number === taskOfCore) return mapTask(content, limits);
    if (number !== threadOfCore) return undefined;
    return withFields(content, 'thread_core_entry', (inThread, creds) =>
      inThread !== credsOfThread ? undefined : mapCreds(creds, to),
    );
  }),
);

/** Who logged in, as the kernel's audit notes it, is nobody of this machine. */
function mapTask(task: Buffer, limits: readonly Limit[]): Buffer {
  const parts = Array.from(rawFields(task, 'task_core_entry'), ({ number, content, whole }) => {
    if (number === loginOfTask) return Buffer.alloc(0);
    return number === limitsOfTask ? delimitedField(number, lowerLimits(content, limits)) : whole;
  });
  return Buffer.concat(parts);
}

function mapCreds(content: Buffer, { uid, gid, groups }: IdentityChange['to']): Buffer {
  const creds = decode(credsEntry, content);
  const none = creds.capPrm.map(() => 0);
  // What is not named here, such as labels of security modules, is the other machine's.
  return encode(credsEntry, {
    ...{ uid, gid, euid: uid, egid: gid, suid: uid, sgid: gid, fsuid: uid, fsgid: gid, groups },
    ...{ capInh: none, capPrm: none, capEff: none, capAmb: none, capBnd: creds.capBnd, secbits: 0 },
    noNewPrivs: 1,
  });
}

/** The number of each kind's message in a file_entry, with that of its fown_entry in there. */
const ownerFields: Readonly<Record<number, number>> = {
  3: 5,
  4: 13,
  7: 11,
  8: 3,
  9: 3,
  10: 3,
  12: 3,
  13: 4,
  14: 3,
  16: 9,
  18: 4,
  19: 4,
  20: 4,
  22: 5,
};
const fownEntry = message('fown_entry', {
  uid: required(1, 'uint32'),
  euid: required(2, 'uint32'),
  signum: required(3, 'uint32'),
  pidType: required(4, 'uint32'),
  pid: required(5, 'uint32'),
});
const unixOfFile = 16;
const permsOfUnix = 13;
const permsEntry = message('file_perms_entry', {
  mode: required(1, 'uint32'),
  uid: required(2, 'uint32'),
  gid: required(3, 'uint32'),
});

function mapFile(entry: Buffer, owners: Owners): Buffer {
  return withFields(entry, 'file_entry', (kind, file) => {
    const fown = ownerFields[kind];
    if (fown === undefined) return undefined;
    return withFields(file, 'a file', (number, content) => {
      if (number === fown) return mapFown(content, owners);
      if (kind === unixOfFile && number === permsOfUnix) return mapPerms(content, owners);
      return undefined;
    });
  });
}

/** Who is sent a signal by it, and in whose name: never in root's. */
function mapFown(content: Buffer, { change: { to } }: Owners): Buffer {
  const fown = decode(fownEntry, content);
  return fown.pid === 0 ? content : encode(fownEntry, { ...fown, uid: to.uid, euid: to.uid });
}

function mapPerms(content: Buffer, owners: Owners): Buffer {
  const { mode, uid, gid } = decode(permsEntry, content);
  return encode(permsEntry, { mode, uid: owners.uid(uid), gid: owners.gid(gid) });
}

/** A message with some of its numbers replaced. */
function withNumbers(entry: Buffer, name: string, numbers: Readonly<Record<number, number>>): Buffer {
  const fields = Object.entries(numbers).map(([number, value]) =>
    encode(message(name, { value: required(Number(number), 'uint32') }), { value }),
  );
  const others = Array.from(rawFields(entry, name)).filter(({ number }) => numbers[number] === undefined);
  return Buffer.concat([...others.map(({ whole }) => whole), ...fields]);
}

const ownedTty = message('tty_info_entry', { uid: optional(14, 'uint32'), gid: optional(15, 'uint32') });

function mapTty(entry: Buffer, owners: Owners): Buffer {
  const { uid, gid } = decode(ownedTty, entry);
  return withNumbers(entry, 'tty_info_entry', {
    ...(uid === undefined ? {} : { 14: owners.uid(uid) }),
    ...(gid === undefined ? {} : { 15: owners.gid(gid) }),
  });
}

const ownedMemfd = message('memfd_inode_entry', { uid: required(2, 'uint32'), gid: required(3, 'uint32') });

function mapMemfd(entry: Buffer, owners: Owners): Buffer {
  const { uid, gid } = decode(ownedMemfd, entry);
  return withNumbers(entry, 'memfd_inode_entry', { 2: owners.uid(uid), 3: owners.gid(gid) });
}

const descOfShm = 1;
const ipcDesc = message('ipc_desc_entry', {
  uid: required(2, 'uint32'),
  gid: required(3, 'uint32'),
  cuid: required(4, 'uint32'),
  cgid: required(5, 'uint32'),
});

function mapShm(entry: Buffer, owners: Owners): Buffer {
  return withFields(entry, 'ipc_shm_entry', (number, content) => {
    if (number !== descOfShm) return undefined;
    const { uid, gid, cuid, cgid } = decode(ipcDesc, content);
    return withNumbers(content, 'ipc_desc_entry', {
      ...{ 2: owners.uid(uid), 3: owners.gid(gid) },
      ...{ 4: owners.uid(cuid), 5: owners.gid(cgid) },
    });
  });
}

const ghostEntry = message('ghost_file_entry', {
  uid: required(1, 'uint32'),
  gid: required(2, 'uint32'),
  mode: required(3, 'uint32'),
});
const magicBytes = 8;

/** One entry, then the file's contents. */
function mapGhost(image: Buffer, owners: Owners): Buffer {
  const start = magicBytes + 4;
  const length = image.length < start ? -1 : image.readUInt32LE(magicBytes);
  if (length < 0 || start + length > image.length) throw refused('a deleted file of it is cut short');
  const entry = image.subarray(start, start + length);
  const { uid, gid, mode } = decode(ghostEntry, entry);
  if (!mayBeGhost(mode)) throw refused(`a deleted file of it has the mode ${mode.toString(8)}`);
  const own = withNumbers(entry, 'ghost_file_entry', { 1: owners.uid(uid), 2: owners.gid(gid) });
  const lengthBytes = Buffer.alloc(4);
  lengthBytes.writeUInt32LE(own.length);
  return Buffer.concat([image.subarray(0, magicBytes), lengthBytes, own, image.subarray(start + length)]);
}

const fileTypeBits = 0o170000;
/** Files, folders, pipes, links and sockets; without set-user-id and set-group-id bits. */
const ghostTypes = new Set([0o100000, 0o040000, 0o010000, 0o120000, 0o140000]);
const mayBeGhost = (mode: number) => ghostTypes.has(mode & fileTypeBits) && (mode & 0o6000) === 0;
