/**
 * What the descriptors of a process are of. Nothing here asks a network file system or one of a user's making, which may
 * never answer.
 */
import { type BigIntStats, readdirSync, statfsSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import type { Descriptor, DescriptorKind, FileSystem, Watched } from './facts.ts';
import { deviceOf, inodeOf, linkOf, mapsKey, statOf, textOf, unlessGone } from './kernel-files.ts';
import { isFar } from './mounts.ts';
import { isMaster, isSlave, slaveKey, terminalKey } from './pseudo-terminals.ts';

/** Descriptors that are read in one go, in less than a millisecond. */
const sliceLength = 25;

export async function readDescriptors(
  pid: number,
  mounts: ReadonlyMap<number, FileSystem>,
): Promise<Descriptor[]> {
  const numbers = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
  const found: Descriptor[] = [];
  for (const [index, fd] of numbers.entries()) {
    if (index % sliceLength === sliceLength - 1) await yieldToOthers();
    const descriptor = readDescriptor(pid, fd, mounts);
    if (descriptor !== undefined) found.push(descriptor);
  }
  return found;
}

/** Those of a process's descriptors, or of some of them, whose target is wanted, without reading the others. */
export function searchDescriptors(
  pid: number,
  isWanted: (target: string) => boolean,
  among?: readonly number[],
): Descriptor[] {
  const numbers = among?.map(String) ?? unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
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
    unseen: false,
    locked: /^lock:\s+\d+: (?!LEASE)/m.test(info),
    leased: /^lock:\s+\d+: LEASE/m.test(info),
  };
  const [, type, inode] = /^(socket|pipe):\[(\d+)\]$/.exec(target) ?? [];
  if (type === 'socket' || type === 'pipe') return { ...common, kind: type, inode: Number(inode) };
  if (target.startsWith('anon_inode:')) {
    const object = { kind: 'kernel-object', type: target.slice(11).replace(/^\[(.*)\]$/, '$1') } as const;
    if (object.type === 'timerfd') return { ...common, ...object, clock: number('clockid', 10) };
    if (object.type === 'pidfd') return { ...common, ...object, pid: number('Pid', 10) };
    const watched = watchers.has(object.type) ? readWatched(info) : [];
    return { ...common, ...object, ...(watched.length > 0 ? { watched } : {}) };
  }
  // On new kernels pidfds have a file system of their own.
  if (target.startsWith('pidfd:'))
    return { ...common, kind: 'kernel-object', type: 'pidfd', pid: number('Pid', 10) };
  const [, name, namespace] = /^(\w+):\[(\d+)\]$/.exec(target) ?? [];
  if (name !== undefined) return { ...common, kind: 'namespace', name, inode: Number(namespace) };
  if (target.startsWith('/memfd:')) {
    const stat = statOf(link);
    return stat && { ...common, kind: 'memory-file', key: mapsKey(stat) };
  }
  if (target.startsWith('/secretmem')) return { ...common, kind: 'kernel-object', type: 'secretmem' };
  // DMA buffers have a file system of their own, which is not mounted.
  if (target.startsWith('/dmabuf:')) return { ...common, kind: 'kernel-object', type: 'dmabuf' };
  const mount = mounts.get(common.mount);
  if (!target.startsWith('/') || (mount !== undefined && isFar(mount))) return { ...common, kind: 'other' };
  const stat = statOf(link);
  if (stat === undefined) return undefined;
  const kind = kindOf(pid, target, stat, number('tty-index', 10));
  const hasPath =
    kind.kind === 'file' || kind.kind === 'folder' || kind.kind === 'fifo' || kind.kind === 'device';
  if (!hasPath || mount !== undefined || mounts.size === 0) return { ...common, ...kind };
  const isQueue = kind.kind === 'file' && unlessGone(() => statfsSync(link).type) === messageQueueMagic;
  return isQueue ? { ...common, kind: 'message-queue' } : { ...common, ...kind, unseen: true };
}

/** MQUEUE_MAGIC of the kernel's ipc/mqueue.c. */
const messageQueueMagic = 0x1980_0202;

const watchers = new Set(['eventpoll', 'inotify', 'fanotify']);
const epollLine = /^tfd:\s+(\d+) .*\bino:([0-9a-f]+)/gm;
const watchLine =
  /^(?:i|fa)notify\b.*\bsdev:([0-9a-f]+) .*\bfhandle-bytes:\S+ fhandle-type:([0-9a-f]+) f_handle:([0-9a-f]+)/gm;

function readWatched(info: string): Watched[] {
  const descriptors = Array.from(info.matchAll(epollLine), ([, fd, inode]): Watched => {
    return { kind: 'descriptor', fd: Number(fd), inode: Number.parseInt(inode ?? '', 16) };
  });
  const files = Array.from(info.matchAll(watchLine), ([, sdev = '', type = '', handle = '']): Watched => {
    // As the kernel itself counts devices: 20 bits for the minor number.
    const device = Number.parseInt(sdev, 16);
    return {
      kind: 'file',
      device: `${device >>> 20}:${device & 0xf_ffff}`,
      type: Number.parseInt(type, 16),
      handle,
    };
  });
  return [...descriptors, ...files];
}

function kindOf(pid: number, target: string, stat: BigIntStats, ttyIndex: number): DescriptorKind {
  if (stat.isFile()) return { kind: 'file', inode: inodeOf(stat) };
  if (stat.isDirectory()) return { kind: 'folder' };
  if (stat.isFIFO()) return { kind: 'fifo', inode: inodeOf(stat) };
  const device = deviceOf(stat);
  if (device === undefined) return { kind: 'other' };
  const { type, major, minor } = device;
  if (type === 'character' && isSlave(major)) {
    return { kind: 'terminal', end: 'slave', key: slaveKey(stat.dev, major, minor) };
  }
  if (type === 'character' && isMaster(major, minor)) {
    // Opened as /dev/ptmx it is a node elsewhere, which stands for that of the devpts mounted beside it.
    const instance =
      basename(dirname(target)) === 'pts' ? stat.dev : statOf(`/proc/${pid}/root${dirname(target)}/pts`)?.dev;
    return { kind: 'terminal', end: 'master', key: terminalKey(instance, ttyIndex) };
  }
  return { kind: 'device', ...device };
}
