/**
 * CRIU's image files, as far as Torpor reads and rewrites them. A file is two magic numbers (the inventory: one), then
 * entries: a length of 32 bits, little-endian, and a message. Numbers and types are those of images/*.proto and
 * magic.h of CRIU 4.2; fields nobody here needs are left out, and survive a rewrite nevertheless.
 */
import {
  decode,
  type Fields,
  type Message,
  type MessageOf,
  message,
  optional,
  repeated,
  required,
  WireError,
} from './wire.ts';

const commonMagic = 0x54564319;

export const imageMagic = {
  inventory: 0x58313116,
  pstree: 0x50273030,
  fdinfo: 0x56213732,
  core: 0x55053847,
  ids: 0x54432030,
  mm: 0x57492820,
  fs: 0x51403912,
  mountpoints: 0x55563928,
  files: 0x56303138,
  remapFpath: 0x59133954,
  socketQueues: 0x56264026,
  pipeData: 0x56453709,
  ttyInfo: 0x59453036,
  timens: 0x43114433,
  ipcnsShm: 0x46283044,
  ghostFile: 0x52583605,
  memfd: 0x48453499,
  fileLocks: 0x54323616,
} as const;
export type ImageKind = keyof typeof imageMagic;

/** images/file-lock.proto. */
export const fileLockEntry = message('file_lock_entry', {
  flag: required(1, 'uint32'),
  type: required(2, 'uint32'),
  pid: required(3, 'int32'),
  fd: required(4, 'int32'),
});

/** Which kernel objects a process has; the same number in two processes means shared. */
export const kobjIds = message('task_kobj_ids_entry', {
  vmId: required(1, 'uint32'),
  filesId: required(2, 'uint32'),
  fsId: required(3, 'uint32'),
  sighandId: required(4, 'uint32'),
  pidNsId: optional(5, 'uint32'),
  netNsId: optional(6, 'uint32'),
  ipcNsId: optional(7, 'uint32'),
  utsNsId: optional(8, 'uint32'),
  mntNsId: optional(9, 'uint32'),
  userNsId: optional(10, 'uint32'),
  cgroupNsId: optional(11, 'uint32'),
  timeNsId: optional(12, 'uint32'),
});

export const inventoryEntry = message('inventory_entry', {
  imageVersion: required(1, 'uint32'),
  rootIds: optional(3, kobjIds),
  lsmType: optional(6, 'enum'),
  /** In microseconds. */
  dumpUptime: optional(8, 'uint64'),
  tcpClose: optional(10, 'bool'),
  networkLockMethod: optional(11, 'uint32'),
  /** By it CRIU names its table of nftables. */
  dumpRunId: optional(13, 'string'),
});

export const pstreeEntry = message('pstree_entry', {
  pid: required(1, 'uint32'),
  ppid: required(2, 'uint32'),
  pgid: required(3, 'uint32'),
  sid: required(4, 'uint32'),
  threads: repeated(5, 'uint32'),
});

export const credsEntry = message('creds_entry', {
  uid: required(1, 'uint32'),
  gid: required(2, 'uint32'),
  euid: required(3, 'uint32'),
  egid: required(4, 'uint32'),
  suid: required(5, 'uint32'),
  sgid: required(6, 'uint32'),
  fsuid: required(7, 'uint32'),
  fsgid: required(8, 'uint32'),
  capInh: repeated(9, 'uint32'),
  capPrm: repeated(10, 'uint32'),
  capEff: repeated(11, 'uint32'),
  capBnd: repeated(12, 'uint32'),
  secbits: required(13, 'uint32'),
  groups: repeated(14, 'uint32'),
  lsmProfile: optional(15, 'string'),
  noNewPrivs: optional(18, 'uint32'),
  capAmb: repeated(19, 'uint32'),
});

export const coreEntry = message('core_entry', {
  machine: required(1, 'enum'),
  task: optional(
    3,
    message('task_core_entry', {
      state: required(1, 'uint32'),
      exitCode: required(2, 'uint32'),
      comm: required(6, 'string'),
      oldSeccompMode: optional(11, 'enum'),
    }),
  ),
  ids: optional(4, kobjIds),
  thread: optional(
    5,
    message('thread_core_entry', {
      creds: optional(10, credsEntry),
      seccompMode: optional(11, 'enum'),
      comm: optional(13, 'string'),
    }),
  ),
});

export const ttyInfoEntry = message('tty_info_entry', {
  type: required(2, 'enum'),
  pgrp: required(7, 'uint32'),
  rdev: required(8, 'uint32'),
  dev: optional(13, 'uint32'),
});
/** TtyType: one that the restore is given. */
export const externalTty = 5;

export const mmEntry = message('mm_entry', {
  exeFileId: required(12, 'uint32'),
  vmas: repeated(
    14,
    message('vma_entry', {
      start: required(1, 'uint64'),
      end: required(2, 'uint64'),
      pgoff: required(3, 'uint64'),
      /** Of a mapped file, the file's id. */
      shmid: required(4, 'uint64'),
      prot: required(5, 'uint32'),
      flags: required(6, 'uint32'),
      status: required(7, 'uint32'),
    }),
  ),
});

/** Bits of a vma's status. */
export const vmaStatus = { filePrivate: 1 << 6, fileShared: 1 << 7 } as const;

export const fsEntry = message('fs_entry', {
  cwdId: required(1, 'uint32'),
  rootId: required(2, 'uint32'),
  umask: optional(3, 'uint32'),
});

export const fdinfoEntry = message('fdinfo_entry', {
  id: required(1, 'uint32'),
  flags: required(2, 'uint32'),
  type: required(3, 'enum'),
  fd: required(4, 'uint32'),
});

/** Kinds of open files, by the number CRIU gives them. */
export const fileTypes = [
  'undefined',
  'file',
  'pipe',
  'fifo',
  'inet-socket',
  'unix-socket',
  'eventfd',
  'eventpoll',
  'inotify',
  'signalfd',
  'packet-socket',
  'terminal',
  'fanotify',
  'netlink-socket',
  'namespace',
  'tun',
  'external',
  'timerfd',
  'memfd',
  'bpf-map',
  'pidfd',
] as const;

const regFileEntry = message('reg_file_entry', {
  id: required(1, 'uint32'),
  flags: required(2, 'uint32'),
  pos: required(3, 'uint64'),
  name: required(6, 'bytes'),
  mntId: optional(7, 'sint32'),
  size: optional(8, 'uint64'),
  ext: optional(9, 'bool'),
  mode: optional(10, 'uint32'),
});

const inetSocketEntry = message('inet_sk_entry', {
  id: required(1, 'uint32'),
  ino: required(2, 'uint32'),
  family: required(3, 'uint32'),
  type: required(4, 'uint32'),
  proto: required(5, 'uint32'),
  state: required(6, 'uint32'),
  srcPort: required(7, 'uint32'),
  dstPort: required(8, 'uint32'),
  srcAddr: repeated(11, 'uint32'),
  dstAddr: repeated(12, 'uint32'),
});

const unixSocketEntry = message('unix_sk_entry', {
  id: required(1, 'uint32'),
  ino: required(2, 'uint32'),
  type: required(3, 'uint32'),
  state: required(4, 'uint32'),
  uflags: required(6, 'uint32'),
  peer: required(8, 'uint32'),
  name: required(11, 'bytes'),
  perms: optional(
    13,
    message('file_perms_entry', {
      mode: required(1, 'uint32'),
      uid: required(2, 'uint32'),
      gid: required(3, 'uint32'),
    }),
  ),
  nameDir: optional(14, 'string'),
  deleted: optional(15, 'bool'),
  mntId: optional(17, 'sint32'),
});

export const fileEntry = message('file_entry', {
  type: required(1, 'enum'),
  id: required(2, 'uint32'),
  reg: optional(3, regFileEntry),
  inet: optional(4, inetSocketEntry),
  timerfd: optional(12, 'bytes'),
  unix: optional(16, unixSocketEntry),
});

/** An open file whose name is gone: `kind` 0 lives on under another name, 1 travels in the image, 2 was in /proc. */
export const remapFpathEntry = message('remap_file_path_entry', {
  originalId: required(1, 'uint32'),
  remapId: required(2, 'uint32'),
  kind: optional(3, 'enum'),
});

const socketPacketEntry = message('sk_packet_entry', {
  idFor: required(1, 'uint32'),
  length: required(2, 'uint32'),
  controls: repeated(4, message('scm_entry', { type: required(1, 'uint32') })),
});

const pipeDataEntry = message('pipe_data_entry', {
  pipeId: required(1, 'uint32'),
  bytes: required(2, 'uint32'),
  size: optional(3, 'uint32'),
});

/** What waits in a pipe, and how much it can hold. */
export interface PipeContents {
  /** The inode that it had. */
  inode: number;
  data: Buffer;
  capacity: number | undefined;
}

/** What one socket has not read yet, in the order in which it came. */
export interface QueuedPacket {
  /** The id of the socket's file. */
  socketId: number;
  data: Buffer;
  /** Open files were sent with it. */
  hasDescriptors: boolean;
}

export const mountEntry = message('mnt_entry', {
  fstype: required(1, 'enum'),
  mntId: required(2, 'uint32'),
  rootDev: required(3, 'uint32'),
  parentMntId: required(4, 'uint32'),
  flags: required(5, 'uint32'),
  root: required(6, 'string'),
  mountPoint: required(7, 'string'),
  source: required(8, 'string'),
  options: required(9, 'string'),
  sharedId: optional(10, 'uint32'),
  masterId: optional(11, 'uint32'),
  extMount: optional(13, 'bool'),
  fsname: optional(14, 'string'),
  extKey: optional(18, 'string'),
});

/** The bytes of each entry of an image, as views. @throws WireError where it is not such an image, or cut off. */
export function* imageEntries(kind: ImageKind, image: Buffer): Generator<Buffer> {
  let offset = headerLength(kind, image);
  while (offset < image.length) {
    if (image.length - offset < 4) throw new WireError(`${kind} image: cut off at byte ${offset}`);
    const length = image.readUInt32LE(offset);
    offset += 4;
    if (length > image.length - offset) {
      throw new WireError(`${kind} image: an entry of ${length} bytes at byte ${offset} of ${image.length}`);
    }
    yield image.subarray(offset, offset + length);
    offset += length;
  }
}

function headerLength(kind: ImageKind, image: Buffer): number {
  const magics = kind === 'inventory' ? [imageMagic[kind]] : [commonMagic, imageMagic[kind]];
  const length = magics.length * 4;
  if (image.length < length) throw new WireError(`${kind} image: shorter than its head`);
  for (const [index, magic] of magics.entries()) {
    if (image.readUInt32LE(index * 4) !== magic)
      throw new WireError(`${kind} image: not an image of this kind`);
  }
  return length;
}

/** Images in which each entry is followed by as many bytes as it says. */
function* entriesWithData<F extends Fields>(
  kind: ImageKind,
  entryType: Message<F>,
  lengthOf: (entry: MessageOf<Message<F>>) => number,
  image: Buffer,
): Generator<{ entry: MessageOf<Message<F>>; data: Buffer }> {
  let offset = headerLength(kind, image);
  const take = (length: number) => {
    if (length > image.length - offset) throw new WireError(`${kind} image: cut off at byte ${offset}`);
    offset += length;
    return image.subarray(offset - length, offset);
  };
  while (offset < image.length) {
    const entry = decode(entryType, take(take(4).readUInt32LE(0)));
    yield { entry, data: take(lengthOf(entry)) };
  }
}

/** `sk-queues.img`. @throws WireError */
export function readSocketQueues(image: Buffer): QueuedPacket[] {
  const entries = entriesWithData('socketQueues', socketPacketEntry, ({ length }) => length, image);
  return Array.from(entries, ({ entry: { idFor, controls }, data }) => ({
    socketId: idFor,
    data,
    hasDescriptors: controls.length > 0,
  }));
}

/** `pipes-data.img`. @throws WireError */
export function readPipeContents(image: Buffer): PipeContents[] {
  const entries = entriesWithData('pipeData', pipeDataEntry, ({ bytes }) => bytes, image);
  return Array.from(entries, ({ entry: { pipeId, size }, data }) => ({
    inode: pipeId,
    data,
    capacity: size,
  }));
}

/** All entries of an image, decoded. @throws WireError */
export function readImage<F extends Fields>(
  kind: ImageKind,
  entry: Message<F>,
  image: Buffer,
): MessageOf<Message<F>>[] {
  return Array.from(imageEntries(kind, image), (bytes) => decode(entry, bytes));
}

/**
 * An image with entries changed at the level of the wire.
 * @param rewrite is given the bytes of each entry, and gives what takes their place: the same where nothing is to change.
 * @throws WireError where it is not such an image, or cut off
 */
export function rewriteImage(kind: ImageKind, image: Buffer, rewrite: (entry: Buffer) => Buffer): Buffer {
  const head = image.subarray(0, headerLength(kind, image));
  return Buffer.concat([head, ...Array.from(imageEntries(kind, image), (entry) => sized(rewrite(entry)))]);
}

/** An image of these entries. */
export function makeImage(kind: ImageKind, ...entries: Buffer[]): Buffer {
  const magics = kind === 'inventory' ? [imageMagic[kind]] : [commonMagic, imageMagic[kind]];
  const head = Buffer.alloc(magics.length * 4);
  for (const [index, magic] of magics.entries()) head.writeUInt32LE(magic, index * 4);
  return Buffer.concat([head, ...entries.map(sized)]);
}

function sized(entry: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(entry.length);
  return Buffer.concat([length, entry]);
}
