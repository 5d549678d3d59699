/** Writes one generation of a bundle: takes chunks and lists, reads everything back, and makes it the one that counts. */
import { constants } from 'node:fs';
import { access, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { TorporError } from '../../../api/errors.ts';
import { type FileBeside, refuseBesideFile, writeBeside } from './beside.ts';
import {
  everyNumber,
  findStored,
  kindOf,
  type OpenBundle,
  openCurrent,
  readAll,
  readerOf,
} from './bundle.ts';
import { decodeCatalogue, encodeCatalogue, type List, listFault } from './catalogue.ts';
import { ChunkTable, idBytes, zeros } from './chunk-table.ts';
import { FileDraft } from './file-form.ts';
import { refuseIfFull } from './files.ts';
import { FolderDraft, hasGenerations, isEmptyFolder, lockBundle } from './folder-form.ts';
import type { Draft, FormKind } from './form.ts';
import {
  addPassphrases,
  type Kdf,
  makeHeader,
  type OpenHeader,
  openHeader,
  parseHeader,
  refuseIfShort,
} from './header.ts';
import { type Pack, PackReader, PackWriter, recordBytes } from './pack.ts';
import { type Item, StreamError } from './stream.ts';
import { DamageError } from './trouble.ts';

export interface WriteRequest {
  path: string;
  form: FormKind | 'auto';
  passphrases: readonly string[];
  kdf: Kdf;
  /** How many bytes will be sent, as far as known. */
  expectedBytes: number;
  hasBeside: boolean;
}

/** What became of an item that is no chunk. */
export type Answer =
  | { event: 'list'; source: number; bytes: number; sha256: string; chunks: number }
  | { event: 'unreadable'; source: number; errno: string; what: string };

export interface Written {
  bytes: number;
  written: number;
  chunks: number;
  generation: number;
}

/** Of a new bundle by its name, unless somebody says. */
const formOf = (path: string): FormKind => (path.endsWith('.torpor') ? 'file' : 'folder');

interface Before {
  form: FormKind;
  /** What is updated. */
  bundle: OpenBundle | undefined;
  lock: Disposable | undefined;
  madeFolder: boolean;
}

async function lookBefore({
  path,
  form,
  passphrases,
  hasBeside,
}: Omit<WriteRequest, 'kdf' | 'expectedBytes'>): Promise<Before> {
  const kind = await kindOf(path);
  const wanted = form === 'auto' ? (kind === 'nothing' ? formOf(path) : kind) : form;
  if (wanted === 'file' && hasBeside) refuseBesideFile(path);
  if (kind !== 'nothing' && kind !== wanted)
    throw new TorporError(
      'usage',
      `${path} is there already, and is no ${wanted}.`,
      'Choose another name, or remove what is there.',
    );
  if (kind === 'nothing') {
    if (wanted === 'file') return { form: wanted, bundle: undefined, lock: undefined, madeFolder: false };
    const madeFolder = await FolderDraft.makeFolder(path);
    return { form: wanted, bundle: undefined, lock: lockBundle(path), madeFolder };
  }
  const lock = kind === 'folder' ? lockBundle(path) : undefined;
  try {
    const stored = await findStored(path, kind);
    if (stored === undefined) {
      if (kind === 'folder' && (await isEmptyFolder(path)))
        return { form: kind, bundle: undefined, lock, madeFolder: false };
      throw new TorporError(
        'usage',
        kind === 'folder'
          ? `The folder ${path} is not empty, and is no bundle of Torpor's.`
          : `The file ${path} is there already, and is no bundle of Torpor's.`,
        kind === 'folder' ? `Name a new folder in it, such as ${path}/session.` : 'Choose another name.',
      );
    }
    const parsed = parseHeader(stored.header, path);
    // What never came to an end has nothing that could be updated, and perhaps a passphrase that nobody knows.
    if (kind === 'folder' && !(await hasGenerations(path)))
      return { form: kind, bundle: undefined, lock, madeFolder: false };
    const header = await openHeader(parsed, passphrases[0] ?? '', path);
    return { form: kind, bundle: await openCurrent(stored, header, path), lock, madeFolder: false };
  } catch (error) {
    lock?.[Symbol.dispose]();
    throw error;
  }
}

export class Writing {
  readonly #path: string;
  readonly #header: OpenHeader;
  readonly #before: OpenBundle | undefined;
  readonly #draft: Draft;
  readonly #packs: PackWriter;
  readonly #table: ChunkTable;
  readonly #lists: (List | null)[] = [];
  readonly generation: number;

  private constructor(
    path: string,
    is: { header: OpenHeader; before: OpenBundle | undefined; draft: Draft; generation: number },
  ) {
    this.#path = path;
    this.#header = is.header;
    this.#before = is.before;
    this.#draft = is.draft;
    this.generation = is.generation;
    this.#packs = new PackWriter(is.header, is.draft);
    this.#table = new ChunkTable(Buffer.from(is.before?.catalogue.table.bytes ?? []));
  }

  /** Whether one could be begun there under these passphrases: nothing is written. @throws TorporError where not */
  static async tryOut(request: Omit<WriteRequest, 'kdf' | 'expectedBytes'>): Promise<void> {
    const { path, passphrases } = request;
    const { form, bundle, lock, madeFolder } = await lookBefore(request);
    try {
      for (const made of bundle === undefined ? passphrases : passphrases.slice(1)) refuseIfShort(made);
      await access(form === 'folder' ? path : dirname(path), constants.W_OK);
    } finally {
      await bundle?.stored[Symbol.asyncDispose]();
      lock?.[Symbol.dispose]();
      if (madeFolder) await rmdir(path);
    }
  }

  /** @param begun gets what must be discarded if the program is ended. */
  static async begin(request: WriteRequest, begun: (draft: Draft) => void): Promise<Writing> {
    const before = await lookBefore(request);
    try {
      return await Writing.#beginAfter(before, request, begun);
    } catch (error) {
      // Only an empty one goes.
      if (before.madeFolder) await rmdir(request.path).catch(() => {});
      throw error;
    }
  }

  static async #beginAfter(
    { form, bundle, lock, madeFolder }: Before,
    { path, passphrases, kdf, expectedBytes }: WriteRequest,
    begun: (draft: Draft) => void,
  ): Promise<Writing> {
    const folder = form === 'folder' ? path : dirname(path);
    await refuseIfFull(folder, expectedBytes, path);
    const header =
      bundle === undefined
        ? await makeHeader(passphrases, kdf)
        : await addPassphrases(bundle.header, passphrases.slice(1), kdf);
    const generation = Math.max(bundle?.catalogue.generation ?? 0, bundle?.passedOver ?? 0) + 1;
    const draft =
      lock === undefined
        ? await FileDraft.begin(path, header.bytes, expectedBytes)
        : await FolderDraft.begin(path, generation, header === bundle?.header ? undefined : header.bytes, {
            lock,
            madeFolder,
            isNew: bundle === undefined,
            kept: bundle?.catalogue.packs ?? [],
          });
    begun(draft);
    return new Writing(path, { header, before: bundle, draft, generation });
  }

  get ready() {
    return {
      id: this.#header.id.toString('hex'),
      generation: this.generation,
      isNew: this.#before === undefined,
      form: this.#draft.kind,
    };
  }

  /** Ids of chunks that need not be sent, one after the other. */
  knownIds(): Buffer {
    const { count } = this.#table;
    const ids = Buffer.allocUnsafe(count * idBytes);
    for (let number = 0; number < count; number++) this.#table.id(number).copy(ids, number * idBytes);
    return ids;
  }

  /** @returns undefined where nothing need be waited for and nothing is to be said. */
  take(item: Item): Promise<Answer | undefined> | Answer | undefined {
    if (item.kind === 'chunk') return this.#takeChunk(item);
    const source = this.#lists.length;
    if (item.kind === 'error') {
      this.#lists.push(null);
      return { event: 'unreadable', source, errno: nameOf(item.errno), what: item.what };
    }
    const list = {
      bytes: item.bytes,
      sha256: item.sha256.toString('hex'),
      chunks: this.#numbers(item.ids),
    };
    const fault = listFault(this.#table, list.bytes, list.chunks);
    if (fault !== undefined) throw new StreamError(fault);
    this.#lists.push(list);
    return { event: 'list', source, bytes: list.bytes, sha256: list.sha256, chunks: list.chunks.length };
  }

  #takeChunk(item: Extract<Item, { kind: 'chunk' }>): Promise<undefined> | undefined {
    if (this.#table.find(item.id) !== undefined) return undefined;
    if (item.id.equals(noId)) throw new StreamError('a chunk with the id that stands for zeros');
    if (!this.#packs.hasRoom(item.payload.length)) {
      return this.#packs.makeRoom(item.payload.length).then(() => {
        this.#add(item);
        return undefined;
      });
    }
    this.#add(item);
    return undefined;
  }

  #add({ id, codec, pages, payload }: Extract<Item, { kind: 'chunk' }>): void {
    const place = this.#packs.add(payload);
    this.#table.add(id, codec, pages, { ...place, pack: place.pack + this.#packsBefore.length });
  }

  get #packsBefore(): readonly Pack[] {
    return this.#before?.catalogue.packs ?? [];
  }

  #numbers(ids: Buffer): Uint32Array {
    const numbers = new Uint32Array(ids.length / idBytes);
    for (let index = 0; index < numbers.length; index++) {
      const id = ids.subarray(index * idBytes, (index + 1) * idBytes);
      const number = id.equals(noId) ? zeros : this.#table.find(id);
      if (number === undefined) throw new StreamError('a list of a chunk that was not sent');
      numbers[index] = number;
    }
    return numbers;
  }

  /** Bytes that the medium has got until now. */
  get written(): number {
    return this.#draft.written;
  }

  /**
   * Everything is durable, read back and counts when this has returned.
   * @param verified how much has been read back, of how much
   */
  async commit(
    contents: Record<string, unknown>,
    beside: readonly FileBeside[],
    verified: (done: number, total: number) => void,
  ): Promise<Written> {
    const needed = this.#needed();
    const kept = await this.#moveOutOfSparsePacks(needed);
    await this.#packs.end();
    await refuseIfFull(
      this.#draft.kind === 'folder' ? this.#path : dirname(this.#path),
      this.#draft.roomToKeep(kept.map(({ pack }) => pack)),
      this.#path,
    );
    for (const { pack, number } of kept)
      await this.#draft.keepPack(pack, async () => {
        if (this.#before === undefined) throw new Error('a new bundle has no packs to keep');
        return await this.#before.stored.openPack(this.#packsBefore, number);
      });
    await this.#draft.settle();
    const writtenBeside = await writeBeside(this.#path, beside);
    const catalogue = this.#catalogue(contents, needed, kept);
    await this.#verify(catalogue, verified);
    const bytes = encodeCatalogue(this.#header, catalogue);
    const onMedium = await this.#draft.writeCatalogue(this.generation, bytes);
    if (!onMedium.equals(bytes)) throw new DamageError('its catalogue is not what was written');
    decodeCatalogue(this.#header, onMedium);
    const size = await this.#draft.publish(this.generation, catalogue.packs);
    return {
      bytes: size,
      written: this.written + writtenBeside,
      chunks: catalogue.table.count,
      generation: this.generation,
    };
  }

  /** For each chunk, whether a list names it. */
  #needed(): Uint8Array {
    const needed = new Uint8Array(this.#table.count);
    for (const list of this.#lists)
      for (const number of list?.chunks ?? []) if (number !== zeros) needed[number] = 1;
    return needed;
  }

  /** Packs of which less than half is needed are not kept: what is needed of them is written anew. */
  async #moveOutOfSparsePacks(needed: Uint8Array): Promise<{ pack: Pack; number: number }[]> {
    const neededBytes = this.#packsBefore.map(() => 0);
    for (const [number, isNeeded] of needed.entries()) {
      const { pack, length } = this.#table.place(number);
      if (isNeeded !== 0 && pack < neededBytes.length)
        neededBytes[pack] = (neededBytes[pack] ?? 0) + recordBytes(length);
    }
    const isKept = this.#packsBefore.map(({ bytes }, number) => (neededBytes[number] ?? 0) * 2 >= bytes);
    const moved = everyNumber(needed.length).filter(
      (number) => needed[number] !== 0 && isKept[this.#table.place(number).pack] === false,
    );
    if (this.#before !== undefined && moved.length > 0) {
      await using reader = readerOf(this.#before);
      await readAll(reader, { table: this.#table }, moved, (payload) => this.#moveChunk(payload));
    }
    return this.#packsBefore.map((pack, number) => ({ pack, number })).filter(({ number }) => isKept[number]);
  }

  async #moveChunk(payload: Buffer): Promise<void> {
    const number = this.#table.find(payload.subarray(0, idBytes));
    if (number === undefined) throw new Error('a chunk that is moved is not known');
    if (!this.#packs.hasRoom(payload.length)) await this.#packs.makeRoom(payload.length);
    const place = this.#packs.add(payload);
    this.#table.move(number, { ...place, pack: place.pack + this.#packsBefore.length });
  }

  /** With the packs in the order in which they lie in a file, and without what is in none of them. */
  #catalogue(
    contents: Record<string, unknown>,
    needed: Uint8Array,
    kept: readonly { pack: Pack; number: number }[],
  ) {
    const made = this.#packs.packs;
    const packs = [...made, ...kept.map(({ pack }) => pack)];
    const packNumbers = new Map<number, number>([
      ...made.map((_, index) => [index + this.#packsBefore.length, index] as const),
      ...kept.map(({ number }, index) => [number, made.length + index] as const),
    ]);
    const table = new ChunkTable();
    const numbers = new Uint32Array(this.#table.count);
    const neededHere: number[] = [];
    for (let number = 0; number < this.#table.count; number++) {
      const place = this.#table.place(number);
      const pack = packNumbers.get(place.pack);
      if (pack === undefined) continue;
      const to = table.add(this.#table.id(number), this.#table.codec(number), this.#table.pages(number), {
        ...place,
        pack,
      });
      numbers[number] = to;
      if (needed[number] !== 0) neededHere.push(to);
    }
    const lists = this.#lists.map(
      (list) =>
        list && {
          ...list,
          chunks: list.chunks.map((number) => (number === zeros ? zeros : (numbers[number] ?? zeros))),
        },
    );
    return {
      generation: this.generation,
      contents,
      packs,
      lists,
      table,
      needed: Uint32Array.from(neededHere),
    };
  }

  async #verify(
    { packs, table, needed }: { packs: readonly Pack[]; table: ChunkTable; needed: Uint32Array },
    verified: (done: number, total: number) => void,
  ): Promise<void> {
    const total = needed.reduce((sum, number) => sum + recordBytes(table.place(number).length), 0);
    let done = 0;
    await using reader = new PackReader(this.#header, packs, (number) =>
      this.#draft.openPack(packs[number]?.id ?? ''),
    );
    await readAll(reader, { table }, needed, (payload) => {
      done += recordBytes(payload.length);
      verified(done, total);
      return undefined;
    });
  }

  /** Lets go of the bundle that was there before. */
  async close(): Promise<void> {
    await this.#before?.stored[Symbol.asyncDispose]();
  }
}

/** In a list, for pages of zeros. */
const noId = Buffer.alloc(idBytes);

function nameOf(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return String(errno);
  }
}
