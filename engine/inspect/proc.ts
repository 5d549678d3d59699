/**
 * Readers of /proc (proc(5)), one process at a time. What the kernel answers from its own tables, such as the names of
 * descriptors, is asked at once: in turn it takes several times as long. What may wait, for a process's memory map, is
 * asked in the background. Nothing here asks a network file system or one of a user's making, which may never answer.
 */
import { type BigIntStats, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import type { Descriptor, DescriptorKind, FileSystem, Inode, Mapping, ProcessFacts } from './facts.ts';

const namespaceNames = ['pid', 'ipc', 'user', 'net', 'cgroup', 'time', 'uts', 'mnt'];
/** PF_KTHREAD of the kernel's sched.h. */
const kernelThreadFlag = 0x0020_0000;
/** The kernel's devices.txt: 136 to 143 are the slaves of pseudo terminals, 5:2 is ptmx. */
const slaveMajors = { first: 136, last: 143 };
const ptmx = { major: 5, minor: 2 };
/** Descriptors that are read in one go, in less than a millisecond. */
const sliceLength = 25;

/** A process that has gone, or that the kernel does not let us see, has nothing. */
function unlessGone<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}

const textOf = (path: string) => unlessGone(() => readFileSync(path, 'utf8'));
const linkOf = (path: string) => unlessGone(() => readlinkSync(path));
const statOf = (path: string) => unlessGone(() => statSync(path, { bigint: true }));

export interface ProcessLine {
  name: string;
  state: string;
  ppid: number;
  session: number;
  /** Device number of the controlling terminal, 0 where there is none. */
  terminal: number;
  kernelThread: boolean;
  startTime: string;
}

/** Pure part of {@link readProcessLine}. The name in parentheses may hold anything, parentheses too. */
export function parseProcessLine(line: string): ProcessLine {
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return {
    name: line.slice(line.indexOf('(') + 1, line.lastIndexOf(')')),
    state: fields[0] ?? '',
    ppid: Number(fields[1]),
    session: Number(fields[3]),
    terminal: Number(fields[4]),
    kernelThread: (Number(fields[6]) & kernelThreadFlag) !== 0,
    startTime: fields[19] ?? '',
  };
}

/** /proc/PID/stat; undefined where there is no such process. */
export function readProcessLine(pid: number): ProcessLine | undefined {
  const line = textOf(`/proc/${pid}/stat`);
  return line === undefined ? undefined : parseProcessLine(line);
}

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
  if (line === undefined || status === undefined) return undefined;
  const hasEnded = line.state === 'Z' || line.state === 'X';
  const field = (text: string, name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  const kibibytes = (...names: string[]) => names.reduce((sum, name) => sum + field(rollup, name), 0) * 1024;
  const { terminal, ...rest } = line;
  return {
    pid,
    ...rest,
    command: command.split('\0').slice(0, -1),
    uid: field(status, 'Uid'),
    owners: ownersOf(status),
    terminal: hasEnded ? undefined : controllingTerminal(pid, terminal),
    tracer: field(status, 'TracerPid'),
    memoryBytes: kibibytes('Pss'),
    imageBytes: kibibytes('Pss_Anon', 'Pss_Shmem', 'SwapPss'),
    namespaces: Object.fromEntries(
      namespaceNames.map((name) => [name, linkOf(`${folder}/ns/${name}`) ?? '']),
    ),
    descriptors: hasEnded ? [] : open,
    mappings: hasEnded ? [] : readMappings(pid, maps),
  };
}

/** Whoever the process is or could be: real, effective, saved and file system user. */
function ownersOf(status: string): number[] {
  return [...new Set(/^Uid:\s+(.*)$/m.exec(status)?.[1]?.split(/\s+/).map(Number))];
}

/** The number is MMMmmmmmMM in hexadecimal as new_encode_dev of the kernel makes it. */
function controllingTerminal(pid: number, device: number): string | undefined {
  if (device === 0) return undefined;
  const major = (device >> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
  if (major < slaveMajors.first || major > slaveMajors.last) return `${major}:${minor}`;
  const instance = statOf(`/proc/${pid}/root/dev/pts`);
  // A process that has just ended shows no root any more, and has no terminal either.
  return instance && terminalKey(instance.dev, slaveIndex(major, minor));
}

const slaveIndex = (major: number, minor: number) => (major - slaveMajors.first) * 256 + minor;
/** Each instance of devpts counts its terminals from 0. */
const terminalKey = (instance: bigint | undefined, index: number) => `${instance ?? ''}#${index}`;

async function readDescriptors(pid: number, mounts: ReadonlyMap<number, FileSystem>): Promise<Descriptor[]> {
  const numbers = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
  const found: Descriptor[] = [];
  for (const [index, fd] of numbers.entries()) {
    if (index % sliceLength === sliceLength - 1) await yieldToOthers();
    const descriptor = readDescriptor(pid, fd, mounts);
    if (descriptor !== undefined) found.push(descriptor);
  }
  return found;
}

/** Those of a process's descriptors whose target is wanted, without reading the others. */
export function searchDescriptors(pid: number, isWanted: (target: string) => boolean): Descriptor[] {
  const numbers = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
  return numbers
    .filter((fd) => isWanted(linkOf(`/proc/${pid}/fd/${fd}`) ?? ''))
    .map((fd) => readDescriptor(pid, fd, new Map()))
    .filter((each) => each !== undefined);
}

function readDescriptor(
  pid: number,
  fd: string,
  mounts: ReadonlyMap<number, FileSystem>,
): Descriptor | undefined {
  const link = `/proc/${pid}/fd/${fd}`;
  const target = linkOf(link);
  const info = textOf(`/proc/${pid}/fdinfo/${fd}`);
  if (target === undefined || info === undefined) return undefined;
  const number = (name: string, radix: number) =>
    Number.parseInt(new RegExp(`^${name}:\\s*(-?\\d+)`, 'm').exec(info)?.[1] ?? '0', radix);
  const common = {
    fd: Number(fd),
    target,
    flags: number('flags', 8),
    mount: number('mnt_id', 10),
    locked: /^lock:/m.test(info),
  };
  const [, type, inode] = /^(socket|pipe):\[(\d+)\]$/.exec(target) ?? [];
  if (type === 'socket' || type === 'pipe') return { ...common, kind: type, inode: Number(inode) };
  if (target.startsWith('anon_inode:')) {
    const object = { kind: 'kernel-object', type: target.slice(11).replace(/^\[(.*)\]$/, '$1') } as const;
    return { ...common, ...object, ...(object.type === 'pidfd' ? { pid: number('Pid', 10) } : {}) };
  }
  if (target.startsWith('/memfd:')) return { ...common, kind: 'memory-file' };
  // DMA buffers have a file system of their own, which is not mounted.
  if (target.startsWith('/dmabuf:')) return { ...common, kind: 'kernel-object', type: 'dmabuf' };
  const mount = mounts.get(common.mount);
  if (!target.startsWith('/') || (mount !== undefined && isFar(mount))) return { ...common, kind: 'other' };
  const stat = statOf(link);
  if (stat === undefined) return undefined;
  return { ...common, ...kindOf(pid, target, stat, number('tty-index', 10)) };
}

function kindOf(pid: number, target: string, stat: BigIntStats, ttyIndex: number): DescriptorKind {
  if (stat.isFile()) return { kind: 'file', inode: inodeOf(stat) };
  if (stat.isFIFO()) return { kind: 'fifo', inode: inodeOf(stat) };
  const device = deviceOf(stat);
  if (device === undefined) return { kind: 'other' };
  const { type, major, minor } = device;
  if (type === 'character' && major >= slaveMajors.first && major <= slaveMajors.last) {
    return { kind: 'terminal', end: 'slave', key: terminalKey(stat.dev, slaveIndex(major, minor)) };
  }
  if (type === 'character' && major === ptmx.major && minor === ptmx.minor) {
    // Opened as /dev/ptmx it is a node elsewhere, which stands for that of the devpts mounted beside it.
    const instance =
      basename(dirname(target)) === 'pts' ? stat.dev : statOf(`/proc/${pid}/root${dirname(target)}/pts`)?.dev;
    return { kind: 'terminal', end: 'master', key: terminalKey(instance, ttyIndex) };
  }
  return { kind: 'device', ...device };
}

const inodeOf = (stat: BigIntStats): Inode => ({
  key: `${stat.dev}:${stat.ino}`,
  bytes: Number(stat.size),
  links: Number(stat.nlink),
});

/** Device numbers as the C library packs them (gnu_dev_major of sysmacros.h). */
function deviceOf(stat: BigIntStats) {
  if (!stat.isCharacterDevice() && !stat.isBlockDevice()) return undefined;
  const type = stat.isCharacterDevice() ? 'character' : 'block';
  const major = Number(((stat.rdev >> 8n) & 0xfffn) | ((stat.rdev >> 32n) & 0xffff_f000n));
  const minor = Number((stat.rdev & 0xffn) | ((stat.rdev >> 12n) & 0xffff_ff00n));
  return { type, major, minor } as const;
}

/** Memory that the kernel shows as a file with a name but without one that was ever there. */
const nameless = /^\/(dev\/zero|SYSV[0-9a-f]+|memfd:.*|anon_hugepage|dmabuf:.*) \(deleted\)$/;

/** A path that may be a device, or that seems to be gone. */
const mapsLine = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ (\S+ \d+) +(\/dev\/.*|\/.* \(deleted\)|anon_inode:.*)$/gm;

function readMappings(pid: number, maps: string): Mapping[] {
  const found: Mapping[] = [];
  const seen = new Set<string>();
  for (const [, start = '', end = '', file = '', path = ''] of maps.matchAll(mapsLine)) {
    // Files that had the same name one after the other are several.
    if (seen.has(`${file} ${path}`)) continue;
    seen.add(`${file} ${path}`);
    if (path === '/[aio] (deleted)') found.push({ kind: 'aio' });
    else if (!nameless.test(path)) found.push(...lookAtMapping(pid, `${start}-${end}`, path));
  }
  return found;
}

function lookAtMapping(pid: number, range: string, path: string): Mapping[] {
  const stat = statOf(`/proc/${pid}/map_files/${range.replace(/\b0+(?=[0-9a-f])/g, '')}`);
  if (stat === undefined) return [];
  const device = deviceOf(stat);
  if (device !== undefined) return [{ kind: 'device', path, ...device }];
  if (!stat.isFile() || stat.nlink > 0n) return [];
  return [{ kind: 'deleted', path: path.replace(/ \(deleted\)$/, ''), inode: inodeOf(stat) }];
}

/** The process and all below it, parents first. One that ends meanwhile is left out with what was below it. */
export function treeBelow(pid: number): number[] {
  const found: number[] = [];
  const seen = new Set<number>();
  for (const ahead = [pid]; ahead.length > 0; ) {
    const next = ahead.shift() ?? 0;
    const tasks = seen.has(next) ? undefined : unlessGone(() => readdirSync(`/proc/${next}/task`));
    seen.add(next);
    if (tasks === undefined) continue;
    found.push(next);
    for (const task of tasks) {
      const children = textOf(`/proc/${next}/task/${task}/children`) ?? '';
      ahead.push(...children.split(' ').filter(Boolean).map(Number));
    }
  }
  return found;
}

/** All processes of this machine that the engine sees. */
export function allProcesses(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

export const namespaceOf = (pid: number, name: string) => linkOf(`/proc/${pid}/ns/${name}`);

/** Proportional set size in bytes; 0 where the process has gone. */
export async function memoryOf(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
  return Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0) * 1024;
}

const farTypes = /^(nfs4?|cifs|smb3|9p|virtiofs|ceph|afs|coda|fuse(\..*)?|fuseblk)$/;

/** On another machine, or a program's making: it may be away, and asking it may take for ever. */
export const isFar = (mount: Pick<FileSystem, 'type'>) => farTypes.test(mount.type);

const unescapeOctal = (text: string) =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Mounts by id, with the device each is of. Pure part of {@link readMountsOf}. */
export function parseMounts(
  mountinfo: string,
): Map<number, Omit<FileSystem, 'removable'> & { device: string }> {
  const mounts = new Map<number, Omit<FileSystem, 'removable'> & { device: string }>();
  for (const line of mountinfo.split('\n')) {
    const [, id, device = '', path = '', type = ''] =
      /^(\d+) \d+ (\d+:\d+) \S+ (\S+) .*? - (\S+) /.exec(line) ?? [];
    if (id !== undefined) mounts.set(Number(id), { path: unescapeOctal(path), type, device });
  }
  return mounts;
}

/** The mounts that a process sees, by id. */
export function readMountsOf(pid: number): Map<number, FileSystem> {
  const mounts = parseMounts(textOf(`/proc/${pid}/mountinfo`) ?? '');
  return new Map(
    [...mounts].map(([id, { path, type, device }]) => [id, { path, type, removable: isRemovable(device) }]),
  );
}

/** sysfs says it of the whole disk; a partition's folder lies in that of its disk. */
function isRemovable(device: string): boolean {
  if (device.startsWith('0:')) return false;
  const folder = `/sys/dev/block/${device}`;
  const text = textOf(`${folder}/removable`) ?? textOf(`${folder}/../removable`);
  return text?.trim() === '1';
}
