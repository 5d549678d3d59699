/** Whether the files of a snapshot are what its manifest says. */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { Manifest, ManifestFile } from '../../proto/manifest.ts';
import { type Count, hashFile } from './seal.ts';

export function damaged(id: string, what: string): TorporError {
  return new TorporError(
    'failed',
    `Snapshot ${id} is damaged: ${what}. Nothing was started from it.`,
    'See `torpor verify --read-data` for the state of all snapshots; an earlier one may still resume.',
  );
}

/**
 * Memory contents, or the hashes that later pages are compared with; everything else is parsed by CRIU or the pager and
 * must be verified before it is.
 */
export const isPageData = ({ path }: ManifestFile) => /^images\/pages-\d+\.img$|^pages\/hashes$/.test(path);

/** What page is where. */
export const isPageList = ({ path }: ManifestFile) => path.startsWith('pages/');

/** How much of a snapshot must be verified before a restore begins, and how much beside it, in bytes. */
export function sizesOf(manifest: Manifest): { parsed: number; pages: number } {
  const sum = (files: ManifestFile[]) => files.reduce((all, file) => all + file.bytes, 0);
  const pages = sum(manifest.files.filter(isPageData));
  return { parsed: sum(manifest.files) - pages, pages };
}

/** The files of one snapshot, each looked at by itself. What is wrong is thrown as TorporError `failed` that names it. */
export class SnapshotFiles {
  readonly #id: string;
  readonly #folder: string;

  constructor(id: string, folder: string) {
    this.#id = id;
    this.#folder = folder;
  }

  async verify(file: ManifestFile, options: { signal?: AbortSignal; count?: Count } = {}): Promise<void> {
    let found: { sha256: string; bytes: number };
    try {
      found = await hashFile(join(this.#folder, file.path), file.bytes, options);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw damaged(this.#id, `${file.path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
    this.#compareLength(file, found.bytes);
    if (found.sha256 !== file.sha256) throw this.#changed(file);
  }

  async verifyLength(file: ManifestFile): Promise<void> {
    const found = await stat(join(this.#folder, file.path)).catch(() => undefined);
    if (found === undefined) throw damaged(this.#id, `${file.path} is missing`);
    this.#compareLength(file, found.size);
  }

  /** All of one file, as it was written. */
  async contents(file: ManifestFile): Promise<Buffer> {
    const contents = await readFile(join(this.#folder, file.path)).catch((error: NodeJS.ErrnoException) => {
      throw damaged(this.#id, `${file.path} cannot be read (${error.code})`);
    });
    if (createHash('sha256').update(contents).digest('hex') !== file.sha256) throw this.#changed(file);
    return contents;
  }

  #compareLength(file: ManifestFile, bytes: number): void {
    if (bytes !== file.bytes)
      throw damaged(this.#id, `${file.path} has ${bytes} bytes instead of ${file.bytes}`);
  }

  #changed({ path }: ManifestFile): TorporError {
    return damaged(this.#id, `the contents of ${path} are not what was written`);
  }
}
