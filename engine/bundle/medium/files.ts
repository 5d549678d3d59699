/** Files on media that may be FAT: without modes, links, or folders that can be synced. */
import { constants } from 'node:fs';
import { type FileHandle, open, statfs } from 'node:fs/promises';
import { TorporError } from '../../../api/errors.ts';
import { dropFromCache } from '../../../native/page-cache.ts';
import { errnoOf } from './trouble.ts';

/** `struct statfs`'s f_type of vfat and msdos. */
const fat = 0x4d44;
export const mostFatBytes = 2 ** 32 - 1;

export const openToRead = (path: string): Promise<FileHandle> =>
  open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);

/** A new or emptied file. */
export const openToWrite = (path: string): Promise<FileHandle> =>
  open(path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, 0o600);

/** Makes the names in a folder durable; not every file system can. */
export async function syncNames(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } catch (error) {
    const code = errnoOf(error);
    if (code !== 'EINVAL' && code !== 'ENOTSUP') throw error;
  } finally {
    await folder.close();
  }
}

export async function writeFully(file: FileHandle, data: Buffer, position: number): Promise<void> {
  for (let done = 0; done < data.length; )
    done += (await file.write(data, done, data.length - done, position + done)).bytesWritten;
}

/** Everything is on the medium then, and the kernel has nothing of it, if it can be made to forget. */
export async function settleFile(file: FileHandle): Promise<void> {
  await file.sync();
  dropFromCache(file.fd);
}

export async function isFat(folder: string): Promise<boolean> {
  return (await statfs(folder)).type === fat;
}

/** @throws TorporError where so many bytes have no room. */
export async function refuseIfFull(folder: string, bytes: number, path: string): Promise<void> {
  const { bavail, bsize, blocks } = await statfs(folder);
  // Some file systems do not say.
  if (blocks === 0 || bavail * bsize >= bytes) return;
  throw new TorporError(
    'failed',
    `The bundle ${path} needs ${inMiB(bytes)} MiB, and only ${inMiB(bavail * bsize)} MiB are free there. What was there before is unchanged.`,
    'Free some room on that medium, or choose another one.',
  );
}

const inMiB = (bytes: number) => Math.ceil(bytes / 1024 / 1024);

const bytesBetweenSyncs = 64 * 1024 * 1024;

/** Writes a file to its end, and lets the kernel gather no more than two such parts: so what was written is no promise. */
export class Appender {
  readonly file: FileHandle;
  #position: number;
  #unsynced = 0;
  #syncing: Promise<void> = Promise.resolve();

  constructor(file: FileHandle, position: number) {
    this.file = file;
    this.#position = position;
  }

  get position(): number {
    return this.#position;
  }

  async append(data: Buffer): Promise<void> {
    await writeFully(this.file, data, this.#position);
    this.#position += data.length;
    this.#unsynced += data.length;
    if (this.#unsynced < bytesBetweenSyncs) return;
    this.#unsynced = 0;
    await this.#syncing;
    this.#syncing = this.file.datasync();
    // Who appends or settles next hears of it.
    this.#syncing.catch(() => {});
  }

  async settle(): Promise<void> {
    await this.#syncing;
    await settleFile(this.file);
  }
}
