/**
 * A snapshot in the making, in `staging/`. CRIU writes its images into {@link Stage.images}, and sends memory contents to
 * `torpor-pages receive`, which writes the other two folders.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../durable.ts';
import { Sealer } from './seal.ts';

export const dumpLogFile = 'dump.log';

export interface Stage {
  readonly id: string;
  readonly folder: string;
  readonly images: string;
  /** What page is where: part of the snapshot. */
  readonly pages: string;
  /** New chunks, for all snapshots. */
  readonly packs: string;
  /** Hashes and syncs what is staged; it may be started as soon as something is being written. */
  readonly sealer: Sealer;
}

export async function makeStage(staging: string): Promise<Stage> {
  const id = randomBytes(6).toString('hex');
  const folder = join(staging, id);
  const [images, pages, packs] = [join(folder, 'images'), join(folder, 'pages'), join(folder, 'packs')];
  for (const path of [images, pages, packs]) await mkdir(path, { recursive: true, mode: 0o700 });
  // CRIU goes on writing to its log until it has ended the processes.
  return { id, folder, images, pages, packs, sealer: new Sealer(folder, [dumpLogFile, 'packs']) };
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
