/** Whether a kernel can restore what was checkpointed under another one: rules over what it is installed with. Pure. */
import type { Finding } from '../../api/types.ts';
import type { KernelConfig, KernelModules } from './kernel-config.ts';

/** What the state folder and the workloads need of a kernel, beside what all of them do. */
export interface Needs {
  /** Type of the file system of the state folder, as the kernel names it. */
  fileSystem: string;
  /** Modules that drive the device of the state folder, by the names that the running kernel has them under. */
  drivers: readonly string[];
  /** Workloads with files of a bundle. */
  hasLayers: boolean;
  /** The running kernel has them, so that capsules were started in one. */
  hasTimeNamespaces: boolean;
}

interface Requirement {
  option: string;
  /** Where it may be one. */
  module?: string;
  what: string;
  /** Without it things go on, only worse: what will be different. */
  without?: string;
}

const always: readonly Requirement[] = [
  { option: 'CHECKPOINT_RESTORE', what: 'checkpoint/restore' },
  { option: 'NAMESPACES', what: 'namespaces' },
  { option: 'PID_NS', what: 'pid namespaces' },
  { option: 'IPC_NS', what: 'ipc namespaces' },
  { option: 'UTS_NS', what: 'uts namespaces' },
  { option: 'CGROUPS', what: 'control groups' },
  { option: 'FHANDLE', what: 'file handles' },
  { option: 'INOTIFY_USER', what: 'inotify' },
  { option: 'EPOLL', what: 'epoll' },
  { option: 'EVENTFD', what: 'eventfd' },
  { option: 'SIGNALFD', what: 'signalfd' },
  { option: 'TIMERFD', what: 'timerfd' },
  { option: 'UNIX98_PTYS', what: 'pseudoterminals' },
  { option: 'SECCOMP_FILTER', what: 'seccomp filters' },
  { option: 'TMPFS', what: 'tmpfs' },
  { option: 'UNIX_DIAG', module: 'unix_diag', what: 'unix_diag' },
  { option: 'INET_DIAG', module: 'inet_diag', what: 'inet_diag' },
  { option: 'INET_TCP_DIAG', module: 'tcp_diag', what: 'tcp_diag' },
  { option: 'INET_UDP_DIAG', module: 'udp_diag', what: 'udp_diag' },
  { option: 'NETLINK_DIAG', module: 'netlink_diag', what: 'netlink_diag' },
  { option: 'PACKET_DIAG', module: 'af_packet_diag', what: 'af_packet_diag' },
  { option: 'NF_TABLES', module: 'nf_tables', what: 'nftables' },
  {
    option: 'USERFAULTFD',
    what: 'userfaultfd',
    without: 'Applications are resumed all the same, but each runs only when all its memory is there.',
  },
];

/** Options of the file systems that a state folder may lie on. */
const fileSystems: Readonly<Record<string, string>> = {
  ext2: 'EXT4_FS',
  ext3: 'EXT4_FS',
  ext4: 'EXT4_FS',
  xfs: 'XFS_FS',
  btrfs: 'BTRFS_FS',
  f2fs: 'F2FS_FS',
  bcachefs: 'BCACHEFS_FS',
  zfs: 'ZFS',
  nfs: 'NFS_FS',
  nfs4: 'NFS_V4',
  overlay: 'OVERLAY_FS',
};

function requirementsOf({ fileSystem, hasLayers, hasTimeNamespaces }: Needs): Requirement[] {
  return [
    ...always,
    ...(hasTimeNamespaces ? [{ option: 'TIME_NS', what: 'time namespaces' }] : []),
    ...(hasLayers
      ? [
          {
            option: 'OVERLAY_FS',
            module: 'overlay',
            what: 'overlayfs, on which a workload from a bundle runs',
          },
        ]
      : []),
    {
      option: fileSystems[fileSystem] ?? `${fileSystem.toUpperCase()}_FS`,
      module: fileSystem === 'ext2' || fileSystem === 'ext3' ? 'ext4' : fileSystem,
      what: `the file system of the state folder, ${fileSystem}`,
    },
  ];
}

/**
 * @param config undefined where it is not to be had.
 * @returns a blocking finding for each thing that is missing, a degraded one for what is done without.
 */
export function findingsAbout(
  version: string,
  config: KernelConfig | undefined,
  modules: KernelModules | undefined,
  needs: Needs,
): Finding[] {
  if (config === undefined)
    return [
      finding(
        'blocking',
        `What the kernel ${version} can do is not known: its configuration (/boot/config-${version}) is not there.`,
        'Install it as a package of the distribution, which brings that file along.',
      ),
    ];
  const isLoadable = (module: string) => modules?.loadable.has(module) || modules?.builtIn.has(module);
  const found: Finding[] = [];
  for (const { option, module, what, without } of requirementsOf(needs)) {
    const value = config.get(option);
    // A file system that is built apart from the kernel has a module, and no option.
    if (value === 'y' || (module !== undefined && value !== undefined && isLoadable(module))) continue;
    if (module !== undefined && value === undefined && modules?.loadable.has(module)) continue;
    const why =
      value === 'm' && module !== undefined
        ? `is a module (${module}) that is not in /lib/modules/${version}`
        : `was left out of it (CONFIG_${option})`;
    found.push(
      without === undefined
        ? finding('blocking', `The kernel ${version} cannot restore: ${what} ${why}.`, chooseAnother)
        : finding('degraded', `The kernel ${version} has no ${what} (CONFIG_${option}).`, without),
    );
  }
  const missing = needs.drivers.filter((driver) => !isLoadable(driver));
  if (missing.length > 0)
    found.push(
      finding(
        'blocking',
        `The kernel ${version} does not reach the state folder: ${missing.join(', ')}, by which this one does, ${missing.length === 1 ? 'is' : 'are'} not among its modules.`,
        chooseAnother,
      ),
    );
  return found;
}

const chooseAnother =
  'Choose another one with --kernel, or install the distribution’s own (`apt-get install linux-image-amd64`).';

export function finding(verdict: Finding['verdict'], what: string, hint = '', tie = 'kernel'): Finding {
  return { tie, verdict, by: verdict === 'handled' ? 'engine' : '', what, hint };
}
