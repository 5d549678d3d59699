/** Hashing and syncing the files of a snapshot, in slices, so that the event loop goes on turning. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ManifestFile } from '../../proto/manifest.ts';
import { syncFolder } from '../durable.ts';
import { together } from '../together.ts';
import { dirtyBytes } from './dirty.ts';

/** SHA-256 of 1 MiB takes under a millisecond on any machine of the last ten years. */
const sliceBytes = 1024 * 1024;
/**
 * A file that has not been written to for so long is probably finished. It must be longer than the tick of the clock
 * that times of files are taken from (at most 10 ms), so that a later write shows in them.
 */
const quietNs = 25_000_000n;
const lookAgainMs = 10;

export type Count = (bytes: number) => void;

/**
 * SHA-256 and length of a file, which must not be a symbolic link. `expectedBytes` is how long it probably is: most
 * images are small, and are had by one read then. With `sync` it is made durable as well. `count` is told of every part
 * that was hashed.
 */
export async function hashFile(
  path: string,
  expectedBytes: number,
  { signal, sync = false, count }: { signal?: AbortSignal; sync?: boolean; count?: Count } = {},
): Promise<{ sha256: string; bytes: number }> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    // The disk does the one, a core the other; what is read comes from the page cache it was just written to.
    const synced = sync ? file.datasync() : undefined;
    synced?.catch(() => {});
    const hash = createHash('sha256');
    // One byte more than expected, so that the end of the file shows.
    let slice = Buffer.allocUnsafe(Math.min(sliceBytes, expectedBytes + 1));
    let bytes = 0;
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(slice, 0, slice.length, bytes);
      hash.update(slice.subarray(0, bytesRead));
      bytes += bytesRead;
      count?.(bytesRead);
      if (bytesRead < slice.length) break;
      // It has grown: of what was empty a moment ago there may be gigabytes now.
      if (slice.length < sliceBytes) slice = Buffer.allocUnsafe(sliceBytes);
    }
    await synced;
    return { sha256: hash.digest('hex'), bytes };
  } finally {
    await file.close();
  }
}

async function listFiles(folder: string, prefix = ''): Promise<string[]> {
  const paths: string[] = [];
  for (const entry of await readdir(join(folder, prefix), { withFileTypes: true })) {
    const path = join(prefix, entry.name);
    if (entry.isDirectory()) paths.push(...(await listFiles(folder, path)));
    else paths.push(path);
  }
  return paths.sort();
}

interface Sealed {
  size: bigint;
  mtimeNs: bigint;
  file: ManifestFile;
}

/**
 * Makes the files below a folder durable and hashes them, beginning while they are still being written: whatever has
 * been left alone for a moment is done beforehand, and done again where it has changed after all. So the application
 * stands still for little more than the last of them.
 */
export class Sealer {
  readonly #folder: string;
  readonly #leftOut: ReadonlySet<string>;
  readonly #sealed = new Map<string, Sealed>();
  /** How much of the files that are just being sealed is hashed. */
  readonly #hashed = new Map<string, number>();
  #stopped = false;
  #ahead: Promise<void> | undefined;

  /** `leftOut` are names in the folder, of files or folders, that are not part of what is sealed. */
  constructor(folder: string, leftOut: readonly string[]) {
    this.#folder = folder;
    this.#leftOut = new Set(leftOut);
  }

  /** Begins with what is there, in the background, until {@link Sealer.finish} or {@link Sealer.stop}. */
  start(): void {
    this.#ahead ??= this.#workAhead().catch(() => {
      // A file that has gone or cannot be read is met again by `finish`, which says so.
    });
  }

  async #workAhead(): Promise<void> {
    while (!this.#stopped) {
      for (const path of await this.#paths()) {
        if (this.#stopped) return;
        const found = await stat(join(this.#folder, path), { bigint: true });
        const quiet = BigInt(Date.now()) * 1_000_000n - found.mtimeNs > quietNs;
        if (quiet && !this.#isSealed(path, found)) await this.#seal(path);
      }
      await sleep(lookAgainMs);
    }
  }

  async #paths(): Promise<string[]> {
    const paths = await listFiles(this.#folder);
    return paths.filter((path) => !this.#leftOut.has(path.split('/')[0] ?? ''));
  }

  #isSealed(path: string, now: { size: bigint; mtimeNs: bigint }): boolean {
    const sealed = this.#sealed.get(path);
    return sealed !== undefined && sealed.size === now.size && sealed.mtimeNs === now.mtimeNs;
  }

  async #seal(path: string): Promise<void> {
    const full = join(this.#folder, path);
    const { size, mtimeNs } = await stat(full, { bigint: true });
    const count: Count = (bytes) => this.#hashed.set(path, (this.#hashed.get(path) ?? 0) + bytes);
    this.#hashed.set(path, 0);
    try {
      const file = { path, ...(await hashFile(full, Number(size), { sync: true, count })) };
      this.#sealed.set(path, { size, mtimeNs, file });
    } finally {
      this.#hashed.delete(path);
    }
  }

  /**
   * How many bytes are sealed, of those that there are. Of what is hashed but perhaps not yet on the disk, so much
   * counts as the machine has no longer to write at all.
   */
  async measure(): Promise<{ done: number; total: number }> {
    let total = 0;
    for (const path of await this.#paths()) total += (await stat(join(this.#folder, path))).size;
    const sum = (numbers: Iterable<number>) => [...numbers].reduce((all, each) => all + each, 0);
    const sealed = sum([...this.#sealed.values()].map(({ file }) => file.bytes));
    const hashed = sealed + sum(this.#hashed.values());
    return { done: Math.max(sealed, Math.min(hashed, total - (await dirtyBytes()))), total };
  }

  /** Seals what is not yet; nothing may be written to any more. Can be called again when there is more. */
  async finish(): Promise<ManifestFile[]> {
    await this.stop();
    const paths = await this.#paths();
    await together(
      paths.map(async (path) => {
        const now = await stat(join(this.#folder, path), { bigint: true });
        if (!this.#isSealed(path, now)) await this.#seal(path);
      }),
    );
    return paths.flatMap((path) => this.#sealed.get(path)?.file ?? []);
  }

  /** Ends the work in the background. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#ahead;
  }
}

/** Makes the names in a folder and in all folders below it durable. */
export async function syncFolders(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true });
  const below = entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => syncFolders(join(folder, entry.name)));
  await together([...below, syncFolder(folder)]);
}
