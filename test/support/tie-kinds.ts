/**
 * Every kind of tie that the inspection knows, with what it is to say and what is to happen: the one table by which the
 * tests and docs/ties.md go. `kind` is a class of test/fixtures/ties/keep.py.
 */
import type { Finding } from '../../api/types.ts';

export interface TieKind {
  kind: string;
  /** In a user's words. */
  words: string;
  /** Absent where there is nothing to say. */
  finding?: { tie: string; verdict: Finding['verdict']; what: RegExp };
  /** How it differs after the resume, where the finding is `degraded`. */
  difference?: RegExp;
  /** Somebody outside has the other end. */
  outside?: true;
  /** `tree`: not to be had in a capsule, so it is made without one and CRIU is called directly. */
  where: 'capsule' | 'tree';
  /** What is done to the machine for it, and undone. */
  setting?: { file: string; value: string };
}

const handled = (tie: string, what: RegExp) => ({ tie, verdict: 'handled', what }) as const;
const degraded = (tie: string, what: RegExp) => ({ tie, verdict: 'degraded', what }) as const;
const blocking = (tie: string, what: RegExp) => ({ tie, verdict: 'blocking', what }) as const;

const capsule = { where: 'capsule' } as const;
const tree = { where: 'tree' } as const;
const outside = { outside: true } as const;

const closed = /is closed/;
const goneConnection = /the connection is gone/;
const unseenWrites = /does not see what it writes/;
const pings = { file: '/proc/sys/net/ipv4/ping_group_range', value: '0 2147483647' };
const hugePages = { file: '/proc/sys/vm/nr_hugepages', value: '8' };

export const tieKinds: readonly TieKind[] = [
  { kind: 'Nothing', words: 'nothing', ...capsule },

  // Internet connections and other sockets
  {
    kind: 'TcpListening',
    words: 'a TCP port at which it listens',
    finding: handled('internet-socket', /listens at 127\.0\.0\.1:\d+/),
    ...capsule,
  },
  {
    kind: 'TcpConnected',
    words: 'a TCP connection',
    finding: degraded('internet-socket', /is connected to .*127\.0\.0\.1:\d+/),
    difference: closed,
    ...outside,
    ...capsule,
  },
  {
    kind: 'TcpInside',
    words: 'a TCP connection between two of its own',
    finding: degraded('internet-socket', /is connected to/),
    difference: closed,
    ...capsule,
  },
  {
    kind: 'TcpHungUp',
    words: 'a TCP connection that the other side has closed',
    finding: degraded('internet-socket', /just opening or closing/),
    ...outside,
    ...capsule,
  },
  {
    kind: 'TcpConnecting',
    words: 'a TCP connection that nobody has answered',
    finding: degraded('internet-socket', /just opening or closing/),
    difference: /does not try any more/,
    ...outside,
    ...capsule,
  },
  {
    kind: 'TcpServed',
    words: 'a TCP connection that came to its port',
    finding: degraded('internet-socket', /is connected to/),
    difference: closed,
    ...outside,
    ...capsule,
  },
  {
    kind: 'TcpWaiting',
    words: 'a TCP connection that it has not accepted',
    finding: degraded('internet-socket', /connection that waits/),
    difference: goneConnection,
    ...outside,
    ...capsule,
  },
  {
    kind: 'TcpTimeWait',
    words: 'a TCP port that the kernel keeps for a minute (TIME_WAIT)',
    finding: handled('internet-socket', /listens at/),
    ...outside,
    ...capsule,
  },
  { kind: 'Udp', words: 'UDP sockets', ...capsule },
  {
    kind: 'UdpUnread',
    words: 'UDP datagrams that it has not read',
    finding: degraded('internet-socket', /has not read yet what has arrived/),
    difference: /what had arrived is lost/,
    ...capsule,
  },
  {
    kind: 'Corked',
    words: 'a datagram that is being put together (UDP_CORK)',
    finding: blocking('internet-socket', /putting together/),
    ...tree,
  },
  {
    kind: 'Multicast',
    words: 'a group on the network (multicast)',
    finding: degraded('internet-socket', /multicast/),
    difference: /nothing arrives/,
    ...capsule,
  },
  { kind: 'Raw', words: 'a raw socket', finding: handled('internet-socket', /raw socket/), ...capsule },
  {
    kind: 'Packet',
    words: 'a packet socket',
    finding: handled('internet-socket', /packet socket/),
    ...capsule,
  },
  {
    kind: 'PacketMapped',
    words: 'a packet socket with a ring in memory',
    finding: handled('internet-socket', /packet socket/),
    ...capsule,
  },
  {
    kind: 'Ping',
    words: 'a socket for pings, where root may have one',
    finding: handled('internet-socket', /socket for pings/),
    setting: pings,
    ...tree,
  },
  {
    kind: 'PingForbidden',
    words: 'a socket for pings, where root may not have one',
    finding: blocking('internet-socket', /socket for pings/),
    ...tree,
  },
  { kind: 'Netlink', words: 'a socket to the kernel (netlink)', ...capsule },
  { kind: 'NetlinkGroups', words: 'news from the kernel about the network (netlink)', ...capsule },
  { kind: 'NetlinkUdev', words: 'news from the kernel about devices (netlink)', ...capsule },
  {
    kind: 'NetlinkHighGroup',
    words: 'news from the kernel by a group above 32 (netlink)',
    finding: blocking('socket', /groups above 32/),
    ...tree,
  },
  {
    kind: 'NetlinkUnread',
    words: 'an answer of the kernel that it has not read (netlink)',
    finding: blocking('socket', /has not read yet what the kernel told it/),
    ...tree,
  },
  {
    kind: 'Vsock',
    words: 'a socket to a virtual machine (vsock)',
    finding: blocking('socket', /vsock/),
    ...tree,
  },
  {
    kind: 'Alg',
    words: 'a socket by which the kernel encrypts (AF_ALG)',
    finding: blocking('socket', /AF_ALG/),
    ...tree,
  },
  { kind: 'Mptcp', words: 'a multipath TCP socket', finding: blocking('socket', /MPTCP/), ...tree },
  {
    kind: 'MptcpConnected',
    words: 'a multipath TCP connection',
    finding: blocking('socket', /MPTCP/),
    ...outside,
    ...tree,
  },

  // Unix sockets
  {
    kind: 'UnixInside',
    words: 'a unix socket between two of its own, with a descriptor on its way',
    ...capsule,
  },
  {
    kind: 'UnixDropped',
    words: 'a unix socket whose other end is closed, with something to be read',
    ...capsule,
  },
  { kind: 'UnixWaitingQuiet', words: 'a unix connection of its own that it has not accepted', ...capsule },
  {
    kind: 'UnixCredentials',
    words: 'what it has not read, with word of who sent it (SO_PASSCRED)',
    finding: blocking('unix-socket', /with word of who sent it/),
    ...tree,
  },
  { kind: 'CarriedSocket', words: 'a unix socket that is on its way to another process', ...capsule },
  {
    kind: 'CarriedOutside',
    words: 'a connection to another program that is on its way to another process',
    finding: blocking('unix-socket', /has been sent a connection/),
    ...outside,
    ...tree,
  },
  {
    kind: 'CarriedDevice',
    words: 'a device that is on its way to another process',
    finding: blocking('unix-socket', /has been sent the device \/dev\/fuse/),
    ...tree,
  },
  {
    kind: 'CarriedTimer',
    words: 'a timer (timerfd) that is on its way to another process',
    finding: blocking('unix-socket', /has been sent something of the kind timerfd/),
    ...tree,
  },
  {
    kind: 'UnixWaitingInside',
    words: 'the same, in which something has been said',
    finding: blocking('unix-socket', /something has been said already/),
    ...tree,
  },
  {
    kind: 'UnixWaitingOutside',
    words: 'a unix connection from outside that it has not accepted',
    finding: degraded('unix-socket', /connection that waits/),
    difference: goneConnection,
    ...outside,
    ...capsule,
  },
  {
    kind: 'UnixOutside',
    words: 'a unix connection to another program',
    finding: blocking('unix-socket', /talks to .*UnixOutside/),
    ...outside,
    ...tree,
  },
  {
    kind: 'UnixDatagramOutside',
    words: 'a unix datagram socket of another program',
    finding: handled('unix-socket', /talks to/),
    ...outside,
    ...capsule,
  },
  {
    kind: 'Abstract',
    words: 'an abstract unix socket',
    finding: degraded('abstract-socket', /a name that all capsules share/),
    ...capsule,
  },

  // Memory and messages in common
  {
    kind: 'SysvMemory',
    words: 'System V shared memory in a capsule',
    finding: handled('shared-memory', /System V/),
    ...capsule,
  },
  {
    kind: 'SysvMemory',
    words: 'System V shared memory without a capsule',
    finding: blocking('shared-memory', /System V/),
    ...tree,
  },
  { kind: 'SysvSemaphore', words: 'System V semaphores', ...capsule },
  {
    kind: 'SysvUndo',
    words: 'System V semaphores that are given back at its end',
    finding: degraded('semaphore', /SEM_UNDO/),
    difference: /not given back|another value/,
    ...capsule,
  },
  { kind: 'SysvQueue', words: 'System V messages', ...capsule },
  { kind: 'PosixMemory', words: 'POSIX shared memory', ...capsule },
  {
    kind: 'PosixQueue',
    words: 'a POSIX message queue',
    finding: blocking('message-queue', /message queue/),
    ...tree,
  },
  { kind: 'FileMemoryOutside', words: 'a file that another program has mapped too', ...outside, ...capsule },
  {
    kind: 'MemfdOutside',
    words: 'memory in common with another program (memfd)',
    finding: degraded('shared-memory', /memory in common/),
    difference: unseenWrites,
    ...outside,
    ...capsule,
  },
  {
    kind: 'NamelessMemoryOutside',
    words: 'memory without a name in common with its parent outside',
    finding: degraded('shared-memory', /memory in common/),
    difference: unseenWrites,
    ...tree,
  },
  { kind: 'Memfd', words: 'a file in memory (memfd)', finding: handled('memory-file', /memfd/), ...capsule },
  {
    kind: 'MemfdSecret',
    words: 'secret memory (memfd_secret)',
    finding: blocking('secret-memory', /memfd_secret/),
    ...tree,
  },
  {
    kind: 'HugePages',
    words: 'huge pages',
    finding: handled('huge-pages', /huge pages/),
    setting: hugePages,
    ...capsule,
  },
  {
    kind: 'HugeMemfd',
    words: 'a file in memory in huge pages',
    finding: handled('huge-pages', /huge pages/),
    setting: hugePages,
    ...capsule,
  },
  {
    kind: 'LockedMemory',
    words: 'locked memory',
    finding: handled('locked-memory', /from being swapped out/),
    ...capsule,
  },

  // Devices
  { kind: 'HarmlessDevices', words: '/dev/zero, /dev/urandom and their like', ...capsule },
  {
    kind: 'Kmsg',
    words: 'the messages of the kernel (/dev/kmsg)',
    finding: blocking('device', /\/dev\/kmsg/),
    difference: /from the beginning/,
    ...tree,
  },
  {
    kind: 'FuseDevice',
    words: 'a file system of its own making (/dev/fuse)',
    finding: blocking('device', /\/dev\/fuse/),
    ...tree,
  },
  { kind: 'Kvm', words: 'a virtual machine (/dev/kvm)', finding: blocking('device', /\/dev\/kvm/), ...tree },
  {
    kind: 'Tun',
    words: 'a network interface of its own (/dev/net/tun)',
    finding: blocking('device', /\/dev\/net\/tun/),
    ...tree,
  },
  {
    kind: 'Loop',
    words: 'the control of loop devices',
    finding: blocking('device', /\/dev\/loop-control/),
    ...tree,
  },
  { kind: 'Block', words: 'a disk', finding: blocking('device', /\/dev\/zram0/), ...tree },
  {
    kind: 'DeviceMapped',
    words: 'the memory of a device',
    finding: blocking('device', /\/dev\/zram0/),
    ...tree,
  },

  // Objects of the kernel
  { kind: 'IoUring', words: 'io_uring', finding: blocking('kernel-object', /io_uring/), ...tree },
  {
    kind: 'Aio',
    words: 'asynchronous reading and writing (AIO)',
    finding: handled('aio', /aio/),
    ...capsule,
  },
  { kind: 'Epoll', words: 'epoll', ...capsule },
  { kind: 'EpollClosed', words: 'epoll on what is closed but open by another number', ...capsule },
  {
    kind: 'EpollInFlight',
    words: 'epoll on what is on its way to another process',
    finding: blocking('watch', /epoll/),
    ...tree,
  },
  { kind: 'Eventfd', words: 'eventfd', ...capsule },
  { kind: 'Signalfd', words: 'signalfd, with a signal waiting', ...capsule },
  { kind: 'TimerFd', words: 'a timer (timerfd)', finding: handled('timer', /timers/), ...capsule },
  {
    kind: 'AlarmClock',
    words: 'a timer that wakes the machine',
    finding: blocking('timer', /wakes the machine/),
    ...tree,
  },
  { kind: 'PosixTimer', words: 'POSIX timers', finding: handled('timer', /timers/), ...capsule },
  { kind: 'IntervalTimer', words: 'an interval timer', ...capsule },
  { kind: 'Clock', words: 'the monotonic clock', ...capsule },
  {
    kind: 'Inotify',
    words: 'watched files (inotify)',
    finding: handled('watch', /watches files/),
    ...capsule,
  },
  {
    kind: 'InotifyUnread',
    words: 'changes of watched files that it has not read',
    finding: degraded('watch', /has not read yet/),
    difference: /what has happened before is lost/,
    ...capsule,
  },
  {
    kind: 'InotifyDeleted',
    words: 'a watched file that is deleted',
    finding: handled('watch', /watches files/),
    ...capsule,
  },
  { kind: 'InotifyProc', words: 'a watched file in /proc', finding: blocking('watch', /\(proc\)/), ...tree },
  { kind: 'InotifySys', words: 'a watched folder in /sys', finding: blocking('watch', /\(sysfs\)/), ...tree },
  {
    kind: 'Fanotify',
    words: 'watched files (fanotify)',
    finding: handled('watch', /watches files/),
    ...tree,
  },
  {
    kind: 'FanotifyNames',
    words: 'watched files (fanotify with names)',
    finding: handled('watch', /watches files/),
    ...tree,
  },
  {
    kind: 'Userfault',
    words: 'memory of its own making (userfaultfd)',
    finding: blocking('kernel-object', /userfaultfd/),
    ...tree,
  },
  {
    kind: 'Perf',
    words: 'performance counters',
    finding: blocking('kernel-object', /performance counters/),
    ...tree,
  },
  {
    kind: 'BpfMap',
    words: 'a table in the kernel (bpf)',
    finding: blocking('kernel-object', /bpf/),
    ...tree,
  },
  {
    kind: 'BpfProgram',
    words: 'a program in the kernel (bpf)',
    finding: blocking('kernel-object', /bpf/),
    ...tree,
  },
  { kind: 'PidfdInside', words: 'a handle of a process of its own (pidfd)', ...capsule },
  { kind: 'PidfdEnded', words: 'a handle of a process that has ended (pidfd)', ...capsule },
  { kind: 'NamespaceFd', words: 'a handle of its uts namespace', ...capsule },
  {
    kind: 'NetworkNamespaceFd',
    words: 'a handle of its network namespace',
    finding: degraded('namespace', /handle of its network namespace/),
    difference: /another namespace/,
    ...capsule,
  },
  {
    kind: 'ForeignNamespaceFd',
    words: 'a handle of a namespace in which nobody is',
    finding: blocking('namespace', /handle of a sandbox/),
    ...tree,
  },
  {
    kind: 'Seccomp',
    words: 'system calls that it has given up (seccomp)',
    finding: handled('seccomp', /seccomp/),
    ...capsule,
  },
  {
    kind: 'SeccompListener',
    words: 'system calls about which another process decides',
    finding: blocking('kernel-object', /seccomp/),
    ...tree,
  },
  {
    kind: 'Landlock',
    words: 'rules about files that are not in force yet (Landlock)',
    finding: blocking('kernel-object', /landlock/),
    ...tree,
  },

  // Locks
  {
    kind: 'Lock',
    words: 'a lock on a file (fcntl)',
    finding: handled('file-lock', /file locks/),
    ...capsule,
  },
  {
    kind: 'Flock',
    words: 'a lock on a file (flock)',
    finding: handled('file-lock', /file locks/),
    ...capsule,
  },
  {
    kind: 'OfdLock',
    words: 'a lock of an open file (OFD)',
    finding: handled('file-lock', /file locks/),
    ...capsule,
  },
  {
    kind: 'FlockOutside',
    words: 'a lock in common with another program',
    finding: blocking('file-lock', /in common with/),
    ...outside,
    ...tree,
  },
  { kind: 'Lease', words: 'a lease for writing', finding: handled('lease', /lease/), ...capsule },
  { kind: 'ReadLease', words: 'a lease for reading', finding: handled('lease', /lease/), ...capsule },

  // Files
  {
    kind: 'Deleted',
    words: 'a deleted file that is open',
    finding: handled('deleted-file', /deleted but still in use/),
    ...capsule,
  },
  {
    kind: 'DeletedMapped',
    words: 'a deleted file in memory',
    finding: handled('deleted-file', /deleted but still in use/),
    ...capsule,
  },
  { kind: 'DeletedLinked', words: 'a file that is deleted under one of its names', ...capsule },
  { kind: 'DeletedFolder', words: 'a working folder that is deleted', ...capsule },
  { kind: 'DeletedFolderOpen', words: 'a deleted folder that is open', ...capsule },
  {
    kind: 'DeletedInFolder',
    words: 'a deleted file in a deleted folder',
    finding: handled('deleted-file', /deleted but still in use/),
    ...capsule,
  },
  {
    kind: 'Nameless',
    words: 'a file without a name (O_TMPFILE)',
    finding: handled('deleted-file', /deleted but still in use/),
    ...capsule,
  },
  {
    kind: 'Replaced',
    words: 'a library that has been replaced since',
    finding: handled('replaced-file', /replaced/),
    ...capsule,
  },
  { kind: 'PathOnly', words: 'a folder open by its path only (O_PATH)', ...capsule },
  { kind: 'ProcFile', words: 'files in /proc', ...capsule },
  { kind: 'ProcFileOfEnded', words: 'a file in /proc of a process that has ended', ...capsule },
  { kind: 'SysFile', words: 'a file in /sys', ...capsule },
  {
    kind: 'PositionShared',
    words: 'a place in a file in common with another program',
    finding: degraded('shared-position', /its place in a file/),
    difference: /at its own place/,
    ...outside,
    ...tree,
  },
  {
    kind: 'FilePassedIn',
    words: 'a file that another program has handed in',
    finding: blocking('foreign-file', /handed it in/),
    ...outside,
    ...capsule,
  },
  {
    kind: 'FolderUnmounted',
    words: 'a working folder that has been unmounted',
    finding: blocking('foreign-file', /unmounted/),
    ...tree,
  },
  {
    kind: 'FolderOpenUnmounted',
    words: 'an open folder that has been unmounted',
    finding: blocking('foreign-file', /unmounted/),
    ...tree,
  },
  {
    kind: 'Covered',
    words: 'a file that has been mounted over',
    finding: blocking('foreign-file', /has been mounted since/),
    ...tree,
  },
  {
    kind: 'PipeOutside',
    words: 'a pipe to another program',
    finding: blocking('pipe', /a pipe to/),
    ...outside,
    ...tree,
  },

  {
    kind: 'PipeOfPackets',
    words: 'a pipe that keeps packets apart (O_DIRECT)',
    finding: blocking('pipe', /keeps packets apart/),
    ...tree,
  },
  {
    kind: 'FuseFile',
    words: 'a file on a file system of another program (FUSE)',
    finding: degraded('file-system', /\(fuse/),
    ...outside,
    ...tree,
  },

  // Processes
  {
    kind: 'NestedUser',
    words: 'a sandbox: user namespace',
    finding: blocking('namespace', /user namespace/),
    ...tree,
  },
  {
    kind: 'NestedPid',
    words: 'a sandbox: pid namespace',
    finding: blocking('namespace', /pid namespace/),
    ...tree,
  },
  {
    kind: 'NestedIpc',
    words: 'a sandbox: ipc namespace',
    finding: blocking('namespace', /ipc namespace/),
    ...tree,
  },
  {
    kind: 'NestedNet',
    words: 'a sandbox: net namespace',
    finding: blocking('namespace', /net namespace/),
    ...tree,
  },
  {
    kind: 'NestedUts',
    words: 'a sandbox: uts namespace',
    finding: blocking('namespace', /uts namespace/),
    ...tree,
  },
  {
    kind: 'NestedCgroup',
    words: 'a sandbox: cgroup namespace',
    finding: blocking('namespace', /cgroup namespace/),
    ...tree,
  },
  {
    kind: 'NestedTime',
    words: 'a sandbox: time namespace',
    finding: blocking('namespace', /time namespace/),
    ...tree,
  },
  { kind: 'NestedMount', words: 'a mount namespace in a capsule', ...capsule },
  {
    kind: 'PidForChildren',
    words: 'a pid namespace for children that it does not have yet',
    finding: degraded('namespace', /about to start its children/),
    difference: /its own namespace/,
    ...tree,
  },
  {
    kind: 'Traced',
    words: 'a process that is debugged',
    finding: blocking('tracing', /being debugged/),
    ...tree,
  },
  {
    kind: 'ThreadTraced',
    words: 'a thread that is debugged',
    finding: blocking('tracing', /A thread of .* being debugged/),
    ...tree,
  },
  {
    kind: 'ThreadDescriptors',
    words: 'a thread with open files of its own',
    finding: blocking('thread', /open files of its own/),
    difference: /its thread has/,
    ...tree,
  },
  {
    kind: 'ThreadFolder',
    words: 'a thread in a working folder of its own',
    finding: blocking('thread', /working folder of its own/),
    difference: /its thread has/,
    ...tree,
  },
  {
    kind: 'ThreadNamespace',
    words: 'a thread in a namespace of its own',
    finding: blocking('thread', /namespace\) of its own/),
    difference: /its thread has/,
    ...tree,
  },
  {
    kind: 'MainThreadEnded',
    words: 'a process whose main thread has ended',
    finding: blocking('thread', /ended its main thread/),
    ...tree,
  },
  {
    kind: 'Bound',
    words: 'a process that is bound to one processor',
    finding: degraded('processor', /bound to processor 0/),
    difference: /runs on all/,
    ...capsule,
  },
  { kind: 'Stopped', words: 'a stopped process', ...capsule },
  { kind: 'Ended', words: 'a process that has ended and not been waited for', ...capsule },
  { kind: 'SharedFiles', words: 'two processes with the same open files', ...capsule },
  {
    kind: 'SharedFolder',
    words: 'two processes with the same working folder',
    finding: blocking('shared-resource', /working folder/),
    ...tree,
  },
  {
    kind: 'SharedMemoryInside',
    words: 'two processes with the same memory',
    finding: blocking('shared-resource', /its memory/),
    ...tree,
  },
  {
    kind: 'FolderOutside',
    words: 'a working folder in common with its parent outside',
    finding: degraded('shared-resource', /working folder/),
    difference: /its own now/,
    ...tree,
  },
  {
    kind: 'DescriptorsOutside',
    words: 'open files in common with its parent outside',
    finding: degraded('shared-resource', /open files/),
    difference: /its own now/,
    ...tree,
  },
];
