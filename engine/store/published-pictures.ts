/**
 * Pictures of snapshots where their users can read them. Snapshots are root's alone; a user gets a copy below the run
 * folder, in a folder that only they may enter. That folder is theirs, and so is what they put there: it is therefore
 * never written into by name. A copy is made beside it, where only root writes, and comes into it by one rename; and
 * only single names are removed from it, never a tree.
 */
import { randomBytes } from 'node:crypto';
import {
  chmod,
  chown,
  lstat,
  lutimes,
  mkdir,
  readdir,
  rename,
  rm,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import { type PictureSize, pictureSizes } from '../../api/types.ts';
import type { Manifest } from '../../proto/manifest.ts';
import { pictureFile, type SnapshotStore, thumbnailFile } from './snapshot-store.ts';

/** They lie in memory, as all of the run folder: so many of the large ones a user. */
const fullKept = 16;

const sourceOf: Record<PictureSize, string> = { thumbnail: thumbnailFile, full: pictureFile };
const nameOf = (id: string, size: PictureSize) => `${id}-${size}.png`;
const namePattern = new RegExp(`^(.+)-(${pictureSizes.join('|')})\\.png$`);

export class PublishedPictures {
  readonly #folder: string;
  readonly #store: SnapshotStore;

  constructor(runDir: string, store: SnapshotStore) {
    this.#folder = join(runDir, 'pictures');
    this.#store = store;
  }

  /**
   * Makes a picture readable for this user, who may see the snapshot. @returns its path.
   * @throws TorporError `not-found` where the snapshot has no picture, `failed` where it is damaged.
   */
  async publish(manifest: Manifest, size: PictureSize, uid: number): Promise<string> {
    const source = manifest.files.find((file) => file.path === sourceOf[size]);
    if (source === undefined) {
      throw new TorporError(
        'not-found',
        `Snapshot ${manifest.id} has no picture of the screen.`,
        'Its screen could not be seen when it was taken; the snapshot itself can be resumed.',
      );
    }
    const path = join(await this.#folderFor(uid), nameOf(manifest.id, size));
    const there = await lstat(path).catch(() => undefined);
    if (there?.isFile() && there.size === source.bytes) {
      const now = new Date();
      await lutimes(path, now, now);
      return path;
    }
    const contents = await this.#store.contentsOf(manifest, source);
    const temporary = join(this.#folder, `.${randomBytes(8).toString('hex')}`);
    try {
      await writeFile(temporary, contents, { flag: 'wx', mode: 0o400 });
      await chown(temporary, uid, 0);
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
    // It may have been removed meanwhile, and its pictures with it.
    if (!(await this.#store.has(manifest.id))) await this.forget(manifest.id);
    if (size === 'full') await this.#removeOldest(uid);
    return path;
  }

  async #folderFor(uid: number): Promise<string> {
    const folder = join(this.#folder, String(uid));
    await mkdir(this.#folder, { recursive: true, mode: 0o711 });
    await chmod(this.#folder, 0o711);
    await mkdir(folder, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await chown(folder, uid, 0);
    return folder;
  }

  async #removeOldest(uid: number): Promise<void> {
    const folder = join(this.#folder, String(uid));
    const names = (await readdir(folder)).filter((name) => namePattern.exec(name)?.[2] === 'full');
    const aged = await Promise.all(
      names.map(async (name) => ({ name, at: (await lstat(join(folder, name))).mtimeMs })),
    );
    aged.sort((a, b) => b.at - a.at);
    for (const { name } of aged.slice(fullKept)) await unlink(join(folder, name)).catch(() => {});
  }

  /** Takes back what was published of a snapshot. */
  async forget(id: string): Promise<void> {
    await this.#removeWhere((snapshot) => snapshot === id);
  }

  /** Takes back what is of no snapshot that there is, as an earlier engine may have left it. */
  async sweep(): Promise<void> {
    const ids = new Set(await this.#store.ids());
    await this.#removeWhere((snapshot) => !ids.has(snapshot));
  }

  async #removeWhere(isMeant: (snapshot: string) => boolean): Promise<void> {
    for (const entry of await readdir(this.#folder, { withFileTypes: true }).catch(() => [])) {
      const path = join(this.#folder, entry.name);
      // Not one that somebody is just waiting for: those are made by this engine alone, which sweeps before it answers.
      if (!entry.isDirectory()) continue;
      for (const name of await readdir(path)) {
        const snapshot = namePattern.exec(name)?.[1];
        if (snapshot !== undefined && isMeant(snapshot)) await unlink(join(path, name)).catch(() => {});
      }
    }
  }
}
