/**
 * All that there is to know of one process. What the kernel answers from its own tables, such as the names of descriptors,
 * is asked at once: in turn it takes several times as long. What may wait, for a process's memory map, is asked in the
 * background.
 */
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { readDescriptors } from './descriptors.ts';
import type { Descriptor, FileSystem, ProcessFacts } from './facts.ts';
import { linkOf, statOf, textOf, unlessGone } from './kernel-files.ts';
import { readMappings } from './mappings.ts';
import { hasEnded, namespaceNames, readProcessLine } from './proc.ts';
import { isSlave, slaveKey } from './pseudo-terminals.ts';

/** Facts of one process; undefined where it has gone. `mounts` are those that it sees. */
export async function readProcess(
  pid: number,
  mounts: ReadonlyMap<number, FileSystem>,
): Promise<ProcessFacts | undefined> {
  const folder = `/proc/${pid}`;
  const slow = Promise.all(
    ['cmdline', 'smaps_rollup', 'maps'].map((name) => readFile(`${folder}/${name}`, 'utf8').catch(() => '')),
  );
  const open = await readDescriptors(pid, mounts);
  const [command = '', rollup = '', maps = ''] = await slow;
  // Last, for this decides what the rest is worth: of a process that ends, some has gone already.
  const line = readProcessLine(pid);
  const status = textOf(`${folder}/status`);
  const timers = textOf(`${folder}/timers`) ?? '';
  if (line === undefined || status === undefined) return undefined;
  const isDead = line.state === 'Z' || line.state === 'X';
  const field = (text: string, name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  const kibibytes = (...names: string[]) => names.reduce((sum, name) => sum + field(rollup, name), 0) * 1024;
  const { terminal, ...rest } = line;
  return {
    pid,
    ...rest,
    threadsLeft: isDead && !hasEnded({ pid, state: line.state }),
    command: command.split('\0').slice(0, -1),
    uid: field(status, 'Uid'),
    owners: ownersOf(status),
    terminal: isDead ? undefined : controllingTerminal(pid, terminal),
    tracer: field(status, 'TracerPid'),
    memoryBytes: kibibytes('Pss'),
    // Huge pages are in none of the others.
    imageBytes: kibibytes('Pss_Anon', 'Pss_Shmem', 'SwapPss', 'Private_Hugetlb', 'Shared_Hugetlb'),
    lockedBytes: field(status, 'VmLck') * 1024,
    hugeBytes: field(status, 'HugetlbPages') * 1024,
    timers: timers.match(/^ID: /gm)?.length ?? 0,
    seccomp: seccompModes[field(status, 'Seccomp')] ?? 'none',
    filters: field(status, 'Seccomp_filters'),
    processors: processorsIn(status),
    alarmClocks: /^ClockID: [89]$/m.test(timers) || open.some(isAlarmClock),
    shadowStack: /^x86_Thread_features:.*\bshstk\b/m.test(status),
    namespaces: Object.fromEntries(
      namespaceNames.map((name) => [name, linkOf(`${folder}/ns/${name}`) ?? '']),
    ),
    descriptors: isDead ? [] : open,
    mappings: isDead ? [] : readMappings(pid, maps),
    folders: isDead ? [] : readFolders(pid, mounts),
  };
}

/** CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM, which wake a machine that sleeps. */
const isAlarmClock = (descriptor: Descriptor) =>
  descriptor.kind === 'kernel-object' && (descriptor.clock === 8 || descriptor.clock === 9);

/** @param status of a process, as /proc has it. */
export const processorsIn = (status: string) => /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? '';

/** O_PATH of open(2): by it a file system is not asked. */
const pathOnly = 0o10000000;

function readFolders(pid: number, mounts: ReadonlyMap<number, FileSystem>): ProcessFacts['folders'] {
  return ['cwd', 'root'].flatMap((name) => {
    const path = linkOf(`/proc/${pid}/${name}`);
    const fd = unlessGone(() => openSync(`/proc/${pid}/${name}`, pathOnly));
    if (path === undefined || fd === undefined) return [];
    const mount = Number(/^mnt_id:\s*(\d+)/m.exec(textOf(`/proc/self/fdinfo/${fd}`) ?? '')?.[1] ?? 0);
    closeSync(fd);
    return [{ path, mount, unseen: mounts.size > 0 && !mounts.has(mount) }];
  });
}

/** As proc_pid_status(5) counts them. */
const seccompModes = ['none', 'strict', 'filter'] as const;

/** Whoever the process is or could be: real, effective, saved and file system user. */
export function ownersOf(status: string): number[] {
  return [...new Set(/^Uid:\s+(.*)$/m.exec(status)?.[1]?.split(/\s+/).map(Number))];
}

/** The number is MMMmmmmmMM in hexadecimal as new_encode_dev of the kernel makes it. */
function controllingTerminal(pid: number, device: number): string | undefined {
  if (device === 0) return undefined;
  const major = (device >> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
  if (!isSlave(major)) return `${major}:${minor}`;
  const instance = statOf(`/proc/${pid}/root/dev/pts`);
  // A process that has just ended shows no root any more, and has no terminal either.
  return instance && slaveKey(instance.dev, major, minor);
}
