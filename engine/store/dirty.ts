/** How much of what was written has not come to the disk yet, for the whole machine: proc(5), /proc/meminfo. */
import { readFile } from 'node:fs/promises';

/** Pure part of {@link dirtyBytes}. */
export function parseDirty(meminfo: string): number {
  const kibibytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(meminfo)?.[1] ?? 0);
  return (kibibytes('Dirty') + kibibytes('Writeback')) * 1024;
}

export async function dirtyBytes(): Promise<number> {
  return parseDirty(await readFile('/proc/meminfo', 'utf8'));
}
