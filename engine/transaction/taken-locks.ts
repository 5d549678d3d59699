/**
 * Locks that the application had by flock(2) and that another process has now. CRIU takes a lock again by waiting for it,
 * which may be for ever, so it is found out before.
 */
import { readFile, stat } from 'node:fs/promises';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { Manifest } from '../../proto/manifest.ts';
import { type CapsuleView, hostPath, pathBytes } from '../files/paths.ts';
import { fileRecordSchema, type RecordedFile } from '../files/record.ts';
import { readProcessLine } from '../inspect/proc.ts';

export interface HeldLock {
  kind: 'read' | 'write';
  /** 0 or less where it is not told. */
  pid: number;
  /** `major:minor:inode`. */
  file: string;
}

/** The locks by flock(2) in /proc/locks (proc(5)); those that wait for one are left out. */
export function parseLocks(text: string): HeldLock[] {
  const line = /^\d+: FLOCK +\S+ +(READ|WRITE) +(-?\d+) +([0-9a-f]+):([0-9a-f]+):(\d+)/gm;
  return Array.from(text.matchAll(line), ([, kind, pid, major = '', minor = '', inode]) => ({
    kind: kind === 'READ' ? 'read' : 'write',
    pid: Number(pid),
    file: `${Number.parseInt(major, 16)}:${Number.parseInt(minor, 16)}:${inode}`,
  }));
}

/** @throws TorporError `blocked` where another process has a lock that the application must have. */
export async function refuseTakenLocks({ name, surroundings }: Manifest, view: CapsuleView): Promise<void> {
  const records = z.array(fileRecordSchema).parse(surroundings);
  const locked = records
    .filter((record) => record.kind === 'file')
    .filter(({ flock }) => flock !== undefined);
  if (locked.length === 0) return;
  const held = parseLocks(await readFile('/proc/locks', 'latin1'));
  for (const record of locked) {
    const file = await identityOf(record, view);
    const taken = held.find(
      (lock) => lock.file === file && (lock.kind === 'write' || record.flock === 'write'),
    );
    if (taken === undefined) continue;
    const owner = readProcessLine(taken.pid);
    throw new TorporError(
      'blocked',
      `${name} had locked ${record.path}, which ${owner === undefined ? 'another process' : `${owner.name} (pid ${taken.pid})`} has locked now.`,
      'End that process, or wait until it lets go of the file, and resume again.',
    );
  }
}

async function identityOf(record: RecordedFile, view: CapsuleView): Promise<string | undefined> {
  const found = await stat(await hostPath(view, pathBytes(record)), { bigint: true }).catch(() => undefined);
  if (found === undefined) return undefined;
  const major = ((found.dev >> 8n) & 0xfffn) | ((found.dev >> 32n) & 0xffff_f000n);
  const minor = (found.dev & 0xffn) | ((found.dev >> 12n) & 0xffff_ff00n);
  return `${major}:${minor}:${found.ino}`;
}
