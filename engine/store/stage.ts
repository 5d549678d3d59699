/**
 * A snapshot in the making, in `staging/`. CRIU writes its images into {@link Stage.images}, and sends memory contents to
 * `torpor-pages receive`, which writes the other two folders.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../durable.ts';
import type { FileKey } from './encryption/frames.ts';
import type { PlainFolders } from './encryption/plain-folders.ts';
import { Sealer } from './seal.ts';

export const dumpLogFile = 'dump.log';

export interface Stage {
  readonly id: string;
  /** Where all of it is put. */
  readonly folder: string;
  /** What comes of it on disk; the same, unless it is encrypted: then `folder` is in memory. */
  readonly onDisk: string;
  /** By which its files are encrypted; undefined where they are not. */
  readonly key: FileKey | undefined;
  /** The same for `torpor-pages`. */
  readonly keys: Buffer | undefined;
  readonly images: string;
  /** What page is where: part of the snapshot. */
  readonly pages: string;
  /** New chunks, for all snapshots. */
  readonly packs: string;
  /** Hashes and syncs what is staged; it may be started as soon as something is being written. */
  readonly sealer: Sealer;
}

export async function makeStage(
  staging: string,
  { key, keys, plain }: { key: FileKey | undefined; keys: Buffer | undefined; plain: PlainFolders },
): Promise<Stage> {
  const id = randomBytes(6).toString('hex');
  const onDisk = join(staging, id);
  const [pages, packs] = [join(onDisk, 'pages'), join(onDisk, 'packs')];
  for (const path of [pages, packs]) await mkdir(path, { recursive: true, mode: 0o700 });
  const folder = key === undefined ? onDisk : await plain.makeStage(id, onDisk);
  const images = join(folder, 'images');
  await mkdir(images, { recursive: true, mode: 0o700 });
  // CRIU goes on writing to its log until it has ended the processes.
  const sealer = new Sealer(onDisk, [dumpLogFile, 'packs']);
  return { id, folder, onDisk, key, keys, images, pages, packs, sealer };
}

/**
 * Moves the stage's packs, whose contents are durable, to those of the store. From here on its chunks are found by all;
 * where no snapshot comes to be after all, a sweep removes them.
 */
export async function publishPacks({ packs }: Stage, target: string): Promise<void> {
  const names = await readdir(packs);
  // Who meets a pack's index finds the pack too.
  const isIndex = (name: string) => name.endsWith('.idx');
  for (const name of [...names.filter((each) => !isIndex(each)), ...names.filter(isIndex)])
    await rename(join(packs, name), join(target, name));
  // Also where there is nothing new: the snapshot may rely on a pack whose suspend did not come to this.
  await syncFolder(target);
  await rmdir(packs);
}
