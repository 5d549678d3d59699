/**
 * A bundle as a folder: an update writes only what is new. Nothing is overwritten: packs and catalogues have names that
 * were never there, and a generation counts from the moment its catalogue has its name.
 */
import { closeSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TorporError } from '../../../api/errors.ts';
import { lockFolder } from '../../../native/folder-lock.ts';
import { Appender, openToRead, openToWrite, settleFile, syncNames, writeFully } from './files.ts';
import type { Candidate, Draft, PackPlace, Stored } from './form.ts';
import { headerBytes, isWhole } from './header.ts';
import { type Pack, readAt } from './pack.ts';
import { DamageError, errnoOf } from './trouble.ts';

export const headerName = 'header.torpor';
const newHeaderName = 'header.new';
const packsName = 'packs';
const cataloguesName = 'catalogues';
/** What file systems and desktops put on a medium by themselves. */
const harmless = /^(lost\+found|System Volume Information|\.Trash-\d+|\.fseventsd|\.Spotlight-V100)$/;

const packPath = (path: string, id: string) => join(path, packsName, `${id}.pack`);
const numberOf = (generation: number) => String(generation).padStart(10, '0');
const cataloguePath = (path: string, generation: number) =>
  join(path, cataloguesName, `${numberOf(generation)}.cat`);
const markPath = (path: string, generation: number) =>
  join(path, cataloguesName, `${numberOf(generation)}.new`);

/** Numbers of the generations that have a file of this kind, newest first. */
async function generations(path: string, kind: 'cat' | 'new'): Promise<number[]> {
  const names = await namesIn(join(path, cataloguesName));
  return names
    .map((name) => new RegExp(`^([0-9]{10})\\.${kind}$`).exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((one, other) => other - one);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    const file = await openToRead(path);
    try {
      return await readAt(file, 0, Math.min((await file.stat()).size, headerBytes), path);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** While a header is being replaced there may be the new one only, which is synced before the old one goes. */
export async function readFolderHeader(path: string): Promise<Buffer | undefined> {
  const header = await readIfThere(join(path, headerName));
  if (header !== undefined) return header;
  const next = await readIfThere(join(path, newHeaderName));
  return next !== undefined && isWhole(next) ? next : undefined;
}

/** Whether nothing is there, or only what an interrupted beginning of a bundle leaves. */
export async function isEmptyFolder(path: string): Promise<boolean> {
  return (await readdir(path)).every((name) => name === newHeaderName || harmless.test(name));
}

/** Whether any generation of it has ever been complete. */
export const hasGenerations = async (path: string): Promise<boolean> =>
  (await generations(path, 'cat')).length > 0;

const folderBytes = (packs: readonly Pack[], catalogueBytes: number) =>
  packs.reduce((sum, { bytes }) => sum + bytes, headerBytes + catalogueBytes);

export class StoredFolder implements Stored {
  readonly kind = 'folder';
  readonly header: Buffer;
  readonly #path: string;

  constructor(path: string, header: Buffer) {
    this.#path = path;
    this.header = header;
  }

  async candidates(): Promise<Candidate[]> {
    return (await generations(this.#path, 'cat')).map((generation) => ({
      generation,
      read: () => readFile(cataloguePath(this.#path, generation)),
    }));
  }

  async unfinishedAfter(generation: number): Promise<number | undefined> {
    const [newest = 0] = await generations(this.#path, 'new');
    return newest > generation ? newest : undefined;
  }

  async measure(packs: readonly Pack[], catalogueBytes: number): Promise<number> {
    for (const { id, bytes } of packs) {
      let size: number;
      try {
        ({ size } = await stat(packPath(this.#path, id)));
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') throw new DamageError(`its pack ${id} is missing`);
        throw error;
      }
      if (size !== bytes) throw new DamageError(`its pack ${id} has ${size} bytes and not ${bytes}`);
    }
    return folderBytes(packs, catalogueBytes);
  }

  async openPack(packs: readonly Pack[], number: number): Promise<PackPlace> {
    return await openPackFile(this.#path, packs[number]?.id ?? '');
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

async function openPackFile(path: string, id: string): Promise<PackPlace> {
  const file = await openToRead(packPath(path, id));
  return { file, start: 0, close: () => file.close() };
}

/** Nobody else writes to that bundle meanwhile. @throws TorporError `blocked` */
export function lockBundle(path: string): Disposable {
  const held = lockFolder(path);
  if (held === undefined)
    throw new TorporError(
      'blocked',
      `Another export is writing to the bundle ${path} just now.`,
      'Wait until it has ended, and try again.',
    );
  return held;
}

/** Writes a header so that at any moment there is a whole one, on file systems too that cannot rename over a file. */
export async function putHeader(path: string, header: Buffer): Promise<void> {
  const next = join(path, newHeaderName);
  const file = await openToWrite(next);
  try {
    await writeFully(file, header, 0);
    await settleFile(file);
    if (!(await readAt(file, 0, headerBytes, next)).equals(header))
      throw new DamageError('its header is not what was written');
  } finally {
    await file.close();
  }
  await syncNames(path);
  await rm(join(path, headerName), { force: true });
  await syncNames(path);
  await rename(next, join(path, headerName));
  await syncNames(path);
}

export class FolderDraft implements Draft {
  readonly kind = 'folder';
  written = 0;
  readonly #path: string;
  readonly #isNew: boolean;
  readonly #madeFolder: boolean;
  readonly #lock: Disposable;
  readonly #generation: number;
  /** Of this generation. */
  readonly #made: string[] = [];
  #pack: { id: string; appender: Appender } | undefined;
  #isPublished = false;

  private constructor(
    path: string,
    generation: number,
    is: { isNew: boolean; madeFolder: boolean; lock: Disposable },
  ) {
    this.#path = path;
    this.#generation = generation;
    this.#isNew = is.isNew;
    this.#madeFolder = is.madeFolder;
    this.#lock = is.lock;
  }

  /** The folder of a new bundle. @returns whether it had to be made. */
  static async makeFolder(path: string): Promise<boolean> {
    try {
      // Not the folder above: where the medium is not plugged in, that would be another one.
      mkdirSync(path);
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return false;
      throw error;
    }
    await syncNames(dirname(path));
    return true;
  }

  /**
   * Begins a generation: removes what interrupted ones have left, and leaves a mark, so that a reader can say of this one
   * that it was interrupted. @param header undefined where it stays
   */
  static async begin(
    path: string,
    generation: number,
    header: Buffer | undefined,
    is: { lock: Disposable; madeFolder: boolean; isNew: boolean; kept: readonly Pack[] },
  ): Promise<FolderDraft> {
    const draft = new FolderDraft(path, generation, is);
    try {
      await draft.#removeBut(new Set(is.kept.map(({ id }) => id)));
      if (header !== undefined) await putHeader(path, header);
      draft.written += header?.length ?? 0;
      for (const name of [packsName, cataloguesName]) await mkdir(join(path, name), { recursive: true });
      await syncNames(path);
      await (await openToWrite(markPath(path, generation))).close();
      await syncNames(join(path, cataloguesName));
    } catch (error) {
      draft.discard();
      throw error;
    }
    return draft;
  }

  /** Removes other packs, and marks of other generations. */
  async #removeBut(packs: ReadonlySet<string>): Promise<void> {
    for (const generation of await generations(this.#path, 'new'))
      await rm(markPath(this.#path, generation), { force: true });
    for (const name of await namesIn(join(this.#path, packsName))) {
      const id = /^([0-9a-f]{32})\.pack$/.exec(name)?.[1];
      if (id !== undefined && !packs.has(id)) await rm(packPath(this.#path, id), { force: true });
    }
  }

  async beginPack(id: string): Promise<void> {
    this.#made.push(id);
    this.#pack = { id, appender: new Appender(await openToWrite(packPath(this.#path, id)), 0) };
  }

  async append(data: Buffer): Promise<void> {
    await this.#mustHavePack().append(data);
    this.written += data.length;
  }

  #mustHavePack(): Appender {
    if (this.#pack === undefined) throw new Error('there is no pack to write to');
    return this.#pack.appender;
  }

  async endPack(): Promise<void> {
    const appender = this.#mustHavePack();
    await appender.settle();
    await appender.file.close();
    this.#pack = undefined;
  }

  roomToKeep(): number {
    return 0;
  }

  /** It is there already; only the kernel shall not answer for the medium. */
  async keepPack(pack: Pack): Promise<void> {
    const { file } = await openPackFile(this.#path, pack.id);
    try {
      await settleFile(file);
    } finally {
      await file.close();
    }
  }

  async settle(): Promise<void> {
    await syncNames(join(this.#path, packsName));
  }

  openPack(id: string): Promise<PackPlace> {
    return openPackFile(this.#path, id);
  }

  async writeCatalogue(generation: number, catalogue: Buffer): Promise<Buffer> {
    const path = markPath(this.#path, generation);
    const file = await openToWrite(path);
    try {
      await writeFully(file, catalogue, 0);
      this.written += catalogue.length;
      await settleFile(file);
      return await readAt(file, 0, catalogue.length, 'its catalogue');
    } finally {
      await file.close();
    }
  }

  async publish(generation: number, packs: readonly Pack[]): Promise<number> {
    // Whatever the medium answers now, it may have happened: nothing is discarded any more.
    this.#isPublished = true;
    renameSync(markPath(this.#path, generation), cataloguePath(this.#path, generation));
    await syncNames(join(this.#path, cataloguesName));
    for (const older of await generations(this.#path, 'cat'))
      if (older !== generation) await rm(cataloguePath(this.#path, older), { force: true });
    await syncNames(join(this.#path, cataloguesName));
    await this.#removeBut(new Set(packs.map(({ id }) => id)));
    await syncNames(join(this.#path, packsName));
    this.#lock[Symbol.dispose]();
    const { size } = await stat(cataloguePath(this.#path, generation));
    return folderBytes(packs, size);
  }

  discard(): void {
    if (this.#isPublished) return;
    try {
      this.#lock[Symbol.dispose]();
      // What is open goes under another name, in the folder that is to go, where a program serves the file system (FUSE).
      if (this.#pack !== undefined) closeSync(this.#pack.appender.file.fd);
      for (const id of this.#made) rmSync(packPath(this.#path, id), { force: true });
      rmSync(markPath(this.#path, this.#generation), { force: true });
      if (!this.#isNew) return;
      rmSync(join(this.#path, newHeaderName), { force: true });
      rmSync(join(this.#path, headerName), { force: true });
      for (const name of [packsName, cataloguesName]) rmdirSync(join(this.#path, name));
      if (this.#madeFolder && readdirSync(this.#path).length === 0) rmdirSync(this.#path);
    } catch {
      // The medium is not there any more, or was never written. The next export to it cleans it.
    }
  }
}
