/**
 * What an inspection knows of a process tree: plain data, gathered once by `process-facts.ts`, `sockets.ts` and `outsiders.ts` and
 * handed to the rules in `ties/`.
 */
import type { ConnectionChoice, SocketChoice } from '../../api/types.ts';
import type { Inhibitor } from '../../proto/manifest.ts';

/** Of a descriptor that leads to something with a path. */
export interface Inode {
  /** Device and number, the same for the same file only. */
  key: string;
  bytes: number;
  /** Names it has left; 0 for a file that has been deleted. */
  links: number;
}

/** What a descriptor is of. */
export type DescriptorKind =
  | { kind: 'file'; inode: Inode }
  | { kind: 'folder' }
  /** Of POSIX; their file system is mounted nowhere that most processes see. */
  | { kind: 'message-queue' }
  | { kind: 'device'; type: 'character' | 'block'; major: number; minor: number }
  /** An end of a pseudo terminal; `key` is the same for both ends. */
  | { kind: 'terminal'; end: 'master' | 'slave'; key: string }
  | { kind: 'fifo'; inode: Inode }
  /** `key` as {@link Mapping} has it. */
  | { kind: 'memory-file'; key: string }
  | { kind: 'socket'; inode: number }
  | { kind: 'pipe'; inode: number }
  /** `type` as in `anon_inode:[TYPE]`; `pid` is what a pidfd is of, -1 where that has ended. */
  | {
      kind: 'kernel-object';
      type: string;
      pid?: number;
      watched?: readonly Watched[];
      /** Of a timerfd: one of clock_gettime(2). */
      clock?: number;
    }
  /** A handle of a namespace, `name` as in /proc/PID/ns. */
  | { kind: 'namespace'; name: string; inode: number }
  /** On a file system that may be slow to answer, so it was not looked at; or a name of the kernel's. */
  | { kind: 'other' };

export type Descriptor = DescriptorKind & {
  fd: number;
  /** As readlink gives it: a path, or `socket:[123]`, `anon_inode:[eventpoll]` and the like. */
  target: string;
  /** Those of open(2). */
  flags: number;
  /** Id in {@link Facts.mounts}. */
  mount: number;
  /** It has a path, but on a mount that the process does not see. */
  unseen: boolean;
  /** Whether file locks are held by it. */
  locked: boolean;
  /** Whether it has a lease: it is told before others open the file. */
  leased: boolean;
};

/** What an epoll, inotify or fanotify descriptor watches, as /proc/PID/fdinfo has it. */
export type Watched =
  | { kind: 'descriptor'; fd: number; inode: number }
  /** A file by its handle; `device` as in {@link FileSystem}. */
  | { kind: 'file'; device: string; type: number; handle: string };

/** A mapping that is more than memory or a file that is there. `key` is device and inode as /proc/PID/maps has them. */
export type Mapping =
  | { kind: 'deleted'; path: string; inode: Inode; key: string; replaced: boolean }
  /** Memory that other processes may have too. */
  | { kind: 'shared'; what: 'system-v' | 'memory-file' | 'anonymous'; key: string }
  | { kind: 'secret' }
  | { kind: 'device'; path: string; type: 'character' | 'block'; major: number; minor: number }
  | { kind: 'aio' };

export interface ProcessFacts {
  pid: number;
  ppid: number;
  /** Pid of the leader of its session, as the engine counts; 0 where that is out of sight. */
  session: number;
  name: string;
  command: string[];
  uid: number;
  /** All users that it acts as; a caller must be all of them to be shown what it holds. */
  owners: readonly number[];
  /** One letter, as in /proc/PID/stat. */
  state: string;
  /** Its main thread has ended, which is all that `state` tells, and others have not. */
  threadsLeft: boolean;
  kernelThread: boolean;
  /** In clock ticks since boot. */
  startTime: string;
  /** Of the controlling terminal, as {@link DescriptorKind} has it; undefined where there is none. */
  terminal: string | undefined;
  /** Pid of the process that traces it, or 0. */
  tracer: number;
  /** Proportional set size in bytes. */
  memoryBytes: number;
  /** Of that and of what is swapped out, what a checkpoint must save: all but pages of files. */
  imageBytes: number;
  /** That must not be swapped out. */
  lockedBytes: number;
  /** In pages of the kernel's reserve of huge ones. */
  hugeBytes: number;
  /** POSIX timers (timer_create(2)). */
  timers: number;
  seccomp: 'none' | 'strict' | 'filter';
  /** How many of them it has: each is given up for good. */
  filters: number;
  /** Its return addresses are guarded by the processor (x86 user shadow stack). */
  shadowStack: boolean;
  /** The processors on which it may run, as a list of numbers and ranges. */
  processors: string;
  /** Of timerfd and of POSIX timers: clocks that CRIU does not know. */
  alarmClocks: boolean;
  /** Namespace links by name, such as `pid:[4026531836]`. */
  namespaces: Readonly<Record<string, string>>;
  descriptors: Descriptor[];
  mappings: Mapping[];
  /** The folder that it works in, and the one that it has for a root, with the id of the mount each is on. */
  folders: readonly { path: string; mount: number; unseen: boolean }[];
}

export interface UnixSocket {
  inode: number;
  type: string;
  state: string;
  /** Inode of the other end, or 0. */
  peer: number;
  path: string;
  /** Bytes that it has sent and that have not been read. */
  unsent: number;
  /** Of a listening socket: inodes of those that wait to be accepted, 0 for one that has gone again. */
  waiting: readonly number[];
  /** Inode of the file that it has for a name; absent where it has none. */
  file?: number;
}

export interface InternetSocket {
  inode: number;
  protocol: string;
  /** `open` for one that is about to be connected or closed. */
  state: 'established' | 'listening' | 'open' | 'other';
  local: string;
  remote: string;
  /** Of a listening socket: connections that nobody has accepted yet. */
  waiting: number;
  /** Inode of the other end where that is on this machine, or 0. */
  peer: number;
  /** Bytes that have arrived and not been read; not counted for connections. */
  unread: number;
}

/** A socket to the kernel. */
export interface NetlinkSocket {
  inode: number;
  protocol: number;
  /** Its own address; 0 where it has none. */
  port: number;
  groups: number;
  unread: number;
}

/** A process outside of the tree. */
export interface Outsider {
  pid: number;
  /** Absent where it is not known. */
  ppid?: number;
  name: string;
  /** One of ours that stands between a program and a message bus: where that listens, and the name that is shown. */
  busLine?: { path: string; shown: string };
}

export interface FileSystem {
  /** Id of the mount that it is mounted on. */
  parent: number;
  path: string;
  type: string;
  /** Of a disk that can be unplugged. */
  removable: boolean;
  /** `major:minor`. */
  device: string;
}

/** What a process of the tree has in common with another one (kcmp(2)). */
export interface Shared {
  what: 'memory' | 'descriptors' | 'folder' | 'handlers';
  pid: number;
  /** An {@link Outsider}, or another process of the tree by its pid alone. */
  other: Outsider | number;
}

/** What a thread has for itself, where threads usually have it in common with their process. */
export type Apart = { pid: number } & (
  | { what: 'descriptors' | 'folder' | 'namespace' | 'processors' }
  | { what: 'tracer'; tracer: number; name: string }
);

/** A descriptor that is on its way from one process to another, in what a unix socket has for its reader. */
export interface InFlight {
  /** Whose socket it has reached. */
  pid: number;
  target: string;
  device?: { type: 'character' | 'block'; major: number; minor: number };
}

/** What a socket is set to, of what CRIU does not save. */
export type SocketSetting = 'cork' | 'filter' | 'groups' | 'multicast';

/** What `torpor-ties` found out: what the kernel tells only who asks for it. */
export interface Hidden {
  shared: readonly Shared[];
  threads: readonly Apart[];
  inFlight: readonly InFlight[];
  /** Sockets that have something for their reader with word of who sent it or when, by {@link descriptorKey}. */
  words: ReadonlySet<string>;
  /** By {@link descriptorKey}. */
  settings: ReadonlyMap<string, ReadonlySet<SocketSetting>>;
  /** Files whose position and locks somebody outside has too, by {@link descriptorKey}. */
  sameFile: ReadonlyMap<string, Outsider>;
  /** Who outside has this memory too, by {@link Mapping}'s key. */
  mappers: ReadonlyMap<string, Outsider>;
  /** Pids of those who may have semaphores that are given back when they end (SEM_UNDO). */
  undo: ReadonlySet<number>;
  /** Protocols of sockets that are in no table, by inode, as the kernel names them. */
  protocols: ReadonlyMap<number, string>;
  /** What inotify and fanotify descriptors have not told yet, in bytes, by {@link descriptorKey}. */
  unread: ReadonlyMap<string, number>;
  /** Watched files that cannot be found by their handle, by {@link descriptorKey} of who watches: file systems' types. */
  lost: ReadonlyMap<string, readonly string[]>;
}

export const nothingHidden: Hidden = {
  shared: [],
  threads: [],
  inFlight: [],
  words: new Set(),
  settings: new Map(),
  sameFile: new Map(),
  mappers: new Map(),
  undo: new Set(),
  protocols: new Map(),
  unread: new Map(),
  lost: new Map(),
};

export const descriptorKey = (pid: number, fd: number) => `${pid} ${fd}`;

export interface Facts {
  /** The tree below {@link root}, that first. */
  processes: ProcessFacts[];
  /** The top of the tree: a capsule's init, or the process that was named. */
  root: number;
  isCapsule: boolean;
  /** In a pid namespace of which it has the first process. */
  hasOwnPids: boolean;
  /** A job in namespaces that are neither the engine's nor of the engine's making. */
  isContained: boolean;
  /** The mounts that a job comes back among, as the link of their namespace; absent for a capsule, which brings its own. */
  jobMounts?: string | undefined;
  /** In the capsule's cgroup or pid namespace, but not below its init. */
  strangers: Outsider[];
  unixSockets: ReadonlyMap<number, UnixSocket>;
  /** Those with an end outside that somebody inside reads from just now, and sleeps until something comes. */
  awaited?: ReadonlySet<number>;
  /** What the user has chosen for those with an end outside; where nothing, that is a matter of whose end it is. */
  externalSockets?: SocketChoice;
  /** What becomes of TCP connections; `close` where nothing is chosen. */
  connections?: ConnectionChoice;
  /** Workloads that are suspended at the same instant, by the pids of their processes. */
  companions?: ReadonlyMap<number, string>;
  /** Names of plugins, by the pids of their processes: they let go before a suspend. */
  plugins?: ReadonlyMap<number, string>;
  /** Ids of other workloads that run, by the pids of their processes. */
  neighbours?: ReadonlyMap<number, string>;
  internetSockets: ReadonlyMap<number, InternetSocket>;
  netlinkSockets: ReadonlyMap<number, NetlinkSocket>;
  /** The processors on which a process may run that nobody has bound to some of them. */
  processors: string;
  /** Whether root's group may have sockets for pings. */
  mayPing: boolean;
  /** By id. */
  mounts: ReadonlyMap<number, FileSystem>;
  /** By {@link endKey}: who outside has this socket, pipe, fifo or end of a terminal. */
  outsiders: ReadonlyMap<string, Outsider>;
  /** Of a job: what it holds of the log-in manager, by path. */
  inhibitors?: ReadonlyMap<string, Inhibitor>;
  /** Names of processes outside that processes inside point to by pid: tracers, session leaders, pidfds. */
  names: ReadonlyMap<number, string>;
  /** Contents of the capsule's own tmpfs mounts, in bytes. */
  privateFileBytes: number;
  hidden: Hidden;
  /** Memory that is free now or would be if it were needed, and all there is, in bytes. */
  memory: { available: number; total: number };
  /** At the state folder. */
  freeBytes: number;
}

/** A name for what two processes can have an end of; undefined for what has no ends. */
export function endKey(descriptor: DescriptorKind): string | undefined {
  switch (descriptor.kind) {
    case 'socket':
    case 'pipe':
      return `${descriptor.kind}:${descriptor.inode}`;
    case 'fifo':
      return `fifo:${descriptor.inode.key}`;
    case 'terminal':
      return `${descriptor.end}:${descriptor.key}`;
    default:
      return undefined;
  }
}
