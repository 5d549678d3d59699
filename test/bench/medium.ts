/** What the medium itself takes, what it holds, its page cache, and a slow one made in software. */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import koffi from 'koffi';
import { runCommand } from '../../engine/command.ts';
import { readMounts } from '../../engine/mounts.ts';

const mebibyte = 1024 * 1024;
const blockBytes = 4 * mebibyte;

const posixFadvise = koffi
  .load('libc.so.6')
  .func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
const dontNeed = 4;

/** Runs a program of the benchmark. @throws Error with what it said where it fails. */
export async function runOrThrow(program: string, args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await runCommand(program, args, { timeoutMs: 600_000 });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}: ${stderr || stdout}`);
  return stdout;
}

export interface MediumFigures {
  writeMs: number;
  readMs: number;
}

/** How long writing as many bytes past the page cache and syncing them takes, and reading them again. */
export async function mediumFigures(folder: string, bytes: number): Promise<MediumFigures> {
  const file = join(folder, `medium-${randomUUID()}`);
  // Direct input and output is in whole blocks.
  const size = Math.max(1, Math.round(bytes / mebibyte)) * mebibyte;
  const copy = async (...args: string[]) => {
    const startedAt = performance.now();
    await runOrThrow('dd', [`bs=${blockBytes}`, ...args]);
    return performance.now() - startedAt;
  };
  const write = [`of=${file}`, `count=${size}`, 'iflag=count_bytes'];
  try {
    return {
      writeMs: await copy('if=/dev/zero', ...write, 'oflag=direct', 'conv=fsync'),
      readMs: await copy(`if=${file}`, 'of=/dev/null', 'iflag=direct'),
    };
  } finally {
    await rm(file, { force: true });
  }
}

/** Bytes that a folder takes on its disk. */
export async function bytesOnDisk(folder: string): Promise<number> {
  return Number.parseInt(await runOrThrow('du', ['-s', '-B1', folder]), 10);
}

/** Has the page cache forget every file in a folder, once the medium has them. */
export async function forgetCached(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const file = await open(join(entry.parentPath, entry.name), 'r');
    try {
      await file.datasync();
      posixFadvise(file.fd, 0, 0, dontNeed);
    } finally {
      await file.close();
    }
  }
}

/** A file system on a device that is held to the speed of a slow USB stick, in bytes a second. */
export const slowSpeeds = { write: 50_000_000, read: 100_000_000 } as const;

export interface SlowMedium extends AsyncDisposable {
  readonly folder: string;
}

/**
 * Makes one of this size in a file on the medium of `folder`: a loop device, which the kernel's block throttling holds to
 * {@link slowSpeeds}. Only version 1 of cgroups throttles what the kernel itself writes back for everyone.
 * @returns why there is none, where this machine cannot.
 */
export async function slowMedium(folder: string, bytes: number): Promise<SlowMedium | string> {
  const throttle = (await readMounts()).find(
    ({ type, superOptions }) => type === 'cgroup' && superOptions.split(',').includes('blkio'),
  )?.path;
  if (throttle === undefined)
    return 'this machine has no cgroup version 1 with `blkio`, which throttles a disk';
  const file = join(folder, 'slow.img');
  const mount = join(folder, 'slow');
  const undo: (() => Promise<unknown>)[] = [() => rm(file, { force: true })];
  const dispose = async () => {
    for (const step of undo.splice(0).toReversed()) await step();
  };
  try {
    // Written, not only made larger: the first write to a hole costs more than one to a device.
    await runOrThrow('dd', [
      'if=/dev/zero',
      `of=${file}`,
      `bs=${blockBytes}`,
      `count=${bytes}`,
      'iflag=count_bytes',
      'oflag=direct',
    ]);
    const device = (await runOrThrow('losetup', ['--direct-io=on', '--find', '--show', file])).trim();
    undo.push(() => runOrThrow('losetup', ['--detach', device]));
    await runOrThrow('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0', device]);
    await mkdir(mount);
    undo.push(() => rmdir(mount));
    await runOrThrow('mount', [device, mount]);
    undo.push(() => runOrThrow('umount', [mount]));
    const number = (await readFile(`/sys/block/${device.replace('/dev/', '')}/dev`, 'utf8')).trim();
    const limit = async (write: number, read: number) => {
      await writeFile(join(throttle, 'blkio.throttle.write_bps_device'), `${number} ${write}`);
      await writeFile(join(throttle, 'blkio.throttle.read_bps_device'), `${number} ${read}`);
    };
    undo.push(() => limit(0, 0));
    await limit(slowSpeeds.write, slowSpeeds.read);
    return { folder: mount, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    return `a slow disk could not be made: ${(error as Error).message}`;
  }
}
