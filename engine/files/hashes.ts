/**
 * SHA-256 of files that applications have mapped or open, remembered over restarts of the engine: the libraries of a
 * browser are hundreds of megabytes, and the same at every suspend. What is remembered goes by inode, size and times,
 * so a file that changes is hashed again.
 */
import { createHash } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { z } from 'zod';
import { Semaphore } from '../criu/semaphore.ts';
import { writeDurable } from '../durable.ts';
import type { Logger } from '../log.ts';
import { mappedFiles } from './processes.ts';

const sliceBytes = 1024 * 1024;
const maxEntries = 20_000;
const writeDelayMs = 5_000;
/** A second change within the kernel's clock tick leaves no trace in the times: young files are not remembered. */
const settledNs = 2_000_000_000n;

const cacheSchema = z.object({
  version: z.literal(1),
  entries: z.array(z.tuple([z.string(), z.string().regex(/^[0-9a-f]{64}$/)])),
});

type Identity = Pick<BigIntStats, 'dev' | 'ino' | 'size' | 'mtimeNs' | 'ctimeNs'>;

const keyOf = ({ dev, ino, size, mtimeNs, ctimeNs }: Identity) =>
  [dev, ino, size, mtimeNs, ctimeNs].join(':');

/**
 * Opens a regular file for reading, without waiting on a pipe that somebody has put in its place.
 * @throws Error `EINVAL` where it is something else.
 */
export async function openRegular(path: string | Buffer): Promise<{ file: FileHandle; stat: BigIntStats }> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = await file.stat({ bigint: true });
    if (!stat.isFile()) throw Object.assign(new Error(`${path} is not a file`), { code: 'EINVAL' });
    return { file, stat };
  } catch (error) {
    await file.close();
    throw error;
  }
}

export class FileHashes {
  readonly #cacheFile: string | undefined;
  readonly #log: Logger | undefined;
  /** Longest unused first. */
  readonly #known = new Map<string, string>();
  readonly #running = new Map<string, Promise<string>>();
  readonly #places = new Semaphore(2);
  #loading: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  /** Without a cache file it remembers as long as it lives. */
  constructor(cacheFile?: string, log?: Logger) {
    this.#cacheFile = cacheFile;
    this.#log = log;
  }

  /**
   * SHA-256, in hexadecimal, of the file that had this identity when it was looked at.
   * @throws Error `ESTALE` where another one is there now, and those of reading.
   */
  async hash(path: string | Buffer, stat: Identity): Promise<string> {
    this.#loading ??= this.#load();
    await this.#loading;
    const key = keyOf(stat);
    const known = this.#known.get(key);
    if (known !== undefined) {
      this.#known.delete(key);
      this.#known.set(key, known);
      return known;
    }
    const running = this.#running.get(key) ?? this.#read(path, key).finally(() => this.#running.delete(key));
    this.#running.set(key, running);
    return running;
  }

  async #read(path: string | Buffer, key: string): Promise<string> {
    using _place = await this.#places.acquire();
    const begun = BigInt(Date.now()) * 1_000_000n;
    const { file, stat } = await openRegular(path);
    try {
      if (keyOf(stat) !== key) throw Object.assign(new Error(`${path} has changed`), { code: 'ESTALE' });
      const sha256 = await digest(file);
      const after = await file.stat({ bigint: true });
      if (keyOf(after) === key && after.ctimeNs + settledNs < begun) this.#remember(key, sha256);
      return sha256;
    } finally {
      await file.close();
    }
  }

  /** Hashes what these processes have mapped, so that their first suspend need not. Never throws. */
  async warm(pids: readonly number[]): Promise<void> {
    try {
      const files = await mappedFiles(pids);
      // One after the other: this is for idle time.
      for (const { link, stat } of files.values()) await this.hash(link, stat).catch(() => {});
    } catch (error) {
      this.#log?.debug({ err: error }, 'could not hash files ahead of a suspend');
    }
  }

  /** Writes what is remembered now rather than soon. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const path = this.#cacheFile;
    if (path === undefined) return;
    this.#writing = this.#writing
      .then(() => writeDurable(path, JSON.stringify({ version: 1, entries: [...this.#known] })))
      .catch((error: unknown) => this.#log?.warn({ err: error, path }, 'could not write the file hashes'));
    await this.#writing;
  }

  #remember(key: string, sha256: string): void {
    this.#known.set(key, sha256);
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= maxEntries) break;
      this.#known.delete(oldest);
    }
    if (this.#cacheFile === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.flush(), writeDelayMs).unref();
  }

  async #load(): Promise<void> {
    if (this.#cacheFile === undefined) return;
    try {
      const { entries } = cacheSchema.parse(JSON.parse(await readFile(this.#cacheFile, 'utf8')));
      for (const [key, sha256] of entries.slice(-maxEntries)) this.#known.set(key, sha256);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      // It only saves time.
      this.#log?.warn({ err: error, path: this.#cacheFile }, 'the file hashes are damaged and made anew');
    }
  }
}

async function digest(file: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  const slice = Buffer.allocUnsafe(sliceBytes);
  for (let offset = 0; ; ) {
    const { bytesRead } = await file.read(slice, 0, sliceBytes, offset);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(slice.subarray(0, bytesRead));
    offset += bytesRead;
  }
}
