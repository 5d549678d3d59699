/**
 * What the engine may ask of CRIU, in its own words, and the one place where that becomes CRIU's options. No client
 * of the engine passes any of this: it names what it wants, and the engine chooses.
 */
import { cgroupMode, type criuOptions, networkLockMethod } from '../../proto/criu-rpc.ts';
import type { InputOf } from '../../proto/wire.ts';

/** A descriptor of ours that CRIU gives to the restored process in place of one it had: key as CRIU names it. */
export interface InheritedFd {
  /** For instance `socket:[1234]`, `pipe:[1234]`, `tty[RDEV:DEV]`. */
  key: string;
  fd: number;
}

interface CommonOptions {
  imagesDir: string;
  /** Where CRIU writes its log; the images' folder if not given. */
  workDir?: string;
  /** A plain name, in {@link workDir}. */
  logFile: string;
  /** As {@link externalMount} and its like make them. */
  external?: readonly string[];
  fileLocks?: boolean;
  linkRemap?: boolean;
  evasiveDevices?: boolean;
  forceIrmap?: boolean;
  tcpEstablished?: boolean;
  /** Connected TCP sockets come back closed. */
  tcpClose?: boolean;
  /** Connections that wait to be accepted are dropped. */
  skipInFlight?: boolean;
  /** How connections are held still; `skip` if not given. CRIU's own default wants iptables. */
  networkLock?: 'skip' | 'nftables';
  extUnixSk?: boolean;
  /** The session and terminal are somebody else's: a job. CRIU's standard input then is the terminal. */
  shellJob?: boolean;
  mntnsCompatMode?: boolean;
  /** Path of the plan (engine/sockets/plan.ts) for the plugin; where there is none, no plugin is loaded. */
  socketPlan?: string;
}

export interface DumpOptions extends CommonOptions {
  /** File of pages that need not be handed over (native/unwritten/left-out.h), if it is there once all stand still. */
  leftOut?: string | undefined;
  pid: number;
  leaveRunning?: boolean;
  /** Leaves the processes stopped after the dump, rather than ended or running. */
  leaveStopped?: boolean;
  /** The cgroup's folder by which CRIU freezes the tree at one instant. It must not be frozen already: CRIU hangs. */
  freezeCgroup?: string;
  /** Largest deleted but open file taken along, in bytes; 1 MiB if not given. */
  ghostLimit?: number;
  /** Limit for the freezing and for each step of CRIU, in seconds; 10 if not given. */
  timeout?: number;
  /** Pages go to a page server behind this descriptor of ours, a connected stream socket, not into images. */
  pageServer?: { fd: number };
  /** Folder of the previous images, relative to the images, of which unchanged pages are left out. */
  parentImages?: string;
  trackMemory?: boolean;
  skipMounts?: readonly string[];
}

export interface RestoreOptions extends CommonOptions {
  /** The root of the restored mount namespace: a mount point. */
  root?: string;
  inheritFd?: readonly InheritedFd[];
  /** Descriptors of ours that the plugin hands on, by the plan: the first as {@link firstGivenFd}, and so on. */
  pluginFds?: readonly number[];
  /** Keys of terminals that others take the place of: the first that of CRIU's standard input, then its output. */
  terminalKeys?: readonly string[];
  /** Pages come from a lazy-pages daemon. */
  lazyPages?: boolean;
  skipFileRwxCheck?: boolean;
}

/** Values for `external`: what lies outside the processes and is named rather than saved. */
export const external = {
  mountAtDump: (mountPoint: string, key: string) => `mnt[${mountPoint}]:${key}`,
  mountAtRestore: (key: string, source: string) => `mnt[${key}]:${source}`,
  /** A stream socket whose peer is outside, by the inode of its own end. */
  unixSocket: (inode: number) => `unix[${inode}]`,
  /** A terminal, by device and inode numbers as CRIU prints them. */
  terminal: (rdev: number, dev: number) => `tty[${rdev.toString(16)}:${dev.toString(16)}]`,
} as const;

/** Descriptors in CRIU's process: of 0 to 3, the last is the RPC's socket; those it is given for its work follow. */
export const firstGivenFd = 4;

/** Options as they are sent, and which descriptors of ours CRIU's process is to have, from {@link firstGivenFd} on. */
export interface PreparedOptions {
  wire: InputOf<typeof criuOptions>;
  fds: number[];
}

/**
 * The folders as CRIU is told of them: descriptors, open in this process, of which CRIU opens /proc/OURS/fd/N; or, for
 * a CRIU in another pid namespace, where this process has no number, the path of the images. Such a one is told its work
 * folder as it is started.
 */
export type Folders =
  | { kind: 'descriptors'; images: number; work: number | undefined }
  | { kind: 'path'; images: string };

/**
 * On CRIU's own scale, of 1 for errors to 4 for everything. An application stands still while CRIU writes its log, of ten
 * thousand lines for an xterm, and what explains a failure is among the warnings and errors (2). The run id, by which a
 * lock on the network is found, is information (3).
 */
const logLevelOf = ({ networkLock = 'skip' }: CommonOptions) => (networkLock === 'skip' ? 2 : 3);

function common(options: CommonOptions, folders: Folders): InputOf<typeof criuOptions> {
  return {
    ...(folders.kind === 'path'
      ? { imagesDirFd: -1, imagesDir: folders.images }
      : { imagesDirFd: folders.images, workDirFd: folders.work }),
    logFile: options.logFile,
    logLevel: logLevelOf(options),
    notifyScripts: true,
    external: options.external,
    fileLocks: options.fileLocks,
    linkRemap: options.linkRemap,
    evasiveDevices: options.evasiveDevices,
    forceIrmap: options.forceIrmap,
    tcpEstablished: options.tcpEstablished,
    tcpClose: options.tcpClose,
    tcpSkipInFlight: options.skipInFlight,
    networkLock: networkLockMethod[options.networkLock ?? 'skip'],
    extUnixSk: options.extUnixSk,
    shellJob: options.shellJob,
    mntnsCompatMode: options.mntnsCompatMode,
    // The engine has its own cgroups and puts the processes there.
    manageCgroupsMode: cgroupMode.ignore,
  };
}

export function dumpOptions(options: DumpOptions, folders: Folders): PreparedOptions {
  return {
    wire: {
      ...common(options, folders),
      pid: options.pid,
      leaveRunning: options.leaveRunning,
      leaveStopped: options.leaveStopped,
      freezeCgroup: options.freezeCgroup,
      ghostLimit: options.ghostLimit,
      timeout: options.timeout,
      ps: options.pageServer && { fd: firstGivenFd },
      parentImg: options.parentImages,
      trackMem: options.trackMemory,
      skipMnt: options.skipMounts,
    },
    fds: options.pageServer === undefined ? [] : [options.pageServer.fd],
  };
}

/** What CRIU hands on it has no longer, and for a job it needs its standard input itself. */
function terminalFds({ terminalKeys = [], shellJob }: RestoreOptions): InheritedFd[] {
  const first = shellJob ? 1 : 0;
  return terminalKeys.map((key, index) => ({ key, fd: first + index }));
}

export function restoreOptions(options: RestoreOptions, folders: Folders): PreparedOptions {
  const inherited = options.inheritFd ?? [];
  const given = options.pluginFds ?? [];
  const firstInherited = firstGivenFd + given.length;
  return {
    wire: {
      ...common(options, folders),
      root: options.root,
      inheritFd: [
        ...inherited.map(({ key }, index) => ({ key, fd: firstInherited + index })),
        ...terminalFds(options),
      ],
      lazyPages: options.lazyPages,
      skipFileRwxCheck: options.skipFileRwxCheck,
    },
    fds: [...given, ...inherited.map(({ fd }) => fd)],
  };
}
