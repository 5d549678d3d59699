/**
 * What lies in a checkpoint, read from CRIU's images: processes with their credentials, files, sockets, mounts. A
 * resume decides on it before CRIU sees any of it, so nothing is taken on trust: every size is bounded, every
 * reference must lead somewhere, and a link is not followed. Pids, paths and ids are those inside the capsule.
 */
import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import {
  coreEntry,
  externalTty,
  fdinfoEntry,
  fileEntry,
  fileTypes,
  fsEntry,
  type ImageKind,
  inventoryEntry,
  kobjIds,
  mmEntry,
  mountEntry,
  pstreeEntry,
  readImage,
  remapFpathEntry,
  ttyInfoEntry,
  vmaStatus,
} from '../../proto/images.ts';
import { type Fields, type Message, type MessageOf, WireError } from '../../proto/wire.ts';
import { external } from './options.ts';

/** Images of metadata are far smaller: the largest, of a browser's mappings, has less than 1 MiB. */
const imageLimit = 64 * 1024 * 1024;

export interface Credentials {
  uid: number;
  gid: number;
  euid: number;
  egid: number;
  suid: number;
  sgid: number;
  fsuid: number;
  fsgid: number;
  groups: number[];
  /** Sets of capabilities, bit N for capability N. */
  inheritable: bigint;
  permitted: bigint;
  effective: bigint;
  bounding: bigint;
  ambient: bigint;
  securebits: number;
  noNewPrivs: boolean;
}

export type SeccompMode = 'disabled' | 'strict' | 'filter' | 'unknown';

export interface ThreadImage {
  tid: number;
  comm: string | undefined;
  credentials: Credentials;
  seccomp: SeccompMode;
}

export interface DescriptorImage {
  fd: number;
  kind: (typeof fileTypes)[number] | 'unknown';
  /** Leads to a file or socket, where the kind is one of those read here. */
  fileId: number;
}

interface ProcessCommon {
  pid: number;
  ppid: number;
  pgid: number;
  sid: number;
  comm: string;
}

/** A process that lives has threads, the first of them its own; one that has ended and is not reaped yet has none. */
export type ProcessImage =
  | (ProcessCommon & {
      kind: 'alive';
      stopped: boolean;
      threads: ThreadImage[];
      descriptors: DescriptorImage[];
      /** Ids of files. Absent where the process shares them with another one. */
      executable: number | undefined;
      cwd: number | undefined;
      root: number | undefined;
    })
  | (ProcessCommon & { kind: 'ended' });

export interface RegFileImage {
  id: number;
  path: string;
  /** The path as it is, which need not be UTF-8. */
  rawPath: Buffer;
  /** Those of open(2). */
  flags: number;
  position: number;
  /** Checked by CRIU at the restore; absent for folders and what has no fixed size. */
  size: number | undefined;
  mode: number | undefined;
  /** The mount it lies on; -1 where CRIU does not say. */
  mountId: number;
  /** Not in the image but inherited at the restore. */
  isExternal: boolean;
  /** The program of a process. */
  isExecutable: boolean;
  /** Mapped to be executed: programs and libraries. */
  isMappedExecutable: boolean;
  isMapped: boolean;
  /** Its name was gone when the checkpoint was made: where it comes from at the restore. */
  remap: 'none' | 'linked' | 'ghost' | 'procfs' | 'unknown';
  /** The number of a ghost. */
  ghostId: number | undefined;
}

export interface UnixSocketImage {
  id: number;
  inode: number;
  type: 'stream' | 'datagram' | 'seqpacket' | 'unknown';
  isListening: boolean;
  /** Inode of the peer, 0 where there is none. */
  peer: number;
  name: { kind: 'none' } | { kind: 'abstract'; name: Buffer } | { kind: 'path'; path: string };
  /** The name as it is, as bind(2) was given it; empty where there is none. */
  rawName: Buffer;
  /** The folder a relative path counts from. */
  folder: string | undefined;
  /** The path was gone when the checkpoint was made. */
  isDeleted: boolean;
  owner: { uid: number; gid: number; mode: number } | undefined;
  /** The peer, outside, of one that is inside: only its name is known. */
  isExternal: boolean;
  /** The plugin has said that it makes it at the restore. */
  isMadeByPlugin: boolean;
}

export interface InetSocketImage {
  id: number;
  inode: number;
  family: 'ipv4' | 'ipv6' | 'unknown';
  protocol: 'tcp' | 'udp' | 'other';
  /** TCP's states, as the kernel counts: 1 established, 10 listening. */
  state: number;
  /** Its bytes. */
  localAddress: number[];
  localPort: number;
  remoteAddress: number[];
  /** 0 where it is not connected. */
  remotePort: number;
}

export interface MountImage {
  id: number;
  parentId: number;
  mountPoint: string;
  root: string;
  source: string;
  options: string;
  /** The key of an external mount. */
  externalKey: string | undefined;
}

export interface Images {
  imageVersion: number;
  closesTcp: boolean;
  processes: ProcessImage[];
  regFiles: RegFileImage[];
  unixSockets: UnixSocketImage[];
  inetSockets: InetSocketImage[];
  mounts: MountImage[];
  terminals: TerminalImage[];
}

export interface TerminalImage {
  /** As CRIU names a terminal that it is given. */
  key: string;
  /** It is not made by the restore but given to it. */
  isGiven: boolean;
  /** The process group in its foreground; 0 where there is none. */
  foreground: number;
}

/**
 * Reads a checkpoint's images.
 * @throws TorporError `failed`, naming the file, where one is missing, cut off or not what it should be.
 */
export async function readImages(folder: string): Promise<Images> {
  const images = new ImageFolder(folder);
  const [inventory] = await images.read('inventory.img', 'inventory', inventoryEntry);
  if (inventory === undefined) throw damaged(folder, 'inventory.img', 'it is empty');
  const remaps = await images.readIfThere('remap-fpath.img', 'remapFpath', remapFpathEntry);
  const files = await images.read('files.img', 'files', fileEntry);
  const { processes, uses } = await readProcesses(images);
  const remapOf = new Map(remaps.map((remap) => [remap.originalId, remap]));
  return {
    imageVersion: inventory.imageVersion,
    closesTcp: inventory.tcpClose ?? false,
    processes,
    regFiles: files.flatMap(({ reg }) =>
      reg === undefined ? [] : [regFileOf(reg, uses.get(reg.id), remapOf)],
    ),
    unixSockets: unixSocketsIn(files),
    inetSockets: inetSocketsIn(files),
    mounts: await readMountImages(images),
    terminals: await readTerminals(images),
  };
}

/** Just these of a checkpoint, without what takes longer the more processes there are. @throws TorporError, as `readImages`. */
export async function readInetSockets(folder: string): Promise<InetSocketImage[]> {
  return inetSocketsIn(await new ImageFolder(folder).read('files.img', 'files', fileEntry));
}

/** As {@link readInetSockets}. */
export async function readUnixSockets(folder: string): Promise<UnixSocketImage[]> {
  return unixSocketsIn(await new ImageFolder(folder).read('files.img', 'files', fileEntry));
}

const unixSocketsIn = (files: readonly FileEntry[]) =>
  files.flatMap(({ unix }) => (unix === undefined ? [] : [unixSocketOf(unix)]));

const inetSocketsIn = (files: readonly FileEntry[]) =>
  files.flatMap(({ inet }) => (inet === undefined ? [] : [inetSocketOf(inet)]));

async function readTerminals(images: ImageFolder): Promise<TerminalImage[]> {
  const entries = await images.readIfThere('tty-info.img', 'ttyInfo', ttyInfoEntry);
  return entries.map(({ type, rdev, dev = 0, pgrp }) => ({
    key: external.terminal(rdev, dev),
    isGiven: type === externalTty,
    foreground: pgrp,
  }));
}

interface FileUse {
  isExecutable: boolean;
  isMappedExecutable: boolean;
}

/** Each process has about six images; more at once would only hold more descriptors open. */
const processesAtOnce = 16;

async function readProcesses(images: ImageFolder) {
  const entries = await images.read('pstree.img', 'pstree', pstreeEntry);
  if (entries.length === 0) throw damaged(images.path, 'pstree.img', 'it has no process');
  const seen = new Set<number>();
  for (const entry of entries) {
    // The first thread is the process itself; of one that has ended CRIU writes what happens to lie in memory there.
    for (const id of new Set([entry.pid, ...entry.threads.slice(1)])) {
      if (seen.has(id)) throw damaged(images.path, 'pstree.img', `it has process ${id} twice`);
      seen.add(id);
    }
  }
  const uses = new Map<number, FileUse>();
  const processes: ProcessImage[] = [];
  for (let start = 0; start < entries.length; start += processesAtOnce) {
    const some = entries.slice(start, start + processesAtOnce);
    processes.push(...(await Promise.all(some.map((entry) => readProcess(images, entry, uses)))));
  }
  return { processes, uses };
}

const taskState = { alive: 1, dead: 2, stopped: 3, zombie: 6 } as const;

async function readProcess(
  images: ImageFolder,
  { pid, ppid, pgid, sid, threads: tids }: MessageOf<typeof pstreeEntry>,
  uses: Map<number, FileUse>,
): Promise<ProcessImage> {
  const core = await readCore(images, pid);
  if (core.task === undefined) throw damaged(images.path, `core-${pid}.img`, 'it describes no process');
  const common = { pid, ppid, pgid, sid, comm: core.task.comm };
  const { state } = core.task;
  if (state === taskState.dead || state === taskState.zombie) return { ...common, kind: 'ended' };
  if (state !== taskState.alive && state !== taskState.stopped) {
    throw damaged(images.path, `core-${pid}.img`, `it has the unknown state ${state}`);
  }
  const threads: ThreadImage[] = [];
  for (const tid of new Set([pid, ...tids])) {
    threads.push(threadOf(images, tid, tid === pid ? core : await readCore(images, tid), core));
  }
  const [mm] = await images.readIfThere(`mm-${pid}.img`, 'mm', mmEntry);
  if (mm !== undefined) noteUses(mm, uses);
  const [ids] = await images.readIfThere(`ids-${pid}.img`, 'ids', kobjIds);
  const [fs] = await images.readIfThere(`fs-${pid}.img`, 'fs', fsEntry);
  return {
    ...common,
    kind: 'alive',
    stopped: state === taskState.stopped,
    threads,
    descriptors: await readDescriptors(images, ids?.filesId ?? core.ids?.filesId),
    executable: mm?.exeFileId,
    cwd: fs?.cwdId,
    root: fs?.rootId,
  };
}

async function readCore(images: ImageFolder, tid: number): Promise<MessageOf<typeof coreEntry>> {
  const [core] = await images.read(`core-${tid}.img`, 'core', coreEntry);
  if (core === undefined) throw damaged(images.path, `core-${tid}.img`, 'it is empty');
  return core;
}

function threadOf(
  images: ImageFolder,
  tid: number,
  { thread }: MessageOf<typeof coreEntry>,
  leader: MessageOf<typeof coreEntry>,
): ThreadImage {
  const creds = thread?.creds;
  // CRIU would read them from creds-N.img then, which nobody here has checked.
  if (creds === undefined) throw damaged(images.path, `core-${tid}.img`, 'it has no credentials');
  const { uid, gid, euid, egid, suid, sgid, fsuid, fsgid, groups, secbits } = creds;
  const mode = thread?.seccompMode ?? leader.task?.oldSeccompMode ?? 0;
  return {
    tid,
    comm: thread?.comm,
    credentials: {
      ...{ uid, gid, euid, egid, suid, sgid, fsuid, fsgid, groups },
      inheritable: capabilitySet(creds.capInh),
      permitted: capabilitySet(creds.capPrm),
      effective: capabilitySet(creds.capEff),
      bounding: capabilitySet(creds.capBnd),
      ambient: capabilitySet(creds.capAmb),
      securebits: secbits,
      noNewPrivs: (creds.noNewPrivs ?? 0) !== 0,
    },
    seccomp: (['disabled', 'strict', 'filter'] as const)[mode] ?? 'unknown',
  };
}

/** Words of 32 bits, the lowest first. */
function capabilitySet(words: readonly number[]): bigint {
  return words.reduceRight((set, word) => (set << 32n) | BigInt(word), 0n);
}

const protExec = 4;

function noteUses(mm: MessageOf<typeof mmEntry>, uses: Map<number, FileUse>): void {
  const note = (id: number, use: Partial<FileUse>) => {
    uses.set(id, { isExecutable: false, isMappedExecutable: false, ...uses.get(id), ...use });
  };
  note(mm.exeFileId, { isExecutable: true });
  for (const { status, shmid, prot } of mm.vmas) {
    if ((status & (vmaStatus.filePrivate | vmaStatus.fileShared)) === 0) continue;
    note(Number(shmid), (prot & protExec) === 0 ? {} : { isMappedExecutable: true });
  }
}

async function readDescriptors(images: ImageFolder, filesId: number | undefined): Promise<DescriptorImage[]> {
  if (filesId === undefined) return [];
  const entries = await images.readIfThere(`fdinfo-${filesId}.img`, 'fdinfo', fdinfoEntry);
  return entries.map(({ fd, id, type }) => ({ fd, fileId: id, kind: fileTypes[type] ?? 'unknown' }));
}

type FileEntry = MessageOf<typeof fileEntry>;

const remapKinds = ['linked', 'ghost', 'procfs'] as const;

function regFileOf(
  reg: NonNullable<FileEntry['reg']>,
  use: FileUse | undefined,
  remapOf: ReadonlyMap<number, MessageOf<typeof remapFpathEntry>>,
): RegFileImage {
  const remap = remapOf.get(reg.id);
  const kind = remap && (remapKinds[remap.kind ?? 0] ?? 'unknown');
  const path = reg.name.toString('utf8');
  return {
    id: reg.id,
    path,
    rawPath: reg.name,
    flags: reg.flags,
    position: Number(reg.pos),
    size: reg.size === undefined ? undefined : Number(reg.size),
    mode: reg.mode,
    mountId: reg.mntId ?? -1,
    isExternal: reg.ext ?? false,
    isExecutable: use?.isExecutable ?? false,
    isMappedExecutable: use?.isMappedExecutable ?? false,
    isMapped: use !== undefined,
    remap: kind ?? 'none',
    ghostId: kind === 'ghost' ? remap?.remapId : undefined,
  };
}

const socketTypes = new Map([
  [1, 'stream'],
  [2, 'datagram'],
  [5, 'seqpacket'],
] as const);
const listening = 10;
const unixSocketExternal = 1;
const unixSocketByPlugin = 4;

function unixSocketOf(unix: NonNullable<FileEntry['unix']>): UnixSocketImage {
  const { perms } = unix;
  return {
    id: unix.id,
    inode: unix.ino,
    type: socketTypes.get(unix.type as 1) ?? 'unknown',
    isListening: unix.state === listening,
    peer: unix.peer,
    name: socketName(unix.name),
    rawName: unix.name,
    folder: unix.nameDir,
    isDeleted: unix.deleted ?? false,
    owner: perms && { uid: perms.uid, gid: perms.gid, mode: perms.mode },
    isExternal: (unix.uflags & unixSocketExternal) !== 0,
    isMadeByPlugin: (unix.uflags & unixSocketByPlugin) !== 0,
  };
}

/** unix(7): a name that begins with NUL is abstract, any other a path, with or without a NUL at its end. */
function socketName(name: Buffer): UnixSocketImage['name'] {
  if (name.length === 0) return { kind: 'none' };
  if (name[0] === 0) return { kind: 'abstract', name: name.subarray(1) };
  const end = name.indexOf(0);
  return { kind: 'path', path: name.toString('utf8', 0, end < 0 ? name.length : end) };
}

const inetFamilies = new Map([
  [2, 'ipv4'],
  [10, 'ipv6'],
] as const);
const inetProtocols = new Map([
  [6, 'tcp'],
  [17, 'udp'],
] as const);

function inetSocketOf(inet: NonNullable<FileEntry['inet']>): InetSocketImage {
  return {
    id: inet.id,
    inode: inet.ino,
    family: inetFamilies.get(inet.family as 2) ?? 'unknown',
    protocol: inetProtocols.get(inet.proto as 6) ?? 'other',
    state: inet.state,
    localAddress: bytesOf(inet.srcAddr, inet.family),
    localPort: inet.srcPort,
    remoteAddress: bytesOf(inet.dstAddr, inet.family),
    remotePort: inet.dstPort,
  };
}

/** CRIU writes an address as numbers of 32 bits, as they lie in memory. */
function bytesOf(words: readonly number[], family: number): number[] {
  const bytes = words.flatMap((word) => [word & 255, (word >>> 8) & 255, (word >>> 16) & 255, word >>> 24]);
  return bytes.slice(0, inetFamilies.get(family as 2) === 'ipv4' ? 4 : 16);
}

async function readMountImages(images: ImageFolder): Promise<MountImage[]> {
  const mounts: MountImage[] = [];
  for (const name of (await images.names()).filter((name) => /^mountpoints-\d+\.img$/.test(name)).sort()) {
    for (const mount of await images.read(name, 'mountpoints', mountEntry)) {
      const { mntId: id, parentMntId: parentId, mountPoint, root, source, options } = mount;
      mounts.push({ id, parentId, mountPoint, root, source, options, externalKey: mount.extKey });
    }
  }
  return mounts;
}

/** A folder of images, each read whole, within the limit. */
class ImageFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async names(): Promise<string[]> {
    return await readdir(this.path);
  }

  async read<F extends Fields>(name: string, kind: ImageKind, entry: Message<F>) {
    const bytes = await this.#bytes(name);
    if (bytes === undefined) throw damaged(this.path, name, 'it is missing');
    return this.#decode(name, kind, entry, bytes);
  }

  /** None where there is no such image: CRIU writes many only where there is something to say. */
  async readIfThere<F extends Fields>(name: string, kind: ImageKind, entry: Message<F>) {
    const bytes = await this.#bytes(name);
    return bytes === undefined ? [] : this.#decode(name, kind, entry, bytes);
  }

  #decode<F extends Fields>(name: string, kind: ImageKind, entry: Message<F>, bytes: Buffer) {
    try {
      return readImage(kind, entry, bytes);
    } catch (error) {
      if (error instanceof WireError) throw damaged(this.path, name, error.message, error);
      throw error;
    }
  }

  async #bytes(name: string): Promise<Buffer | undefined> {
    try {
      // Not blocking: a hostile image may be a pipe.
      await using file = await open(
        join(this.path, name),
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
      const stat = await file.stat();
      if (!stat.isFile()) throw damaged(this.path, name, 'it is not a file');
      if (stat.size > imageLimit) throw damaged(this.path, name, `it has ${stat.size} bytes`);
      const bytes = Buffer.alloc(stat.size);
      const { bytesRead } = await file.read(bytes, 0, stat.size, 0);
      return bytes.subarray(0, bytesRead);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return undefined;
      if (code === 'ELOOP') throw damaged(this.path, name, 'it is a link');
      throw error;
    }
  }
}

function damaged(folder: string, name: string, why: string, cause?: Error): TorporError {
  return new TorporError(
    'failed',
    `The checkpoint’s file ${name} is damaged: ${why}.`,
    'Check the disk, and the snapshot with `torpor verify`.',
    { path: join(folder, name) },
    cause && { cause },
  );
}
