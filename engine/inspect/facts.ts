/**
 * What an inspection knows of a process tree: plain data, gathered once by `proc.ts`, `sockets.ts` and `outsiders.ts` and
 * handed to the rules in `ties/`.
 */

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
  | { kind: 'device'; type: 'character' | 'block'; major: number; minor: number }
  /** An end of a pseudo terminal; `key` is the same for both ends. */
  | { kind: 'terminal'; end: 'master' | 'slave'; key: string }
  | { kind: 'fifo'; inode: Inode }
  | { kind: 'memory-file' }
  | { kind: 'socket'; inode: number }
  | { kind: 'pipe'; inode: number }
  /** `type` as in `anon_inode:[TYPE]`; `pid` is what a pidfd is of, -1 where that has ended. */
  | { kind: 'kernel-object'; type: string; pid?: number }
  /** On a file system that may be slow to answer, so it was not looked at; or a folder, or a name of the kernel's. */
  | { kind: 'other' };

export type Descriptor = DescriptorKind & {
  fd: number;
  /** As readlink gives it: a path, or `socket:[123]`, `anon_inode:[eventpoll]` and the like. */
  target: string;
  /** Those of open(2). */
  flags: number;
  /** Id in {@link Facts.mounts}. */
  mount: number;
  /** Whether file locks are held by it. */
  locked: boolean;
};

/** A mapping that is more than memory or a file that is there. */
export type Mapping =
  | { kind: 'deleted'; path: string; inode: Inode }
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
  /** Namespace links by name, such as `pid:[4026531836]`. */
  namespaces: Readonly<Record<string, string>>;
  descriptors: Descriptor[];
  mappings: Mapping[];
}

export interface UnixSocket {
  inode: number;
  type: string;
  state: string;
  /** Inode of the other end, or 0. */
  peer: number;
  path: string;
}

export interface InternetSocket {
  inode: number;
  protocol: string;
  state: 'established' | 'listening' | 'other';
  local: string;
  remote: string;
  /** Of a listening socket: connections that nobody has accepted yet. */
  waiting: number;
  /** Inode of the other end where that is on this machine, or 0. */
  peer: number;
}

/** A process outside of the tree. */
export interface Outsider {
  pid: number;
  name: string;
}

export interface FileSystem {
  path: string;
  type: string;
  /** Of a disk that can be unplugged. */
  removable: boolean;
}

export interface Facts {
  /** The tree below {@link root}, that first. */
  processes: ProcessFacts[];
  /** The top of the tree: a capsule's init, or the process that was named. */
  root: number;
  isCapsule: boolean;
  /** In the capsule's cgroup or pid namespace, but not below its init. */
  strangers: Outsider[];
  unixSockets: ReadonlyMap<number, UnixSocket>;
  internetSockets: ReadonlyMap<number, InternetSocket>;
  /** By id. */
  mounts: ReadonlyMap<number, FileSystem>;
  /** By {@link endKey}: who outside has this socket, pipe, fifo or end of a terminal. */
  outsiders: ReadonlyMap<string, Outsider>;
  /** Names of processes outside that processes inside point to by pid: tracers, session leaders, pidfds. */
  names: ReadonlyMap<number, string>;
  /** Contents of the capsule's own tmpfs mounts, in bytes. */
  privateFileBytes: number;
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
