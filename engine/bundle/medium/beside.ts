/** Files that lie beside a bundle in its folder, as they are, for people to start: Torpor itself. */
import { fstat, read } from 'node:fs';
import { chmod, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { TorporError } from '../../../api/errors.ts';
import { openToRead, openToWrite, settleFile, syncNames, writeFully } from './files.ts';
import { DamageError, errnoOf } from './trouble.ts';

const readFrom = promisify(read);
const statOf = promisify(fstat);
const partBytes = 1024 * 1024;

/** A file that whoever started this program has opened for it. */
export interface FileBeside {
  fd: number;
  /** In the bundle's folder. */
  name: string;
  mode: number;
}

/** @throws TorporError where the bundle has no folder. */
export function refuseBesideFile(path: string): never {
  throw new TorporError(
    'usage',
    `${path} is one file, and Torpor itself cannot lie in it.`,
    'Export to a folder: choose a name that does not end with .torpor, or --form folder.',
  );
}

/**
 * Writes what is not there yet, synced and read back; each file is there whole, the old one or the new.
 * @returns bytes that were written.
 */
export async function writeBeside(folder: string, files: readonly FileBeside[]): Promise<number> {
  let written = 0;
  for (const file of files) {
    const path = join(folder, file.name);
    if (await isSame(file.fd, path)) continue;
    written += await copy(file, path);
    // What has no modes, as FAT, starts it by `sh resume`.
    await chmod(path, file.mode).catch(() => {});
  }
  if (written > 0) await syncNames(folder);
  return written;
}

async function copy({ fd, name }: FileBeside, path: string): Promise<number> {
  const temporary = `${path}.new`;
  const { size } = await statOf(fd);
  try {
    const target = await openToWrite(temporary);
    try {
      for (let at = 0; at < size; at += partBytes) await writeFully(target, await partOf(fd, at), at);
      await settleFile(target);
    } finally {
      await target.close();
    }
    if (!(await isSame(fd, temporary))) throw new DamageError(`${name} beside it is not what was written`);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return size;
}

async function partOf(fd: number, position: number): Promise<Buffer> {
  const { bytesRead, buffer } = await readFrom(fd, Buffer.allocUnsafe(partBytes), 0, partBytes, position);
  return buffer.subarray(0, bytesRead);
}

async function isSame(fd: number, path: string): Promise<boolean> {
  let there: Awaited<ReturnType<typeof openToRead>>;
  try {
    there = await openToRead(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
  try {
    const [{ size }, stat] = [await statOf(fd), await there.stat()];
    if (!stat.isFile() || stat.size !== size) return false;
    for (let at = 0; at < size; at += partBytes)
      if (!(await partOf(fd, at)).equals(await partOf(there.fd, at))) return false;
    return true;
  } finally {
    await there.close();
  }
}
