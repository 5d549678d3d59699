/**
 * The store: complete, durable snapshots, each a folder below `snapshots/` with a manifest and its MAC, CRIU's
 * images, a picture of the screen and CRIU's log. A snapshot is made in `staging/` and comes into being by one
 * rename; whatever lies in `staging/` when the engine starts was never finished and is removed by the recovery.
 */
import { copyFile, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import {
  type Manifest,
  type ManifestBody,
  type ManifestFile,
  manifestVersion,
  plainVersion,
  specOf,
} from '../../proto/manifest.ts';
import { privateFolder, syncFolder, writeDurable, writeSynced } from '../durable.ts';
import { hashesIn, systemFileList } from '../files/kept-files.ts';
import type { Logger } from '../log.ts';
import { together } from '../together.ts';
import { Encryption } from './encryption/encryption.ts';
import { decryptToBuffer, FrameError } from './encryption/frames.ts';
import { nameIn, PlainFolders } from './encryption/plain-folders.ts';
import { sealManifest } from './encryption/sealed-manifest.ts';
import { StoreKey } from './key.ts';
import { readManifest, writeManifest } from './manifests.ts';
import { isKept, markUsed, setKept, setWarm, usedAt, warmOf } from './marks.ts';
import { PacksLock } from './packs-lock.ts';
import { PagesError, type PagesProgram, type ReadAmount } from './pages-program.ts';
import { type Count, syncFolders } from './seal.ts';
import { Shares } from './shares.ts';
import { dumpLogFile, makeStage, publishPacks, type Stage } from './stage.ts';
import { damaged, isPageData, isPageList, SnapshotFiles } from './verification.ts';

export { dumpLogFile, type Stage } from './stage.ts';
export { sizesOf } from './verification.ts';

/** Files of a snapshot other than CRIU's images. */
export const pictureFile = 'screen.png';
export const thumbnailFile = 'thumbnail.png';
/** What the terminal of a job showed. */
export const terminalFile = 'terminal';
/** What it needs of the machine's packages. In clear, and no part of the snapshot: dpkg is held up for who reads it. */
const systemFilesFile = 'system-files';

export type StoredSnapshot =
  | {
      kind: 'complete';
      id: string;
      manifest: Manifest;
      bytesOnDisk: number;
      usedAt: string | undefined;
      kept: boolean;
      /** What starts begin with it (engine/warm/mark.ts). */
      warm: string | undefined;
    }
  | { kind: 'damaged'; id: string; problem: string };

/** Whose snapshots are others now; of one that was damaged nobody knows, and root alone is concerned. */
export interface StoreChange {
  what: 'made' | 'marked' | 'removed';
  workload: string;
  ownerUid: number;
}

export class SnapshotStore {
  readonly stateDir: string;
  /** What is done to all packs goes by it. */
  readonly packs: PacksLock;
  readonly encryption: Encryption;
  readonly #plain: PlainFolders;
  readonly #key: StoreKey;
  readonly #pages: PagesProgram;
  readonly #shares: Shares;
  readonly #log: Logger;
  readonly #changed: ((change: StoreChange) => void)[] = [];
  /** By which a stage says that it needs the packs no longer. */
  readonly #sharing = new Map<string, () => void>();

  private constructor(
    stateDir: string,
    { encryption, plain }: { encryption: Encryption; plain: PlainFolders },
    key: StoreKey,
    pages: PagesProgram,
    shares: Shares,
    log: Logger,
  ) {
    this.stateDir = stateDir;
    this.encryption = encryption;
    this.#plain = plain;
    this.packs = new PacksLock(join(stateDir, 'packs'));
    this.#key = key;
    this.#pages = pages;
    this.#shares = shares;
    this.#log = log;
  }

  /**
   * Opens the store of a state folder, making it where it is not there.
   * @throws TorporError `failed` where the folder is not writable or the key is damaged.
   */
  static async open(
    stateDir: string,
    pages: PagesProgram,
    log: Logger,
    /** Encryption, and the run folder, in which snapshots lie as they are while that is needed. */
    encrypted?: { encryption: Encryption; runDir: string },
  ): Promise<SnapshotStore> {
    for (const name of ['snapshots', 'packs', 'staging', 'failures'])
      await privateFolder(join(stateDir, name));
    const hasSnapshots = (await readdir(join(stateDir, 'snapshots'))).length > 0;
    const key = await StoreKey.open(join(stateDir, 'key'), hasSnapshots);
    // Whoever made the folders and the key may not have come to this.
    await syncFolder(stateDir);
    const encryption = encrypted?.encryption ?? (await Encryption.open(stateDir, log));
    const plain = new PlainFolders(encrypted?.runDir ?? join(stateDir, 'staging'));
    return new SnapshotStore(
      ...([stateDir, { encryption, plain }, key, pages, await Shares.open(stateDir), log] as const),
    );
  }

  /** Calls the listener whenever a snapshot has been made, used, kept or removed. */
  onChange(listener: (change: StoreChange) => void): void {
    this.#changed.push(listener);
  }

  #tell(what: StoreChange['what'], manifest: Manifest | undefined): void {
    const change = {
      what,
      workload: manifest?.workload ?? '',
      ownerUid: manifest === undefined ? 0 : specOf(manifest).user.uid,
    };
    for (const listener of this.#changed) listener(change);
  }

  /** Removes half-done work of an earlier engine; nothing may be at work there any more. */
  async removeUnfinished(): Promise<void> {
    await this.#plain.removeAll();
    for (const name of await readdir(this.#path('staging'))) {
      this.#log.warn({ staging: name }, 'removing a snapshot that was never finished');
      await rm(this.#path('staging', name), { recursive: true, force: true });
    }
  }

  #path(...parts: string[]): string {
    return join(this.stateDir, ...parts);
  }

  folderOf(id: string): string {
    return this.#path('snapshots', id);
  }

  /** CRIU's log of the dump that made a snapshot, or was to make it. */
  async dumpLogOf(id: string): Promise<string> {
    const inMemory = join(this.#plain.stageOf(id), dumpLogFile);
    if ((await stat(inMemory).catch(() => undefined)) !== undefined) return inMemory;
    return join((await this.has(id)) ? this.folderOf(id) : this.#path('staging', id), dumpLogFile);
  }

  /**
   * Begins a snapshot. From here until it is committed or discarded every chunk that is in the packs stays there, so its
   * parent is chosen after this.
   * @throws TorporError `blocked` where what it would write cannot be encrypted, because the key is locked.
   */
  async stage(): Promise<Stage> {
    this.encryption.refuseIfLocked();
    const release = await this.packs.share();
    try {
      const key = this.encryption.forWriting();
      const keys = this.encryption.forPrograms();
      const stage = await makeStage(this.#path('staging'), { key, keys, plain: this.#plain });
      this.#sharing.set(stage.id, release);
      return stage;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Whether it has been neither committed nor discarded. */
  isStaged(id: string): boolean {
    return this.#sharing.has(id);
  }

  #unshare({ id }: Stage): void {
    this.#sharing.get(id)?.();
    this.#sharing.delete(id);
  }

  /**
   * Makes the staged snapshot durable and gives it its name: when this has returned, the snapshot exists.
   * `finish` is called when all data is on disk, just before the manifest is written, to state the times.
   * @throws TorporError `failed` where the manifest could not be read again: then no snapshot has been made.
   */
  async commit(stage: Stage, finish: () => ManifestBody): Promise<Manifest> {
    const { id, key, onDisk } = stage;
    const hashed = await stage.sealer.finish();
    const files =
      key === undefined ? hashed : [...hashed, ...(await this.#plain.encryptStage(id, onDisk, key))];
    await publishPacks(stage, this.#path('packs'));
    const body = finish();
    const plain: Manifest = { ...body, version: body.pages === undefined ? 1 : plainVersion, id, files };
    const manifest =
      key === undefined ? plain : sealManifest(this.encryption, { ...plain, version: manifestVersion }, key);
    await together([
      writeManifest(onDisk, manifest, this.#key),
      writeSynced(join(onDisk, systemFilesFile), systemFileList(body.surroundings)),
    ]);
    await syncFolders(onDisk);
    await rename(onDisk, this.folderOf(stage.id));
    await syncFolder(this.#path('snapshots'));
    this.#unshare(stage);
    this.#tell('made', manifest);
    return {
      ...plain,
      ...(manifest.encryption === undefined
        ? {}
        : { version: manifestVersion, encryption: manifest.encryption }),
    };
  }

  /** Nothing of the suspend or import that made it is under way any more, nor looks at CRIU's log. */
  async settle(id: string): Promise<void> {
    await this.#plain.removeStage(id);
  }

  /** Removes what a suspend that failed has written, keeping CRIU's log among the failures. */
  async discard(stage: Stage): Promise<void> {
    await stage.sealer.stop();
    try {
      await this.keepFailure(stage.id, join(stage.folder, dumpLogFile));
      await rm(stage.onDisk, { recursive: true, force: true });
      await this.#plain.removeStage(stage.id);
    } finally {
      this.#unshare(stage);
    }
  }

  /** Moves a log to the failures, of which the last twenty are kept. @returns its new path, or undefined where there is no log. */
  async keepFailure(id: string, logPath: string): Promise<string | undefined> {
    const folder = this.#path('failures');
    const kept = join(folder, `${new Date().toISOString().replaceAll(':', '')}-${id}.log`);
    try {
      await rename(logPath, kept).catch(async (error: NodeJS.ErrnoException) => {
        // The run folder is in memory.
        if (error.code !== 'EXDEV') throw error;
        await copyFile(logPath, kept);
        await rm(logPath, { force: true });
      });
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
        bytesOnDisk: this.#bytesOnDisk(manifest),
        usedAt: await usedAt(this.folderOf(id)),
        kept: await this.isKept(id),
        warm: await warmOf(this.folderOf(id)),
      };
    } catch (error) {
      if (!(error instanceof TorporError)) throw error;
      return { kind: 'damaged', id, problem: error.message };
    }
  }

  /**
   * The snapshot that new pages of a workload are compared with: `latest`, which it came out of, or its newest one, of
   * those whose lists of pages are as they were written. Undefined where it has none.
   */
  async parentOf(workload: string, latest?: string): Promise<string | undefined> {
    const last = latest === undefined ? undefined : await this.read(latest).catch(() => undefined);
    if (last !== undefined && (await this.#canBeParent(last, workload))) return last.id;
    for (const item of await this.list())
      if (item.kind === 'complete' && (await this.#canBeParent(item.manifest, workload))) return item.id;
    return undefined;
  }

  async #canBeParent({ id, files, workload }: Manifest, of: string): Promise<boolean> {
    const lists = files.filter(isPageList);
    if (workload !== of || lists.length === 0) return false;
    try {
      await Promise.all(lists.map((file) => this.#filesOf(id).verify(file)));
      return true;
    } catch (error) {
      this.#log.warn({ err: error, snapshot: id }, 'new pages are not compared with it');
      return false;
    }
  }

  /**
   * What a snapshot takes: its own files, and of the chunks those that no older one needs; as measured by the last
   * upkeep, or else what was written for it. So the sum over all is what all of them take; what removing one frees may
   * be less, where later ones need its chunks too.
   */
  #bytesOnDisk({ id, files, pages }: Manifest): number {
    const shared = pages === undefined ? 0 : (this.#shares.of(id) ?? pages.storedBytes);
    return files.reduce((sum, file) => sum + file.bytes, shared);
  }

  /** Notes how much of the packs each snapshot takes now. */
  async measureShares(signal: AbortSignal): Promise<void> {
    const complete = (await this.list()).filter((item) => item.kind === 'complete');
    await this.#shares.replace(await this.#pages.shares(complete.map(({ id }) => id).reverse(), signal));
  }

  async has(id: string): Promise<boolean> {
    return (await stat(this.folderOf(id)).catch(() => undefined)) !== undefined;
  }

  /**
   * The manifest of a snapshot, authenticated before a byte of it is parsed.
   * @throws TorporError `not-found`, or `failed` where MAC, form or version are wrong.
   */
  async read(id: string): Promise<Manifest> {
    if (!(await this.has(id)))
      throw new TorporError('not-found', `There is no snapshot ${id}.`, 'See `torpor snapshots`.');
    return readManifest(this.folderOf(id), id, this.#key, this.encryption);
  }

  /**
   * Has the files of a snapshot, which have been verified, lie as they are in {@link SnapshotStore.contentFolderOf} until
   * what it gives is disposed of.
   * @throws TorporError `blocked` where the key is locked, `failed` where they cannot be decrypted.
   */
  async open({ id, encryption, files, isLocked }: Manifest): Promise<AsyncDisposable> {
    if (encryption === undefined) return { [Symbol.asyncDispose]: async () => {} };
    const key = this.encryption.forReading(encryption.keyId, `Snapshot ${id}`);
    // It was read before the key was there: half of what it says is left out.
    if (isLocked) throw new TorporError('failed', `Snapshot ${id} was just being unlocked.`, 'Try again.');
    try {
      return await this.#plain.open(id, this.folderOf(id), files, key);
    } catch (error) {
      throw error instanceof FrameError ? damaged(id, error.message) : error;
    }
  }

  /** Where the files of a snapshot lie as CRIU and others know them. */
  contentFolderOf(id: string): string {
    return this.#plain.folderOf(id) ?? this.folderOf(id);
  }

  /** Ids of the keys that snapshots are encrypted by. */
  async keysNeeded(): Promise<Set<string>> {
    const stored = await this.list();
    return new Set(
      stored.flatMap((item) => (item.kind === 'complete' ? (item.manifest.encryption?.keyId ?? []) : [])),
    );
  }

  /** Writes for snapshots of earlier versions what they need of the machine's packages. */
  async listSystemFiles(): Promise<void> {
    for (const id of await this.ids()) {
      const path = join(this.folderOf(id), systemFilesFile);
      if ((await stat(path).catch(() => undefined)) !== undefined) continue;
      const manifest = await this.#readIfWhole(id);
      if (manifest === undefined || manifest.isLocked) continue;
      await writeDurable(path, systemFileList(manifest.surroundings)).catch((error: unknown) =>
        this.#log.warn({ err: error, snapshot: id }, 'what it needs of packages could not be written'),
      );
    }
  }

  /** Hashes of the files of packages that snapshots need; undefined where that is not known of all of them. */
  async systemFilesNeeded(): Promise<Set<string> | undefined> {
    const needed = new Set<string>();
    for (const id of await this.ids()) {
      const list = await readFile(join(this.folderOf(id), systemFilesFile), 'utf8').catch(() => undefined);
      // One that was removed meanwhile needs nothing.
      if (list === undefined && (await this.has(id))) return undefined;
      for (const sha256 of hashesIn(list ?? '')) needed.add(sha256);
    }
    return needed;
  }

  #filesOf(id: string): SnapshotFiles {
    return new SnapshotFiles(id, this.folderOf(id));
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
    const files = this.#filesOf(manifest.id);
    await Promise.all(
      manifest.files.map((file) =>
        isPageData(file) ? files.verifyLength(file) : files.verify(file, { count }),
      ),
    );
    return {
      pages: async (signal, countPages) => {
        for (const file of manifest.files.filter(isPageData))
          await files.verify(file, { signal, count: countPages });
      },
    };
  }

  /**
   * Checks one snapshot: manifest, presence and length of each file, that all its chunks are in packs; and what of its
   * data is to be read. @returns the bytes read. @throws TorporError `failed` naming what is wrong.
   */
  async verify(id: string, read: ReadAmount): Promise<number> {
    const manifest = await this.read(id);
    const files = this.#filesOf(id);
    if (manifest.encryption !== undefined && read !== 'nothing')
      this.encryption.forReading(manifest.encryption.keyId, `Snapshot ${id}`);
    const isRead = partOf(read);
    let bytesRead = 0;
    for (const file of manifest.files) {
      if (isPageList(file) || (read !== 'nothing' && (!isPageData(file) || isRead()))) {
        await files.verify(file);
        bytesRead += file.bytes;
      } else await files.verifyLength(file);
    }
    if (manifest.pages === undefined) return bytesRead;
    try {
      return bytesRead + (await this.#pages.verify(this.folderOf(id), read));
    } catch (error) {
      if (!(error instanceof PagesError)) throw error;
      throw damaged(id, error.message);
    }
  }

  /**
   * Whether it is known for certain which chunks are needed: of every snapshot, the list of them is what was written.
   * @returns the id of the first one of which it is not, and what is wrong.
   */
  async doubtAboutChunks(signal: AbortSignal): Promise<{ id: string; problem: string } | undefined> {
    for (const id of await this.ids()) {
      try {
        const manifest = await this.read(id);
        for (const file of manifest.files.filter(({ path }) => path === 'pages/chunks'))
          await this.#filesOf(id).verify(file, { signal });
        signal.throwIfAborted();
      } catch (error) {
        if (!(error instanceof TorporError)) throw error;
        // One that was removed meanwhile needs nothing.
        if (error.code !== 'not-found') return { id, problem: error.message };
      }
    }
    return undefined;
  }

  /**
   * One file of a snapshot, as it was written.
   * @throws TorporError `failed` where it is not, `blocked` where its key is locked.
   */
  async contentsOf({ id, encryption }: Manifest, file: ManifestFile): Promise<Buffer> {
    if (encryption === undefined) return this.#filesOf(id).contents(file);
    const key = this.encryption.forReading(encryption.keyId, `Snapshot ${id}`);
    await this.#filesOf(id).verify(file);
    try {
      return await decryptToBuffer(join(this.folderOf(id), file.path), nameIn(id, file.path), key);
    } catch (error) {
      throw error instanceof FrameError ? damaged(id, `${file.path}: ${error.message}`) : error;
    }
  }

  /** Notes that the snapshot was resumed from. */
  async markUsed(id: string): Promise<void> {
    await markUsed(this.folderOf(id));
    this.#tell('marked', await this.#readIfWhole(id));
  }

  /** Notes that the snapshot is not to be removed, or that it may be. */
  async keep(id: string, keep: boolean): Promise<void> {
    await setKept(this.folderOf(id), keep);
    this.#tell('marked', await this.#readIfWhole(id));
  }

  /** Notes which starts begin with it, or that none does. */
  async setWarm(id: string, text: string | undefined): Promise<void> {
    await setWarm(this.folderOf(id), text);
    this.#tell('marked', await this.#readIfWhole(id));
  }

  isKept(id: string): Promise<boolean> {
    return isKept(this.folderOf(id));
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
    this.#tell('removed', manifest);
    await rm(doomed, { recursive: true, force: true });
  }
}

/** Of files that are large: for each one whether it is among those that are to be read. */
function partOf(read: ReadAmount): () => boolean {
  const [, first, second] = /^(\d+)(?:\/(\d+)|%)$/.exec(read) ?? [];
  let index = 0;
  if (first === undefined) return () => read === 'all';
  if (second === undefined) return () => Math.random() * 100 < Number(first);
  return () => index++ % Number(second) === Number(first) - 1;
}
