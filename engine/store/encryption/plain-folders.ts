/**
 * Where encrypted snapshots lie as they are: in the run folder, which is in memory, for as long as they are being made or
 * resumed. What an engine that was killed has left there is removed by the next one.
 */
import { mkdir, readdir, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ManifestFile } from '../../../proto/manifest.ts';
import { together } from '../../together.ts';
import { decryptFile, encryptFile, type FileKey, FrameError } from './frames.ts';

/** Memory is encrypted by `torpor-pages`, in packs; the lists of it have no contents, only hashes under a key. */
const ofPages = ['pages', 'packs'];
/** CRIU goes on writing to its log until it has ended the processes. */
const neverKept = ['dump.log'];

/** To what a file's frames are bound, so that one cannot be put in another's place. */
export const nameIn = (snapshot: string, path: string) => `${snapshot}/${path}`;

export const isEncryptedFile = ({ path }: Pick<ManifestFile, 'path'>) => !path.startsWith('pages/');

export class PlainFolders {
  readonly #folder: string;
  readonly #opened = new Map<string, { folder: string; users: number; ready: Promise<void> }>();
  #count = 0;

  constructor(runDir: string) {
    this.#folder = join(runDir, 'plain');
  }

  stageOf(id: string): string {
    return join(this.#folder, `stage-${id}`);
  }

  /** The folder of a snapshot in the making: what is large in it, and encrypted already, is in `onDisk`. */
  async makeStage(id: string, onDisk: string): Promise<string> {
    const folder = this.stageOf(id);
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await mkdir(join(folder, 'images'), { recursive: true, mode: 0o700 });
    for (const name of ofPages) await symlink(join(onDisk, name), join(folder, name));
    return folder;
  }

  /** Encrypts what has been staged into `onDisk`, durably. @returns what is there then. */
  async encryptStage(id: string, onDisk: string, key: FileKey): Promise<ManifestFile[]> {
    const folder = this.stageOf(id);
    const paths = (await listFiles(folder)).filter((path) => !neverKept.includes(path));
    for (const path of new Set(paths.map((each) => dirname(each))))
      await mkdir(join(onDisk, path), { recursive: true, mode: 0o700 });
    return together(
      paths.map(async (path) => ({
        path,
        ...(await encryptFile(join(folder, path), join(onDisk, path), nameIn(id, path), key)),
      })),
    );
  }

  /** The suspend has come to its end. */
  async removeStage(id: string): Promise<void> {
    await rm(this.stageOf(id), { recursive: true, force: true });
  }

  /** Where a snapshot lies as it is, if it does. */
  folderOf(id: string): string | undefined {
    return this.#opened.get(id)?.folder;
  }

  /**
   * Decrypts a snapshot whose files have been verified.
   * @throws FrameError that names the file.
   */
  async open(
    id: string,
    folder: string,
    files: readonly ManifestFile[],
    key: FileKey,
  ): Promise<AsyncDisposable> {
    let opened = this.#opened.get(id);
    if (opened === undefined) {
      const plain = join(this.#folder, `${id}-${this.#count++}`);
      opened = { folder: plain, users: 0, ready: this.#decrypt(id, folder, plain, files, key) };
      opened.ready.catch(() => {});
      this.#opened.set(id, opened);
    }
    const own = opened;
    own.users++;
    const leave = async () => {
      if (--own.users > 0) return;
      if (this.#opened.get(id) === own) this.#opened.delete(id);
      await rm(own.folder, { recursive: true, force: true });
    };
    try {
      await own.ready;
    } catch (error) {
      await leave();
      throw error;
    }
    return { [Symbol.asyncDispose]: leave };
  }

  async #decrypt(
    id: string,
    folder: string,
    target: string,
    files: readonly ManifestFile[],
    key: FileKey,
  ): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await mkdir(target, { mode: 0o700 });
    for (const { path } of files.filter(isEncryptedFile)) {
      await mkdir(dirname(join(target, path)), { recursive: true, mode: 0o700 });
      try {
        await decryptFile(join(folder, path), join(target, path), nameIn(id, path), key);
      } catch (error) {
        throw error instanceof FrameError ? new FrameError(`${path}: ${error.message}`) : error;
      }
    }
  }

  /** Removes what an earlier engine has left; nothing may be at work there any more. */
  async removeAll(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function listFiles(folder: string, prefix = ''): Promise<string[]> {
  const paths: string[] = [];
  for (const entry of await readdir(join(folder, prefix), { withFileTypes: true })) {
    const path = join(prefix, entry.name);
    if (entry.isDirectory()) paths.push(...(await listFiles(folder, path)));
    else if (entry.isFile()) paths.push(path);
  }
  return paths.sort();
}
