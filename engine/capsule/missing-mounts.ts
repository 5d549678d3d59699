/**
 * File systems that a capsule had before it and that are not mounted any more, such as that of a key that was pulled out:
 * an empty folder takes the place of one where nothing of the application lies.
 */
import { readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import type { CapsuleSpec, Manifest } from '../../proto/manifest.ts';
import { readImages } from '../criu/images.ts';
import { watchedPaths } from '../criu/watched.ts';
import { fileRecordSchema } from '../files/record.ts';
import { readMounts } from '../mounts.ts';

/** The host's mount points of these that are none now. What came with a bundle has folders of its root for them. */
export async function missingMounts({ layer, hostMounts }: CapsuleSpec): Promise<string[]> {
  if (layer !== undefined || hostMounts.length === 0) return [];
  const mounted = new Set((await readMounts()).map((mount) => mount.path));
  return hostMounts.map(({ path }) => path).filter((path) => !mounted.has(path));
}

/** @throws TorporError `blocked` where something of the application lies on one that is missing. */
export async function refuseMissingMounts(manifest: Manifest, imagesDir: string): Promise<void> {
  if (manifest.kind !== 'capsule') return;
  const missing = await missingMounts(manifest.capsule);
  if (missing.length === 0) return;
  const records = z.array(fileRecordSchema).parse(manifest.surroundings);
  const { regFiles } = await readImages(imagesDir);
  const paths = [
    ...records.map(({ path }) => path),
    ...regFiles.map(({ path }) => posix.resolve('/', path)),
    ...watchedPaths(await readFile(join(imagesDir, 'files.img'))),
  ];
  const needed = missing.find((mount) =>
    paths.some((path) => path === mount || path.startsWith(`${mount}/`)),
  );
  if (needed === undefined) return;
  throw new TorporError(
    'blocked',
    `${manifest.name} has something open on the file system at ${needed}, which is not mounted now.`,
    `Mount it (\`mount ${needed}\`), or plug it in again, and resume then.`,
  );
}

export const standsIn = (path: string): Finding => ({
  tie: 'mount',
  verdict: 'degraded',
  by: 'engine',
  what: `The file system at ${path}, on which it had nothing open, is not mounted now; an empty folder takes its place.`,
  hint: 'To have it again, mount it before the next resume.',
});
