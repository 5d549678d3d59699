/** Hashing and syncing the files of a snapshot, in slices, so that the event loop goes on turning. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ManifestFile } from '../../proto/manifest.ts';
import { syncFile, syncFolder } from '../durable.ts';

/** SHA-256 of 1 MiB takes under a millisecond on any machine of the last ten years. */
const sliceBytes = 1024 * 1024;

/** SHA-256 and length of a file, which must not be a symbolic link. */
export async function hashFile(
  path: string,
  signal?: AbortSignal,
): Promise<{ sha256: string; bytes: number }> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const hash = createHash('sha256');
    const slice = Buffer.allocUnsafe(sliceBytes);
    let bytes = 0;
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(slice, 0, sliceBytes, bytes);
      if (bytesRead === 0) return { sha256: hash.digest('hex'), bytes };
      hash.update(slice.subarray(0, bytesRead));
      bytes += bytesRead;
    }
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

/**
 * Makes the files below a folder durable and hashes them, all but those that are named. Both at once: the disk does
 * the one, a core the other, and the data is read from the page cache it was just written to.
 */
export async function sealFiles(folder: string, leftOut: ReadonlySet<string>): Promise<ManifestFile[]> {
  const paths = (await listFiles(folder)).filter((path) => !leftOut.has(path));
  const [files] = await Promise.all([
    hashAll(folder, paths),
    Promise.all(paths.map((path) => syncFile(join(folder, path)))),
  ]);
  return files;
}

async function hashAll(folder: string, paths: string[]): Promise<ManifestFile[]> {
  const files: ManifestFile[] = [];
  for (const path of paths) files.push({ path, ...(await hashFile(join(folder, path))) });
  return files;
}

/** Makes the names in a folder and in all folders below it durable. */
export async function syncFolders(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true });
  const below = entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => syncFolders(join(folder, entry.name)));
  await Promise.all([...below, syncFolder(folder)]);
}
