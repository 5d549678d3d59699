/**
 * What CRIU 4.2 says when a checkpoint or a restore fails, and what that means to a user: data only. The messages are
 * regular expressions with named groups; `{name}` in a sentence stands for what the group of that name matched, with
 * `{name:MiB}` in mebibytes and `{name:lower}` in small letters. Of a log, the first message counts that any line here
 * matches, and of the lines here the first that matches it.
 */

/** How a captured text is shown. */
export const formats = {
  MiB: (text: string) => `${Math.ceil(Number(text) / 1024 ** 2)} MiB`,
  lower: (text: string) => text.toLowerCase(),
} as const;

export interface CatalogueEntry {
  messages: readonly RegExp[];
  /** What it means. */
  sentence: string;
  /** What to do. */
  hint: string;
}

const verifyHint = 'Check the disk, and the snapshot with `torpor verify`.';
const endHint = 'End it and try again; `torpor inspect` shows which process it is.';
const otherCpuHint = 'Resume it on the machine it came from, or on one with a similar processor.';

/** A full disk or memory shows as many different errors, so these are looked for before anything else. */
export const aboveAll: readonly CatalogueEntry[] = [
  {
    // The kernel's limits for watches show as a full disk and as too many open files.
    messages: [
      /Can't add watch for .*: No space left on device/,
      /Can't create inotify .*: Too many open files/,
    ],
    sentence: 'The user has as many files watched for changes as the kernel allows (inotify).',
    hint: 'Allow more (`sysctl fs.inotify.max_user_watches fs.inotify.max_user_instances` shows how many), or end what watches many files, and resume again.',
  },
  {
    messages: [/No space left on device/, /Disk quota exceeded/],
    sentence: 'There is no space left on the disk that holds the snapshots.',
    hint: 'Free some space (`torpor snapshots`, `torpor rm SNAPSHOT`) and try again.',
  },
  {
    messages: [/Cannot allocate memory/],
    sentence: 'There is not enough free memory.',
    hint: 'Close something else and try again.',
  },
  {
    messages: [/Too many open files/],
    sentence: 'The engine has reached its limit of open files.',
    hint: 'Raise it (`LimitNOFILE=` of torpord.service, or `ulimit -n`) and try again.',
  },
];

export const catalogue: readonly CatalogueEntry[] = [
  // What root may not do
  {
    messages: [/Can't get rlimit/],
    sentence:
      'The limits of another user’s process cannot be read, because root lacks CAP_SYS_RESOURCE on this machine.',
    hint: 'Build the native programs with `npm start`: their preload library mends this.',
  },
  {
    messages: [/Can't restore cur > max/],
    sentence: 'Its resource limits cannot be set again.',
    hint: 'Start the engine as root with all capabilities.',
  },
  {
    messages: [/Setting loginuid for|Restore original \/proc\/self\/loginuid failed/],
    sentence: 'Its login user cannot be set again, because root lacks CAP_AUDIT_CONTROL on this machine.',
    hint: 'Start the engine as root with all capabilities.',
  },

  {
    messages: [
      /Can't setgroups|Unable to (?:set (?:real, effective|fsuid|fsgid|PR_SET_SECUREBITS)|restore capabilities)/,
    ],
    sentence: 'Its user and rights cannot be set again.',
    hint: 'Start the engine as root with all capabilities.',
  },
  {
    messages: [/Unknown clock type \d+ for/, /Can't restore ticks\/time for timerfd/],
    sentence: 'It has a timer that cannot be saved.',
    hint: 'Take away the alarm or reminder that it has set, or end it, and try again.',
  },
  {
    messages: [/timerfd_create failed/],
    sentence: 'It has a timer that wakes the machine, which root may not set here (CAP_WAKE_ALARM).',
    hint: 'Start the engine as root with all capabilities.',
  },

  // Connections and sockets
  {
    messages: [
      /Connected TCP socket, consider using|Connected TCP socket in image|Need to set the --tcp-close/,
    ],
    sentence: 'It has a TCP connection open, which cannot be kept.',
    hint: 'End the connection (a download, a remote session), or suspend it with its connections closed.',
  },
  {
    messages: [/Unsupported proto 262 for socket/],
    sentence: 'It has a multipath TCP socket (MPTCP), which cannot be saved.',
    hint: 'Start the application with the environment variable GODEBUG=multipathtcp=0 if it is written in Go; otherwise turn MPTCP off in its settings.',
  },
  {
    messages: [/Unsupported proto (?<protocol>\d+) for socket/],
    sentence: 'It has a network socket of protocol {protocol}, which cannot be saved.',
    hint: 'Stop what it uses the socket for, and try again.',
  },
  {
    messages: [
      /Unknown socket collected \(family (?<family>\d+)\)/,
      /Unsupported socket family: (?<family>\d+)/,
      /Sockets \(family (?<family>\d+) proto \d+\) are not collected/,
    ],
    sentence: 'It has a socket of a family that cannot be saved (number {family}).',
    hint: 'Stop what it uses the socket for, and try again.',
  },
  {
    messages: [/Non-empty write queue on an in-flight socket/, /Found a closed in-flight socket/],
    sentence: 'Something has been said in a connection that it has not accepted yet.',
    hint: 'Try again in a moment.',
  },
  {
    messages: [/In-flight connection/, /Dangling connection \d+/],
    sentence: 'A connection was just being opened.',
    hint: 'Try again in a moment.',
  },
  {
    messages: [/The socket has data to read/],
    sentence: 'It has not read yet what the kernel told it (netlink).',
    hint: 'Try again in a moment.',
  },
  {
    messages: [/The netlink socket \S+ (?:has more than 32 groups|is bound to groups but not to portid)/],
    sentence: 'It is told of changes by the kernel in a way that cannot be saved (netlink).',
    hint: endHint,
  },
  {
    messages: [/Control messages in queue/],
    sentence:
      'It has not read yet what was sent to it at a socket, with word of who sent it or when, which cannot be saved.',
    hint: 'Try again in a moment.',
  },
  {
    messages: [/Can't get socket filter/],
    sentence:
      'It has a program in the kernel that filters what arrives at a socket (eBPF), which cannot be saved.',
    hint: 'Stop what it uses the socket for, and try again.',
  },
  {
    messages: [/Multiple MC membership not supported|Unknown mc membership type/],
    sentence: 'It has a packet socket that listens to groups on the network, which cannot be saved.',
    hint: 'Stop what it uses the socket for, and try again.',
  },
  {
    messages: [/Peer \d+ unresolved for \d+/],
    sentence: 'It had a connection that a program outside had not accepted yet, which cannot be made again.',
    hint: 'Resume an earlier snapshot (`torpor snapshots`).',
  },
  {
    messages: [/Can't dump corked dgram socket/],
    sentence: 'It was just putting together a datagram.',
    hint: 'Try again in a moment.',
  },
  {
    messages: [/Can't dump \d+ inet socket/, /Unknown inet socket \S+ state \d+/],
    sentence: 'It has a network socket that cannot be saved.',
    hint: 'Stop what it uses the network for, and try again.',
  },
  {
    messages: [/Can't dump half of stream unix connection\. name: .*; peer name: (?!\(null\))(?<path>.+)/],
    sentence: 'It is connected to a program outside through the socket {path}.',
    hint: 'End that connection, or start the application in a capsule (`torpor run`), which brings its own services.',
  },
  {
    messages: [/Can't dump half of stream unix connection\. name: (?!\(null\))(?<path>.+); peer name:/],
    sentence: 'It is connected to a program outside through the socket {path}.',
    hint: 'End that connection, or start the application in a capsule (`torpor run`), which brings its own services.',
  },
  {
    messages: [
      /Can't dump half of stream unix connection/,
      /External socket is used|Can't dump name-less external socket|External socket found in image/,
      /Unix socket \d+ with(?:out peer|\s+unreachable peer) \d+/,
    ],
    sentence: 'It is connected to a program outside through a socket.',
    hint: 'End that connection, or start the application in a capsule (`torpor run`), which brings its own services.',
  },
  {
    messages: [/Can't bind id \S+ ino \d+ addr (?<path>.*): (?<why>.*)/],
    sentence: 'Its socket {path} cannot be made again: {why:lower}.',
    hint: 'Make the folder of the socket, owned by the user, and resume again.',
  },
  {
    messages: [/The file name is too long|Too long name for socket|The path \S+ is too long/],
    sentence: 'One of its sockets has a path that is too long to be made again.',
    hint: 'Use a folder with a shorter path (`XDG_RUNTIME_DIR`) and start it again.',
  },
  {
    messages: [/Can't bind inet socket .*: (?<why>.*)/],
    sentence: 'A network socket of it cannot be opened again: {why:lower}.',
    hint: 'End the program that uses the same port now and resume again. Where none does, wait a minute: for so long the kernel keeps the port of a connection that was just closed.',
  },
  {
    messages: [/Can't connect inet socket back/],
    sentence: 'A network socket of it cannot be opened again: no connection.',
    hint: 'Look to the network and resume again.',
  },
  {
    messages: [/Can't create inet socket: (?<why>.*)/],
    sentence: 'A network socket of it cannot be made again: {why:lower}.',
    hint: 'If it is a socket for pings, allow it (`sysctl net.ipv4.ping_group_range="0 2147483647"`), and resume again.',
  },
  {
    messages: [/couldn't find if(?:name|index) for (?<name>\S+)/],
    sentence: 'It used the network interface {name}, which is not here.',
    hint: 'Connect the interface and try again.',
  },
  {
    messages: [/iptables|nftables|Locking network failed|Failed to (?:un)?lock TCP connection/],
    sentence: 'Its network connections could not be held still.',
    hint: 'Load the kernel module nf_tables (`modprobe nf_tables`) and try again.',
  },
  {
    messages: [/Diag module missing/],
    sentence: 'The kernel does not tell about sockets.',
    hint: 'Load the modules: `modprobe -a unix_diag inet_diag tcp_diag udp_diag raw_diag netlink_diag af_packet_diag`.',
  },

  // Terminals and sessions
  {
    messages: [/Found dangling tty with sid \d+ pgid \d+ \((?<terminal>.*?)\)/],
    sentence: 'It uses the terminal {terminal}, which belongs to a program outside.',
    hint: 'Suspend it from that terminal, or start it in a capsule (`torpor run`).',
  },
  {
    messages: [
      /Found slave peer index (?<index>\d+) without/,
      /Can't open (?:master pty|slave (?:pty|tty)) .*\(index (?<index>\d+)\)/,
    ],
    sentence: 'It uses the terminal pts/{index}, the other side of which is a program outside.',
    hint: 'Suspend it together with that program, or start it in a capsule (`torpor run`).',
  },
  {
    messages: [
      /ctty inheritance detected|Don't have tty to inherit session from|Requested sid \d+ doesn't match inherited/,
    ],
    sentence: 'It needs a terminal to come back to.',
    hint: 'Resume it in a terminal (`torpor attach`).',
  },
  {
    messages: [/Can't figure out which sid|Unable to find a tty driver|The tty .* queued data overflow/],
    sentence: 'It has a terminal open that cannot be saved.',
    hint: endHint,
  },
  {
    messages: [/A session leader of (?:zombie process )?(?<pid>\d+)\(\d+\) is outside of its pid namespace/],
    sentence: 'Process {pid} belongs to a session that was started from outside.',
    hint: 'Commands put into a capsule from outside (`torpor exec`) must end first.',
  },
  {
    messages: [/Can't find a session leader for (?<pid>\d+)/],
    sentence: 'The leader of session {pid} is not among its processes.',
    hint: 'Suspend the process that leads the session.',
  },
  {
    messages: [/The root process (?<pid>\d+) is not a session leader/],
    sentence: 'Process {pid} was started from a terminal and shares its session.',
    hint: 'Suspend it as a job of that terminal, or start it with setsid.',
  },
  {
    messages: [/Current (?:gid|sid) (?<pid>\d+) intersects with/, /This process tree can only be restored/],
    sentence: 'The engine itself runs in a session or group with the number of one of its processes.',
    hint: 'Start the engine again and resume then.',
  },

  // Files
  {
    messages: [/Can't dump ghost file (?<path>.*) of (?<bytes>\d+) size, increase limit/],
    sentence: 'It has a deleted file open, {path}, of {bytes:MiB}, which is too large to be taken along.',
    hint: 'Let the application close that file and try again.',
  },
  {
    messages: [/Can't link remap to (?<path>.*): Invalid cross-device link/],
    sentence: 'It has {path} open, over which another file system has been mounted since.',
    hint: 'Unmount that, or let the application close the file, and try again.',
  },
  {
    messages: [/Can't create link remap for (?<path>.*?)\. /],
    sentence: 'The deleted file {path} is still open and cannot be kept.',
    hint: 'Let the application close that file and try again.',
  },
  {
    messages: [/Can't dump file (?<fd>\d+) of that type \[\d+\] ?\(?(?<kind>.*?)\)?$/],
    sentence: 'It has something open that cannot be saved: descriptor {fd} ({kind}).',
    hint: '`torpor inspect` shows which process holds it.',
  },
  {
    messages: [/send_fds failed|Can't retrieve FDs from socket/],
    sentence: 'It has something open that the kernel does not hand on, such as an io_uring.',
    hint: 'Start the application in a capsule (`torpor run`), in which it does without.',
  },
  {
    messages: [
      /Can't lookup mount=\S+ for fd=\S+ path=(?<path>.*)/,
      /Open files on overmounted mounts are not supported yet; mount=\S+ fd=\S+ path=(?<path>.*)/,
      /The path \[(?<path>.*)\] is not supported/,
      /Unaccessible path opened (?<path>.*)/,
    ],
    sentence: 'It has {path} open, which lies on a file system that it cannot see itself.',
    hint: 'Let the application close that file and try again.',
  },
  {
    messages: [/Can't dump that handle|Can't find suitable path for handle|Unable to lookup a mount by dev/],
    sentence:
      'It watches a file or folder for changes that cannot be found again (inotify), such as one in /proc.',
    hint: endHint,
  },
  {
    messages: [/Escaped\/closed fd descriptor|Dump eventpoll \(pid: \d+\) failed/],
    sentence: 'It waits for something (epoll) that no process of it has open any more.',
    hint: 'Try again in a moment.',
  },
  {
    messages: [/pidfd pid \d+ is not a part of process tree/, /PIDFD_THREAD flag is currently not supported/],
    sentence: 'It watches a process outside by a pidfd.',
    hint: 'Wait until that process has ended, or end it, and try again.',
  },
  {
    messages: [/CRIU does not currently support dumping BPF map type/],
    sentence: 'It has a table in the kernel (bpf) that cannot be saved.',
    hint: endHint,
  },
  {
    messages: [
      /Net namespace is required to dump tun link|Can't dump \S+ with filter on-board|No fd info for non persistent tun/,
    ],
    sentence: 'It has a network interface of its own (tun), which cannot be saved.',
    hint: 'Disconnect what it uses the interface for, such as a VPN, and try again.',
  },
  {
    messages: [/The packetized mode for pipes is not supported/],
    sentence: 'It has a pipe that keeps packets apart (O_DIRECT), which cannot be saved.',
    hint: endHint,
  },
  {
    messages: [/Unresolved lock found pid (?<pid>-?\d+)/, /Some file locks are hold by dumping tasks/],
    sentence: 'It has a lock on a file in common with a process outside.',
    hint: 'Wait until that process has ended, or end it, and try again.',
  },
  {
    messages: [/Can not set (?:flock|posix lock|ofd lock)/],
    sentence: 'A file that it had locked is locked by another process now.',
    hint: 'End that process (`lslocks` names it) and resume again.',
  },
  {
    messages: [/Can't set lease|Lease doesn't conflicts but breaks|Incorrect (?:target )?lease type/],
    sentence: 'A file on which it had a lease is open in another process now.',
    hint: 'Close the file there and try again.',
  },
  {
    messages: [
      /Mount \d+:(?<path>\S+) is autodetected external mount/,
      /FS mnt (?<path>\S+) dev/,
      /\d+:(?<path>\S+) doesn't have a proper root mount/,
    ],
    sentence: 'The file system at {path} came in from outside and is not known to the engine.',
    hint: 'Unmount it inside the application’s capsule and try again.',
  },
  {
    messages: [/Unable to dump a file system for \d+:(?<path>.*)/, /Mount \d+ (?<path>\S+) \(master_id:/],
    sentence: 'The file system at {path}, which it has mounted itself, cannot be saved.',
    hint: 'Unmount it in the application and try again.',
  },
  {
    messages: [/No mapping for \d+:(?<path>.*) mountpoint/],
    sentence: 'The file system that was mounted at {path} is not here.',
    hint: 'Mount it at the same place and resume again.',
  },
  {
    messages: [
      /Nested mount namespaces are not supported|A few mount points can't be mounted|Unable to mount (?<path>\S+)/,
    ],
    sentence: 'Its mounted file systems cannot be set up again.',
    hint: 'Look whether all disks and folders are mounted that were when it was suspended, and resume again.',
  },
  {
    messages: [
      /Can't open file (?<path>.*) on restore: (?<why>.*)/,
      /Can't open file (?<path>.*): (?<why>No such file or directory)/,
    ],
    sentence: 'The file {path}, which it had open, cannot be opened: {why:lower}.',
    hint: 'Put the file back in its place and resume again.',
  },
  {
    messages: [/Can't open (?:cwd|root)\b/, /Can't find task (?:cwd|root) file/],
    sentence: 'The folder in which it worked is not there.',
    hint: 'Make the folder again and resume again.',
  },
  {
    messages: [/File (?<path>.*) has bad size (?<now>\d+) \(expect (?<then>\d+)\)/],
    sentence: 'The file {path} has changed since: it had {then} bytes and has {now} now.',
    hint: 'Put the former file back in its place (for a program or library: its former package) and resume again.',
  },
  {
    messages: [
      /File (?<path>.*) has bad (?:mode|build-ID)/,
      /Build-ID \(For validation\) could not be obtained for file (?<path>\S+)/,
    ],
    sentence: 'The file {path} is another one than when it was suspended.',
    hint: 'Put the former file back in its place (for a program or library: its former package) and resume again.',
  },
  {
    messages: [/Can't (?:create|make) (?:node for )?ghost \w+: File exists/],
    sentence: 'A resume that was cut short has left a file behind that is in the way now.',
    hint: 'Remove the files whose names end with .ghost in the folders the application was working in, and resume again.',
  },
  {
    messages: [/Can't note link remap|Failed to clenaup .* link remap|The \d+ mount is not found for ghost/],
    sentence: 'A deleted file that it had open cannot be put back.',
    hint: 'Look whether the disk that it lay on is mounted and can be written to, and try again.',
  },

  // Memory
  {
    messages: [/SysVIPC shmem map \S+ doesn't live in IPC ns/],
    sentence: 'It has System V shared memory, which any process of this machine could have too.',
    hint: 'Start the application with `torpor run`: a capsule has shared memory of its own.',
  },
  {
    messages: [/Sysv shmem \S+ with/, /Can't find sysv shmem/],
    sentence: 'It has a part of a System V shared memory only, which cannot be saved.',
    hint: endHint,
  },
  {
    messages: [/Unknown shit \d+ \(\/secretmem/],
    sentence: 'It has memory that not even the kernel may read (memfd_secret), which cannot be saved.',
    hint: 'End what it keeps secrets for, and try again.',
  },
  {
    messages: [
      /Can't handle non-regular mapping|Unsupported mapping found|Strange file mapped|handle_device_vma plugin failed|Unknown shit/,
    ],
    sentence: 'It maps a device or another kind of memory that cannot be saved.',
    hint: 'Start it without hardware acceleration and try again.',
  },
  {
    messages: [/Can't restore [0-9a-f]+ mapping with|Unable to (?:map ANON_VMA|reserve memory)/],
    sentence: 'Not all of its memory can be had again.',
    hint: 'If it had huge pages, put as many in reserve as it had (`sysctl vm.nr_hugepages`); otherwise close something else; and resume again.',
  },
  {
    messages: [/has uprobes vma|Dumped with --allow-uprobes/],
    sentence: 'A tool that watches programs (perf, bpftrace) has put probes into it.',
    hint: 'End that tool and try again.',
  },
  {
    messages: [/Ring size is not aligned|Failed to check aio rings/],
    sentence: 'It has a queue of asynchronous reads and writes that cannot be saved.',
    hint: 'Try again in a moment.',
  },
  {
    messages: [
      /No suitable area for task_restore bootstrap|Can't restore high memory region|Can't dump high memory region/,
    ],
    sentence: 'Its memory lies where this kernel has no room for it.',
    hint: 'Resume it under the kernel that it was suspended under.',
  },

  // Processes
  {
    messages: [/Can't dump nested time_for_children namespace for (?<pid>\d+)/],
    sentence: 'Process {pid} runs in a time namespace of its own, such as a browser’s sandbox makes.',
    hint: 'Start the application without that sandbox; `torpor inspect` says how for the ones it knows.',
  },
  {
    messages: [/Can't dump nested (?<kind>\w+) namespace for (?<pid>\d+)/],
    sentence: 'Process {pid} runs in a {kind} namespace of its own, such as a browser’s sandbox makes.',
    hint: 'Start the application without that sandbox; `torpor inspect` says how for the ones it knows.',
  },
  {
    messages: [
      /Can't restore sub-task in NS/,
      /One or more namespaces doesn't belong/,
      /Can't find suitable NS ID/,
    ],
    sentence: 'One of its processes ran in a sandbox of its own, which cannot be made again.',
    hint: 'Start the application without that sandbox.',
  },
  {
    messages: [/No NS ID with kid/],
    sentence: 'It has a handle of a sandbox in which none of its processes is.',
    hint: endHint,
  },
  {
    messages: [/Can't make (?:VM|FS) id for (?<pid>\d+)/],
    sentence:
      'Process {pid} has its memory or its working folder in common with another one, which cannot be saved.',
    hint: 'Wait until one of the two has ended, or end it, and try again.',
  },
  {
    messages: [
      /Can't dump a pid namespace without the process init|Can't restore pid namespace without the process init/,
    ],
    sentence: 'It is a part of a container; only a container as a whole can be saved.',
    hint: 'Suspend the first process of the container.',
  },
  {
    messages: [/Zombies with threads are not supported|Zombie thread not supported/],
    sentence: 'The main thread of one of its processes has ended while others go on, which cannot be saved.',
    hint: endHint,
  },
  {
    messages: [/Individually stopped threads not supported/],
    sentence: 'Some threads of one of its processes are stopped and others run, which cannot be saved.',
    hint: 'Let all of it go on (`kill -CONT`), end a debugger that holds it, and try again.',
  },
  {
    messages: [/Zombie with children/, /Task pid reused while suspending/],
    sentence: 'One of its processes was just ending.',
    hint: 'Try again in a moment.',
  },
  {
    messages: [/Can't dump the (?<pid>\d+) thread with a pending SIGTRAP/],
    sentence: 'Process {pid} has just met a breakpoint that nobody has taken note of.',
    hint: 'Try again in a moment; end a debugger that holds it.',
  },
  {
    messages: [/Can't dump task (?<pid>\d+) running in 32-bit mode/],
    sentence: 'Process {pid} is a 32-bit program, which this CRIU cannot save.',
    hint: 'Use the 64-bit edition of the application.',
  },
  {
    messages: [/Can't dump task (?<pid>\d+) with LDT descriptors/],
    sentence:
      'Process {pid} has memory segments of its own (LDT), as programs for old Windows have, which cannot be saved.',
    hint: endHint,
  },
  {
    messages: [/Too many groups in task/],
    sentence: 'Its user is in more groups than can be saved.',
    hint: 'Start it as a user in fewer groups.',
  },
  {
    messages: [/Timeout reached/, /Unable to interrupt the current operation/],
    sentence: 'A process of it did not stop in time.',
    hint: 'Try again in a moment.',
  },
  {
    messages: [/Unable to freeze cgroup/],
    sentence:
      'It did not come to a standstill in time, probably because it waits for a slow disk or network folder.',
    hint: 'Try again when that is done.',
  },
  {
    messages: [
      /Can't fork for (?<pid>\d+): File exists/,
      /Pid \d+ do not match expected (?<pid>\d+)/,
      /Conflict with a dead task with the same PID as of this thread \(virt (?<pid>\d+)/,
    ],
    sentence: 'Its process number {pid} is in use by another process.',
    hint: 'Wait until that process has ended and resume again.',
  },
  {
    messages: [/Setting PID failed/],
    sentence: 'Its process numbers cannot be given again.',
    hint: 'Look whether there are enough of them (`sysctl kernel.pid_max`), and resume again.',
  },
  {
    messages: [/The criu itself is within dumped tree/],
    sentence: 'The engine itself runs within it.',
    hint: 'Start the engine from elsewhere.',
  },
  {
    messages: [/A root task is dead|No such process/],
    sentence: 'It ended while it was being suspended.',
    hint: 'See `torpor ps`, and start it again.',
  },
  {
    messages: [/Unseizable non-zombie (?<pid>\d+) found/],
    sentence: 'Another program, such as a debugger, holds process {pid}.',
    hint: 'End that program (in gdb: `detach`) and try again.',
  },
  {
    messages: [/Unable to (?:attach|seize)/, /Unexpected error for pid/],
    sentence: 'Another program, such as a debugger, holds one of its processes.',
    hint: 'End that program and try again.',
  },
  {
    messages: [/Can't infect \(pid: (?<pid>\d+)\)/, /Can't cure \(pid: (?<pid>\d+)\)/],
    sentence: 'Process {pid} could not be looked into.',
    hint: 'Try again; if that fails too, look whether a security module (SELinux, AppArmor) forbids it.',
  },
  {
    messages: [
      /(?<pid>\d+) (?:killed by|stopped by) signal (?<signal>\d+)/,
      /Child (?<pid>\d+) died too early/,
      /(?<pid>\d+) exited, status=/,
    ],
    sentence: 'Process {pid} ended while it was being resumed.',
    hint: 'Try again; the details say what CRIU saw.',
  },

  // Processor, kernel, protection
  {
    messages: [
      /CPU instruction capabilities do not match|is not supported on host|xfeatures has unsupported bits|xsave size mismatch/,
    ],
    sentence: 'It was suspended on a machine whose processor can do what this one cannot.',
    hint: otherCpuHint,
  },
  {
    messages: [/Core march mismatch/],
    sentence: 'It was suspended on a machine with another kind of processor.',
    hint: 'Resume it on a machine with the same architecture.',
  },
  {
    messages: [
      /has rseq but kernel lacks|unsupported RSEQ ABI|Unable to restore rseq_cs|Can't restore rseq_cs/,
    ],
    sentence: 'Its threads use a help of the kernel (rseq) that this kernel does not save.',
    hint: 'Use a kernel of 5.13 or later.',
  },
  {
    messages: [
      /Can't collect filter on|Can't restore filter|Corrupted filter/,
      /(?:PR_SET_SECCOMP|SECCOMP_SET_MODE_FILTER|SECCOMP_MODE_STRICT) returned/,
    ],
    sentence: 'The system calls that it has given up (seccomp) cannot be saved or set again.',
    hint: 'Use a kernel with CONFIG_CHECKPOINT_RESTORE and CONFIG_SECCOMP_FILTER.',
  },
  {
    messages: [/Invalid selinux context|Reading xattr security\.selinux|apparmor/i],
    sentence: 'Its rules of a security module (SELinux, AppArmor) cannot be saved or set again.',
    hint: 'Look whether the same rules are loaded as when it was started.',
  },
  {
    messages: [/Cgroup dir (?<path>\S+) doesn't exist|Abort restore of existing cgroups/],
    sentence: 'A control group that it was in is not there.',
    hint: 'Start the engine again and resume then.',
  },
  {
    messages: [/Missing required plugin/],
    sentence: 'The snapshot needs a part of CRIU that is not here.',
    hint: 'Run `torpor doctor`, which checks what CRIU needs.',
  },

  // Damaged snapshots
  {
    messages: [/(?:Magic|Head magic) doesn't match for (?<file>\S+)/],
    sentence: 'The snapshot is damaged: {file} is not what it should be.',
    hint: verifyHint,
  },
  {
    messages: [
      /[Ii]mage corrupt|Unexpected EOF|Images corrupted|corrupted image|Corrupted (?:ghost image|root cgset|master peer|slave peer)/,
      /Img trimmed|Not supported images version|Too old image|data missed|Page entry address \S+ outside of VMA/,
    ],
    sentence: 'The snapshot is damaged.',
    hint: verifyHint,
  },
  {
    messages: [/The --root option is required/],
    sentence: 'The snapshot was made from a capsule and needs its root folder.',
    hint: 'Resume it with `torpor resume`.',
  },
];
