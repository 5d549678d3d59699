/**
 * The store: complete, durable snapshots, each a folder below `snapshots/` with a manifest and its MAC, CRIU's
 * images, a picture of the screen and CRIU's log. A snapshot is made in `staging/` and comes into being by one
 * rename; whatever lies in `staging/` when the engine starts was never finished and is removed by the recovery.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import {
  type Manifest,
  type ManifestBody,
  type ManifestFile,
  manifestSchema,
  manifestVersion,
  specOf,
} from '../../proto/manifest.ts';
import { privateFolder, syncFolder, writeDurable, writeSynced } from '../durable.ts';
import type { Logger } from '../log.ts';
import { type Count, hashFile, Sealer, syncFolders } from './seal.ts';

const manifestFile = 'manifest.json';
const macFile = 'manifest.mac';
const usedFile = 'used';
/** Not `kept`: that is the folder of {@link keepVolatile}. */
const keepFile = 'keep';
const keyBytes = 32;

/** Files of a snapshot other than CRIU's images. */
export const pictureFile = 'screen.png';
export const thumbnailFile = 'thumbnail.png';
/** What the terminal of a job showed. */
export const terminalFile = 'terminal';
export const dumpLogFile = 'dump.log';

/**
 * A snapshot in the making. CRIU writes its images into {@link Stage.images} itself: this is the seam at which a
 * page store can take the pages over a socket instead.
 */
export interface Stage {
  readonly id: string;
  readonly folder: string;
  readonly images: string;
  /** Hashes and syncs what is staged; it may be started as soon as something is being written. */
  readonly sealer: Sealer;
}

export type StoredSnapshot =
  | {
      kind: 'complete';
      id: string;
      manifest: Manifest;
      bytesOnDisk: number;
      usedAt: string | undefined;
      kept: boolean;
    }
  | { kind: 'damaged'; id: string; problem: string };

/** Whose snapshots are others now; of one that was damaged nobody knows, and root alone is concerned. */
export interface StoreChange {
  workload: string;
  ownerUid: number;
}

/** Memory contents; everything else among the images is parsed by CRIU and must be verified before it is. */
const isPageData = (file: ManifestFile) => /^images\/pages-\d+\.img$/.test(file.path);

/** How much of a snapshot CRIU parses, and how much is memory contents, in bytes. */
export function sizesOf(manifest: Manifest): { parsed: number; pages: number } {
  const sum = (files: ManifestFile[]) => files.reduce((all, file) => all + file.bytes, 0);
  const pages = sum(manifest.files.filter(isPageData));
  return { parsed: sum(manifest.files) - pages, pages };
}

export class SnapshotStore {
  readonly #stateDir: string;
  readonly #key: Buffer;
  readonly #log: Logger;
  readonly #changed: ((change: StoreChange) => void)[] = [];

  private constructor(stateDir: string, key: Buffer, log: Logger) {
    this.#stateDir = stateDir;
    this.#key = key;
    this.#log = log;
  }

  /**
   * Opens the store of a state folder, making it where it is not there.
   * @throws TorporError `failed` where the folder is not writable or the key is damaged.
   */
  static async open(stateDir: string, log: Logger): Promise<SnapshotStore> {
    for (const name of ['snapshots', 'staging', 'failures']) await privateFolder(join(stateDir, name));
    const hasSnapshots = (await readdir(join(stateDir, 'snapshots'))).length > 0;
    return new SnapshotStore(stateDir, await openKey(join(stateDir, 'key'), hasSnapshots), log);
  }

  /** Calls the listener whenever a snapshot has been made, used, kept or removed. */
  onChange(listener: (change: StoreChange) => void): void {
    this.#changed.push(listener);
  }

  #tell(manifest: Manifest | undefined): void {
    const change = {
      workload: manifest?.workload ?? '',
      ownerUid: manifest === undefined ? 0 : specOf(manifest).user.uid,
    };
    for (const listener of this.#changed) listener(change);
  }

  /** Removes half-done work of an earlier engine; nothing may be at work there any more. */
  async removeUnfinished(): Promise<void> {
    for (const name of await readdir(this.#path('staging'))) {
      this.#log.warn({ staging: name }, 'removing a snapshot that was never finished');
      await rm(this.#path('staging', name), { recursive: true, force: true });
    }
  }

  #path(...parts: string[]): string {
    return join(this.#stateDir, ...parts);
  }

  folderOf(id: string): string {
    return this.#path('snapshots', id);
  }

  /** CRIU's log of the dump that made a snapshot, or was to make it. */
  async dumpLogOf(id: string): Promise<string> {
    return join((await this.has(id)) ? this.folderOf(id) : this.#path('staging', id), dumpLogFile);
  }

  /** Begins a snapshot. */
  async stage(): Promise<Stage> {
    const id = randomBytes(6).toString('hex');
    const folder = this.#path('staging', id);
    const images = join(folder, 'images');
    await mkdir(images, { recursive: true, mode: 0o700 });
    // CRIU goes on writing to its log until it has ended the processes.
    return { id, folder, images, sealer: new Sealer(folder, [dumpLogFile]) };
  }

  /**
   * Makes the staged snapshot durable and gives it its name: when this has returned, the snapshot exists.
   * `finish` is called when all data is on disk, just before the manifest is written, to state the times.
   * @throws TorporError `failed` where the manifest could not be read again: then no snapshot has been made.
   */
  async commit(stage: Stage, finish: () => ManifestBody): Promise<Manifest> {
    const files = await stage.sealer.finish();
    const manifest: Manifest = { ...finish(), version: manifestVersion, id: stage.id, files };
    const bytes = Buffer.from(JSON.stringify(manifest, null, 1));
    const { error: unreadable } = manifestSchema.safeParse(JSON.parse(bytes.toString('utf8')));
    if (unreadable !== undefined)
      throw new TorporError(
        'failed',
        `The snapshot could not be read again: its manifest is not as expected at ${placeOf(unreadable)}.`,
        'This is a defect of Torpor: please report it with the log of the engine (log/torpord.log in the state folder).',
      );
    // Nothing looks at the folder before it has its name, so its parts need no order among themselves.
    await Promise.all([
      writeSynced(join(stage.folder, manifestFile), bytes),
      writeSynced(join(stage.folder, macFile), this.#mac(bytes)),
    ]);
    await syncFolders(stage.folder);
    await rename(stage.folder, this.folderOf(stage.id));
    await syncFolder(this.#path('snapshots'));
    this.#tell(manifest);
    return manifest;
  }

  /** Removes what a suspend that failed has written, keeping CRIU's log among the failures. */
  async discard(stage: Stage): Promise<void> {
    await stage.sealer.stop();
    await this.keepFailure(stage.id, join(stage.folder, dumpLogFile));
    await rm(stage.folder, { recursive: true, force: true });
  }

  /** Moves a log to the failures, of which the last twenty are kept. @returns its new path, or undefined where there is no log. */
  async keepFailure(id: string, logPath: string): Promise<string | undefined> {
    const folder = this.#path('failures');
    const kept = join(folder, `${new Date().toISOString().replaceAll(':', '')}-${id}.log`);
    try {
      await rename(logPath, kept);
      const names = (await readdir(folder)).sort();
      for (const name of names.slice(0, -20)) await rm(join(folder, name), { force: true });
      return kept;
    } catch (error) {
      this.#log.warn({ error, logPath }, 'could not keep the log of a failure');
      return undefined;
    }
  }

  /** Ids of all snapshots, unchecked. */
  async ids(): Promise<string[]> {
    return (await readdir(this.#path('snapshots'))).sort();
  }

  /** All snapshots, newest first; damaged ones are there too, last, with what is wrong. */
  async list(): Promise<StoredSnapshot[]> {
    const found = await Promise.all((await this.ids()).map((id) => this.#describe(id)));
    const age = (item: StoredSnapshot) => (item.kind === 'complete' ? Date.parse(item.manifest.takenAt) : 0);
    return found.sort((a, b) => age(b) - age(a));
  }

  async #describe(id: string): Promise<StoredSnapshot> {
    try {
      const manifest = await this.read(id);
      return {
        kind: 'complete',
        id,
        manifest,
        bytesOnDisk: manifest.files.reduce((sum, file) => sum + file.bytes, 0),
        usedAt: await readFile(join(this.folderOf(id), usedFile), 'utf8').catch(() => undefined),
        kept: await this.isKept(id),
      };
    } catch (error) {
      if (!(error instanceof TorporError)) throw error;
      return { kind: 'damaged', id, problem: error.message };
    }
  }

  async has(id: string): Promise<boolean> {
    return (await stat(this.folderOf(id)).catch(() => undefined)) !== undefined;
  }

  /**
   * The manifest of a snapshot, authenticated before a byte of it is parsed.
   * @throws TorporError `not-found`, or `failed` where MAC, form or version are wrong.
   */
  async read(id: string): Promise<Manifest> {
    const folder = this.folderOf(id);
    let bytes: Buffer;
    let mac: string;
    try {
      bytes = await readFile(join(folder, manifestFile));
      mac = await readFile(join(folder, macFile), 'utf8');
    } catch (error) {
      if (!(await this.has(id)))
        throw new TorporError('not-found', `There is no snapshot ${id}.`, 'See `torpor snapshots`.');
      throw this.#damaged(id, `its manifest cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
    const expected = Buffer.from(this.#mac(bytes));
    const given = Buffer.from(mac.trim());
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw this.#damaged(id, 'its manifest was changed since it was written (the MAC does not fit)');
    }
    return this.#parse(id, bytes);
  }

  #parse(id: string, bytes: Buffer): Manifest {
    const value = JSON.parse(bytes.toString('utf8')) as { version?: unknown };
    if (typeof value.version === 'number' && value.version > manifestVersion) {
      throw new TorporError(
        'failed',
        `Snapshot ${id} was written by a newer Torpor (format ${value.version}; this one reads ${manifestVersion}).`,
        'Install the newer Torpor and resume it with that.',
      );
    }
    const parsed = manifestSchema.safeParse(value);
    if (!parsed.success)
      throw this.#damaged(id, `its manifest is not as expected at ${placeOf(parsed.error)}`);
    if (parsed.data.id !== id)
      throw this.#damaged(id, `its manifest is that of another snapshot, ${parsed.data.id}`);
    return parsed.data;
  }

  #damaged(id: string, what: string): TorporError {
    return new TorporError(
      'failed',
      `Snapshot ${id} is damaged: ${what}. Nothing was started from it.`,
      'See `torpor verify --read-data` for the state of all snapshots; an earlier one may still resume.',
    );
  }

  #mac(bytes: Uint8Array): string {
    return createHmac('sha256', this.#key).update(bytes).digest('hex');
  }

  /**
   * Checks the files that CRIU parses against their hashes, which takes little time; `pages` goes on with the memory
   * contents, which may overlap with the restore as long as no process runs before it is done. `count` is told of what
   * has been hashed.
   * @throws TorporError `failed` naming the file that differs.
   */
  async verifyBeforeRestore(
    manifest: Manifest,
    count: Count,
  ): Promise<{ pages: (signal: AbortSignal, count: Count) => Promise<void> }> {
    await Promise.all(
      manifest.files.map((file) =>
        isPageData(file)
          ? this.#verifyLength(manifest.id, file)
          : this.#verifyFile(manifest.id, file, { count }),
      ),
    );
    return {
      pages: async (signal, countPages) => {
        for (const file of manifest.files.filter(isPageData))
          await this.#verifyFile(manifest.id, file, { signal, count: countPages });
      },
    };
  }

  async #verifyFile(
    id: string,
    file: ManifestFile,
    options: { signal?: AbortSignal; count?: Count } = {},
  ): Promise<void> {
    let found: { sha256: string; bytes: number };
    try {
      const path = join(this.folderOf(id), file.path);
      found = await hashFile(path, file.bytes, options);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw this.#damaged(id, `${file.path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
    if (found.bytes !== file.bytes)
      throw this.#damaged(id, `${file.path} has ${found.bytes} bytes instead of ${file.bytes}`);
    if (found.sha256 !== file.sha256)
      throw this.#damaged(id, `the contents of ${file.path} are not what was written`);
  }

  /**
   * Checks one snapshot: manifest, presence and length of each file, with `readData` every byte.
   * @returns the bytes read. @throws TorporError `failed` naming what is wrong.
   */
  async verify(id: string, readData: boolean): Promise<number> {
    const manifest = await this.read(id);
    let bytesRead = 0;
    for (const file of manifest.files) {
      if (readData) {
        await this.#verifyFile(id, file);
        bytesRead += file.bytes;
        continue;
      }
      await this.#verifyLength(id, file);
    }
    return bytesRead;
  }

  async #verifyLength(id: string, file: ManifestFile): Promise<void> {
    const found = await stat(join(this.folderOf(id), file.path)).catch(() => undefined);
    if (found === undefined) throw this.#damaged(id, `${file.path} is missing`);
    if (found.size !== file.bytes)
      throw this.#damaged(id, `${file.path} has ${found.size} bytes instead of ${file.bytes}`);
  }

  /**
   * One file of a snapshot, as it was written.
   * @throws TorporError `failed` where it is not.
   */
  async contentsOf(manifest: Manifest, file: ManifestFile): Promise<Buffer> {
    const contents = await readFile(join(this.folderOf(manifest.id), file.path)).catch(
      (error: NodeJS.ErrnoException) => {
        throw this.#damaged(manifest.id, `${file.path} cannot be read (${error.code})`);
      },
    );
    if (createHash('sha256').update(contents).digest('hex') !== file.sha256)
      throw this.#damaged(manifest.id, `the contents of ${file.path} are not what was written`);
    return contents;
  }

  /** Notes that the snapshot was resumed from. */
  async markUsed(id: string): Promise<void> {
    await writeDurable(join(this.folderOf(id), usedFile), new Date().toISOString());
    this.#tell(await this.#readIfWhole(id));
  }

  /** Notes that the snapshot is not to be removed, or that it may be. */
  async keep(id: string, keep: boolean): Promise<void> {
    const path = join(this.folderOf(id), keepFile);
    if (keep) {
      await writeDurable(path, new Date().toISOString());
    } else {
      await rm(path, { force: true });
      await syncFolder(this.folderOf(id));
    }
    this.#tell(await this.#readIfWhole(id));
  }

  async isKept(id: string): Promise<boolean> {
    return (await stat(join(this.folderOf(id), keepFile)).catch(() => undefined)) !== undefined;
  }

  #readIfWhole(id: string): Promise<Manifest | undefined> {
    return this.read(id).catch(() => undefined);
  }

  /** Removes a snapshot: it is gone by one rename, its data after that. */
  async remove(id: string): Promise<void> {
    const manifest = await this.#readIfWhole(id);
    const doomed = this.#path('staging', `removed-${id}`);
    await rename(this.folderOf(id), doomed);
    // Both, as POSIX wants it: it must neither come back nor be lost in parts.
    await syncFolder(this.#path('staging'));
    await syncFolder(this.#path('snapshots'));
    this.#tell(manifest);
    await rm(doomed, { recursive: true, force: true });
  }
}

/** @param isNeeded there are snapshots already, which a new key would make worthless. */
async function openKey(path: string, isNeeded: boolean): Promise<Buffer> {
  const existing = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (existing === undefined) {
    if (isNeeded) {
      throw new TorporError(
        'failed',
        `The key of the snapshot store, ${path}, is missing, and there are snapshots that only it fits.`,
        `Put it back from a backup. To give those snapshots up, move ${join(dirname(path), 'snapshots')} away.`,
      );
    }
    const key = randomBytes(keyBytes);
    await writeDurable(path, key);
    return key;
  }
  if (existing.length !== keyBytes) {
    throw new TorporError(
      'failed',
      `The key of the snapshot store, ${path}, is damaged (${existing.length} bytes instead of ${keyBytes}).`,
      'Put it back from a backup; without it no snapshot can be authenticated.',
    );
  }
  return existing;
}

/** Where a manifest differs from what is expected, for people. */
const placeOf = ({ issues }: z.ZodError): string => issues[0]?.path.join('.') ?? '';
