/**
 * CRIU's RPC, as far as Torpor speaks it: one request a message, one response a message, over a SOCK_SEQPACKET
 * socket. Field numbers and types are the interface's (images/rpc.proto of CRIU 4.2); fields Torpor never sends are
 * left out. A notification is a response of type `notify` in the middle of a dump or restore, to be answered by a
 * request of the same type before CRIU goes on.
 */
import { type MessageOf, message, optional, repeated, required } from './wire.ts';

export const requestType = {
  empty: 0,
  dump: 1,
  restore: 2,
  check: 3,
  notify: 6,
  featureCheck: 9,
  version: 10,
} as const;

export const networkLockMethod = { iptables: 1, nftables: 2, skip: 3 } as const;

export const cgroupMode = { ignore: 0 } as const;

const pageServer = message('criu_page_server_info', {
  address: optional(1, 'string'),
  port: optional(2, 'int32'),
  pid: optional(3, 'int32'),
  fd: optional(4, 'int32'),
});

const inheritFd = message('inherit_fd', { key: required(1, 'string'), fd: required(2, 'int32') });

export const criuOptions = message('criu_opts', {
  imagesDirFd: required(1, 'int32'),
  pid: optional(2, 'int32'),
  leaveRunning: optional(3, 'bool'),
  extUnixSk: optional(4, 'bool'),
  tcpEstablished: optional(5, 'bool'),
  evasiveDevices: optional(6, 'bool'),
  shellJob: optional(7, 'bool'),
  fileLocks: optional(8, 'bool'),
  logLevel: optional(9, 'int32'),
  logFile: optional(10, 'string'),
  ps: optional(11, pageServer),
  notifyScripts: optional(12, 'bool'),
  root: optional(13, 'string'),
  parentImg: optional(14, 'string'),
  trackMem: optional(15, 'bool'),
  autoDedup: optional(16, 'bool'),
  workDirFd: optional(17, 'int32'),
  linkRemap: optional(18, 'bool'),
  forceIrmap: optional(21, 'bool'),
  rstSibling: optional(26, 'bool'),
  inheritFd: repeated(27, inheritFd),
  skipMnt: repeated(31, 'string'),
  enableFs: repeated(32, 'string'),
  manageCgroupsMode: optional(34, 'enum'),
  ghostLimit: optional(35, 'uint32'),
  irmapScanPaths: repeated(36, 'string'),
  external: repeated(37, 'string'),
  freezeCgroup: optional(44, 'string'),
  timeout: optional(45, 'uint32'),
  tcpSkipInFlight: optional(46, 'bool'),
  lazyPages: optional(48, 'bool'),
  tcpClose: optional(52, 'bool'),
  networkLock: optional(64, 'enum'),
  mntnsCompatMode: optional(65, 'bool'),
  skipFileRwxCheck: optional(66, 'bool'),
  imagesDir: optional(68, 'string'),
  leaveStopped: optional(69, 'bool'),
});

const features = message('criu_features', {
  memTrack: optional(1, 'bool'),
  lazyPages: optional(2, 'bool'),
  pidfdStore: optional(3, 'bool'),
});

export const criuRequest = message('criu_req', {
  type: required(1, 'enum'),
  opts: optional(2, criuOptions),
  notifySuccess: optional(3, 'bool'),
  keepOpen: optional(4, 'bool'),
  features: optional(5, features),
});

export const criuResponse = message('criu_resp', {
  type: required(1, 'enum'),
  success: required(2, 'bool'),
  dump: optional(3, message('criu_dump_resp', { restored: optional(1, 'bool') })),
  restore: optional(4, message('criu_restore_resp', { pid: required(1, 'int32') })),
  notify: optional(5, message('criu_notify', { script: optional(1, 'string'), pid: optional(2, 'int32') })),
  ps: optional(6, pageServer),
  errno: optional(7, 'int32'),
  features: optional(8, features),
  version: optional(
    10,
    message('criu_version', {
      major: required(1, 'int32'),
      minor: required(2, 'int32'),
      gitid: optional(3, 'string'),
      sublevel: optional(4, 'int32'),
      extra: optional(5, 'int32'),
      name: optional(6, 'string'),
    }),
  ),
});

export type CriuResponse = MessageOf<typeof criuResponse>;
