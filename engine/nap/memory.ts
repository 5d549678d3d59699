/**
 * Memory as a nap sees it: what processes have of it (smaps_rollup, proc(5)), and what the machine has left, in swap, in zram
 * and in waiting for it. All in bytes.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProcessMemory {
  /** Proportional share, as in `memoryBytes` of a workload. */
  pss: number;
  /** Of that, what only swap can take. */
  anonymous: number;
  /** Of that, what is of files, and comes back from disk. */
  file: number;
  /** Of that, what is shared memory. */
  shared: number;
  /** Proportional share of what is in swap already. */
  swap: number;
}

const none: ProcessMemory = { pss: 0, anonymous: 0, file: 0, shared: 0, swap: 0 };
const kilobyte = 1024;
const longestWriteMs = 10_000;
/** Something is always being written. */
const settledBytes = 4 * 1024 ** 2;

/** Pure part of {@link memoryOf}. */
export function parseRollup(text: string): ProcessMemory {
  const field = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * kilobyte;
  return {
    pss: field('Pss'),
    anonymous: field('Pss_Anon'),
    file: field('Pss_File'),
    shared: field('Pss_Shmem'),
    swap: field('SwapPss'),
  };
}

/** Of all these processes together; one that has ended has none. */
export async function memoryOf(pids: readonly number[]): Promise<ProcessMemory> {
  const texts = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')),
  );
  return texts.map(parseRollup).reduce(
    (sum, each) => ({
      pss: sum.pss + each.pss,
      anonymous: sum.anonymous + each.anonymous,
      file: sum.file + each.file,
      shared: sum.shared + each.shared,
      swap: sum.swap + each.swap,
    }),
    none,
  );
}

export interface MachineMemory {
  total: number;
  /** What new programs could have at once: as the kernel reckons it, and what is in swap and still in memory, too. */
  available: number;
  swapTotal: number;
  swapFree: number;
  /** Of all swap, how much lies in zram, compressed in memory. */
  zramTotal: number;
  /** Of what is in swap, how much is in zram, from 0 to 1. */
  zramShare: number;
  /** How many times less room zram has taken for what it has; undefined where it has too little to tell. */
  zramRatio: number | undefined;
}

/** What zram takes for bookkeeping hides its ratio below that. */
const tellingBytes = 4 * 1024 ** 2;

/** Pure. The line of /sys/block/zramN/mm_stat: what it has, that compressed, and all it takes for it, first. */
export function zramRatioOf(lines: readonly string[]): number | undefined {
  let held = 0;
  let taken = 0;
  for (const line of lines) {
    const [original = 0, , used = 0] = line.trim().split(/\s+/).map(Number);
    held += original;
    taken += used;
  }
  return held < tellingBytes || taken === 0 ? undefined : held / taken;
}

/** Pure. Devices of /proc/swaps with their sizes, and what is in them. */
export function parseSwaps(text: string): { path: string; bytes: number; used: number }[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [path, , size, used] = line.trim().split(/\s+/);
      return path && size ? { path, bytes: Number(size) * kilobyte, used: Number(used) * kilobyte } : [];
    });
}

export async function machineMemory(): Promise<MachineMemory> {
  const [info, swaps] = await Promise.all([
    readFile('/proc/meminfo', 'utf8'),
    readFile('/proc/swaps', 'utf8').catch(() => ''),
  ]);
  const field = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(info)?.[1] ?? 0) * kilobyte;
  const all = parseSwaps(swaps);
  const usedOf = (some: typeof all) => some.reduce((sum, { used }) => sum + used, 0);
  const zram = all.filter(({ path }) => /^\/dev\/zram\d+$/.test(path));
  const statistics = await Promise.all(
    zram.map(({ path }) =>
      readFile(join('/sys/block', path.slice('/dev/'.length), 'mm_stat'), 'utf8').catch(() => ''),
    ),
  );
  return {
    total: field('MemTotal'),
    available: field('MemAvailable') + field('SwapCached'),
    swapTotal: field('SwapTotal'),
    swapFree: field('SwapFree'),
    zramTotal: zram.reduce((sum, { bytes }) => sum + bytes, 0),
    zramShare: usedOf(all) === 0 ? 0 : usedOf(zram) / usedOf(all),
    zramRatio: zramRatioOf(statistics),
  };
}

/** Waits until what has been given to the kernel to write is written, as far as that does not take too long. */
export async function untilWritten(): Promise<void> {
  for (const end = Date.now() + longestWriteMs; Date.now() < end; await sleep(20)) {
    const text = await readFile('/proc/meminfo', 'utf8');
    const kilobytes = Number(/^Writeback:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0);
    if (kilobytes * kilobyte < settledBytes) return;
  }
}

/** The state of each thread of a process, as one letter (proc(5)). */
export async function threadStates(pid: number): Promise<string[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const texts = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/stat`, 'utf8').catch(() => '')),
  );
  return texts
    .filter(Boolean)
    .map((text) => text.slice(text.lastIndexOf(')') + 2, text.lastIndexOf(')') + 3));
}
