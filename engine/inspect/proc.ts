/** Which processes there are and how they hang together (proc(5)). */
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { linkOf, textOf, unlessGone } from './kernel-files.ts';

export const namespaceNames = [
  'pid',
  'ipc',
  'user',
  'net',
  'cgroup',
  'time',
  'uts',
  'mnt',
  'pid_for_children',
];
/** PF_KTHREAD of the kernel's sched.h. */
const kernelThreadFlag = 0x0020_0000;

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

/** What it was started with; nothing of one that has gone. */
export function commandOf(pid: number): string[] {
  const text = textOf(`/proc/${pid}/cmdline`) ?? '';
  return text.split('\0').filter((word, index, words) => word !== '' || index < words.length - 1);
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

/** Whether nothing of it runs any more; a main thread can end before the others do. */
export function hasEnded({ pid, state }: { pid: number; state: string }): boolean {
  return (state === 'Z' || state === 'X') && threadsOf(pid).length <= 1;
}

/** The numbers of its threads, its own among them. */
export const threadsOf = (pid: number) =>
  unlessGone(() => readdirSync(`/proc/${pid}/task`).map(Number)) ?? [];

/** All processes of this machine that the engine sees. */
export function allProcesses(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

export const namespaceOf = (pid: number, name: string) => linkOf(`/proc/${pid}/ns/${name}`);

/** Memory of this machine: what is free or can be freed, and all, in bytes. */
export function readMemory(): { available: number; total: number } {
  const text = textOf('/proc/meminfo') ?? '';
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0) * 1024;
  return {
    available: bytes('MemAvailable') + bytes('SwapFree'),
    total: bytes('MemTotal') + bytes('SwapTotal'),
  };
}

/** Proportional set size in bytes; 0 where the process has gone. */
export async function memoryOf(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
  return Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0) * 1024;
}

/** Whether a process is in other namespaces than this one, other than of mounts: units of systemd have those. */
export function isContained(pid: number): boolean {
  return namespaceNames.some((name) => {
    const theirs = name === 'mnt' || name === 'cgroup' ? undefined : namespaceOf(pid, name);
    return theirs !== undefined && theirs !== namespaceOf(process.pid, name);
  });
}
