/**
 * A bundle as one file: header, packs, catalogue, trailer. It is written anew each time, beside the one that is there, and
 * takes its name when it has been read back.
 */
import { constants, renameSync, rmSync } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { TorporError } from '../../../api/errors.ts';
import { lockFolder } from '../../../native/folder-lock.ts';
import { sha256 } from './crypto.ts';
import { Appender, isFat, mostFatBytes, openToRead, refuseIfFull, syncNames } from './files.ts';
import type { Candidate, Draft, PackPlace, Stored } from './form.ts';
import { headerBytes } from './header.ts';
import { type Pack, readAt } from './pack.ts';
import { DamageError, errnoOf, tooBig } from './trouble.ts';

const trailerMagic = Buffer.from('TORPORBE');
const trailerBytes = 64;
const copyBytes = 4 * 1024 * 1024;

export const partialOf = (path: string): string => join(dirname(path), `${basename(path)}.partial`);

/** Says where the catalogue begins; what vouches for that is the catalogue. */
function makeTrailer(bundle: Buffer, catalogueBytes: number): Buffer {
  const trailer = Buffer.alloc(trailerBytes);
  trailerMagic.copy(trailer, 0);
  trailer.writeBigUInt64LE(BigInt(catalogueBytes), 8);
  bundle.copy(trailer, 16);
  sha256(trailer.subarray(0, 32)).copy(trailer, 32);
  return trailer;
}

const idIn = (header: Buffer) => header.subarray(16, 32);

const offsetOf = (packs: readonly Pack[], number: number) =>
  packs.slice(0, number).reduce((sum, { bytes }) => sum + bytes, headerBytes);

export class StoredFile implements Stored {
  readonly kind = 'file';
  readonly header: Buffer;
  readonly #path: string;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle, header: Buffer) {
    this.#path = path;
    this.#file = file;
    this.header = header;
  }

  static async open(path: string): Promise<StoredFile> {
    const file = await openToRead(path);
    try {
      const { size } = await file.stat();
      return new StoredFile(path, file, await readAt(file, 0, Math.min(size, headerBytes), 'its header'));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async candidates(): Promise<Candidate[]> {
    return [{ generation: undefined, read: () => this.#readCatalogue() }];
  }

  async #readCatalogue(): Promise<Buffer> {
    const { size } = await this.#file.stat();
    const incomplete = new DamageError('it is not complete, its end is missing');
    if (size < headerBytes + trailerBytes) throw incomplete;
    const trailer = await readAt(this.#file, size - trailerBytes, trailerBytes, 'it');
    const length = Number(trailer.readBigUInt64LE(8));
    if (!makeTrailer(idIn(this.header), length).equals(trailer) || length > size - trailerBytes - headerBytes)
      throw incomplete;
    return await readAt(this.#file, size - trailerBytes - length, length, 'its catalogue');
  }

  async unfinishedAfter(generation: number): Promise<number | undefined> {
    try {
      await stat(partialOf(this.#path));
      return generation + 1;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  async measure(packs: readonly Pack[], catalogueBytes: number): Promise<number> {
    const { size } = await this.#file.stat();
    if (offsetOf(packs, packs.length) + catalogueBytes + trailerBytes !== size)
      throw new DamageError('its parts are not as long as its catalogue says');
    return size;
  }

  async openPack(packs: readonly Pack[], number: number): Promise<PackPlace> {
    return { file: this.#file, start: offsetOf(packs, number), close: async () => {} };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

export class FileDraft implements Draft {
  readonly kind = 'file';
  readonly #path: string;
  readonly #header: Buffer;
  readonly #lock: Disposable;
  readonly #appender: Appender;
  readonly #most: number;
  readonly #starts = new Map<string, number>();
  #isPublished = false;

  private constructor(
    path: string,
    header: Buffer,
    is: { lock: Disposable; file: FileHandle; most: number },
  ) {
    this.#path = path;
    this.#header = header;
    this.#lock = is.lock;
    this.#most = is.most;
    this.#appender = new Appender(is.file, 0);
  }

  /** @param expected bytes, as far as known */
  static async begin(path: string, header: Buffer, expected: number): Promise<FileDraft> {
    const partial = partialOf(path);
    const most = (await isFat(dirname(path))) ? mostFatBytes : Number.POSITIVE_INFINITY;
    if (expected > most) throw tooBig(path);
    const file = await open(partial, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    const held = lockFolder(partial);
    if (held === undefined) {
      await file.close();
      throw new TorporError(
        'blocked',
        `Another export is writing to the bundle ${path} just now.`,
        'Wait until it has ended, and try again.',
      );
    }
    const draft = new FileDraft(path, header, { lock: held, file, most });
    try {
      await file.truncate(0);
      await draft.append(header);
    } catch (error) {
      draft.discard();
      throw error;
    }
    return draft;
  }

  get written(): number {
    return this.#appender.position;
  }

  async beginPack(id: string): Promise<void> {
    this.#starts.set(id, this.#appender.position);
  }

  async append(data: Buffer): Promise<void> {
    if (this.#appender.position + data.length > this.#most) throw tooBig(this.#path);
    await this.#appender.append(data);
  }

  async endPack(): Promise<void> {}

  roomToKeep(packs: readonly Pack[]): number {
    return packs.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** As it is: its records do not depend on where it lies. */
  async keepPack(pack: Pack, openPlace: () => Promise<PackPlace>): Promise<void> {
    const { file, start, close } = await openPlace();
    try {
      await this.beginPack(pack.id);
      await this.#copy(file, start, pack.bytes, `the pack ${pack.id}`);
    } finally {
      await close();
    }
  }

  async #copy(file: FileHandle, start: number, bytes: number, what: string): Promise<void> {
    for (let done = 0; done < bytes; done += copyBytes)
      await this.append(await readAt(file, start + done, Math.min(copyBytes, bytes - done), what));
  }

  /** Everything behind the header of another bundle file. */
  async copyBody(file: FileHandle): Promise<void> {
    const { size } = await file.stat();
    await refuseIfFull(dirname(this.#path), size - headerBytes, this.#path);
    await this.#copy(file, headerBytes, size - headerBytes, 'it');
  }

  async settle(): Promise<void> {
    await this.#appender.settle();
    if (!(await readAt(this.#appender.file, 0, headerBytes, 'it')).equals(this.#header))
      throw new DamageError('its header is not what was written');
  }

  async openPack(id: string): Promise<PackPlace> {
    return { file: this.#appender.file, start: this.#starts.get(id) ?? 0, close: async () => {} };
  }

  async writeCatalogue(_generation: number, catalogue: Buffer): Promise<Buffer> {
    const at = this.#appender.position;
    await this.append(catalogue);
    await this.append(makeTrailer(idIn(this.#header), catalogue.length));
    await this.settle();
    return await readAt(this.#appender.file, at, catalogue.length, 'its catalogue');
  }

  async publish(): Promise<number> {
    this.#isPublished = true;
    const { size } = await this.#appender.file.stat();
    renameSync(partialOf(this.#path), this.#path);
    await syncNames(dirname(this.#path));
    await this.#appender.file.close();
    this.#lock[Symbol.dispose]();
    return size;
  }

  discard(): void {
    if (this.#isPublished) return;
    try {
      this.#lock[Symbol.dispose]();
      rmSync(partialOf(this.#path), { force: true });
    } catch {
      // The medium is not there any more. The next export to it writes over what is left.
    }
  }
}

/** Another header for a bundle that is there: beside it, then in its place. */
export async function replaceFileHeader(path: string, header: Buffer): Promise<void> {
  const old = await openToRead(path);
  try {
    const draft = await FileDraft.begin(path, header, 0);
    try {
      await draft.copyBody(old);
      await draft.settle();
      await draft.publish();
    } catch (error) {
      draft.discard();
      throw error;
    }
  } finally {
    await old.close();
  }
}
