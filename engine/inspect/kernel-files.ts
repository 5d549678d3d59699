/** What the kernel tells in files, of processes that may end at any time. */
import { type BigIntStats, readFileSync, readlinkSync, statSync } from 'node:fs';
import type { Inode } from './facts.ts';

/** A process that has gone, or that the kernel does not let us see, has nothing. */
export function unlessGone<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}

export const textOf = (path: string) => unlessGone(() => readFileSync(path, 'utf8'));
export const linkOf = (path: string) => unlessGone(() => readlinkSync(path));
export const statOf = (path: string) => unlessGone(() => statSync(path, { bigint: true }));

/** What a file is told by. */
export const inodeOf = (stat: BigIntStats): Inode => ({
  key: `${stat.dev}:${stat.ino}`,
  bytes: Number(stat.size),
  links: Number(stat.nlink),
});

/** As the C library packs them (gnu_dev_major of sysmacros.h). */
const majorOf = (device: bigint) => Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xffff_f000n));
const minorOf = (device: bigint) => Number((device & 0xffn) | ((device >> 12n) & 0xffff_ff00n));

/** Device and inode as /proc/PID/maps has them. */
export const mapsKey = ({ dev, ino }: BigIntStats) => `${majorOf(dev)}:${minorOf(dev)}:${ino}`;

/** Undefined for what is no device. */
export function deviceOf(stat: BigIntStats) {
  if (!stat.isCharacterDevice() && !stat.isBlockDevice()) return undefined;
  const type = stat.isCharacterDevice() ? 'character' : 'block';
  return { type, major: majorOf(stat.rdev), minor: minorOf(stat.rdev) } as const;
}
