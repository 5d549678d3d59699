/** Writing a generation: chunks come in, what is not there yet is sealed into packs, and all of it is read back. */
import { dirname, join } from 'node:path';
import { TorporError } from '../../../api/errors.ts';
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
import { ChunkTable, idBytes, type Place, zeros } from './chunk-table.ts';
import { FileDraft } from './file-form.ts';
import { refuseIfFull } from './files.ts';
import { FolderDraft, hasGenerations, isEmptyFolder } from './folder-form.ts';
import type { Draft, FormKind, PackPlace } from './form.ts';
import {
  addPassphrases,
  type Kdf,
  makeHeader,
  noBundle,
  type OpenHeader,
  openHeader,
  parseHeader,
} from './header.ts';
import { type Pack, PackReader, PackWriter } from './pack.ts';
import { type Item, pageBytes, readItems } from './stream.ts';
import { DamageError } from './trouble.ts';

export interface WriteRequest {
  path: string;
  form: FormKind | 'auto';
  passphrases: readonly string[];
  kdf: Kdf;
  /** About how many bytes of memory and files will come. */
  expected: number;
}

export interface Listener {
  list: (number: number, list: { bytes: number; sha256: string; chunks: number }) => void;
  unreadable: (number: number, errno: number, what: string) => void;
  progress: (phase: 'write' | 'verify', done: number, total: number) => void;
}

export interface Committed {
  bytes: number;
  written: number;
  generation: number;
}

/** Packs of which less is needed are written anew without the rest. */
const leastNeeded = 0.5;

export class WriteSession {
  readonly generation: number;
  readonly #header: OpenHeader;
  readonly #draft: Draft;
  readonly #before: OpenBundle | undefined;
  readonly #expected: number;
  readonly #writer: PackWriter;
  /** Chunks that came now. */
  readonly #fresh = new ChunkTable();
  /** Those that the bundle will have, and where each comes from. */
  readonly #table = new ChunkTable();
  readonly #origins: { from: 'fresh' | 'before'; number: number }[] = [];
  readonly #lists: (List | null)[] = [];

  private constructor(
    { expected }: WriteRequest,
    header: OpenHeader,
    draft: Draft,
    before: OpenBundle | undefined,
  ) {
    this.#expected = expected;
    this.#header = header;
    this.#draft = draft;
    this.#before = before;
    this.#writer = new PackWriter(header, draft);
    this.generation = (before?.catalogue.generation ?? 0) + 1;
  }

  get isNew(): boolean {
    return this.#before === undefined;
  }

  get form(): FormKind {
    return this.#draft.kind;
  }

  get id(): string {
    return this.#header.id.toString('hex');
  }

  /** @throws TorporError where there is something else, or no passphrase opens it. Nothing has changed then. */
  static async begin(request: WriteRequest): Promise<WriteSession> {
    const { path, form, passphrases, kdf } = request;
    const kind = await kindOf(path);
    const isEmpty = kind === 'folder' && (await isEmptyFolder(path));
    if (kind === 'nothing' || isEmpty) {
      const header = await makeHeader(passphrases, kdf);
      const isFolder = isEmpty || form === 'folder';
      const draft = isFolder
        ? await FolderDraft.begin(path, 1, header.bytes, undefined)
        : await FileDraft.begin(path, header.id, header.bytes, 0);
      return new WriteSession(request, header, draft, undefined);
    }
    if (form !== 'auto' && form !== kind)
      throw new TorporError(
        'usage',
        `${path} is a ${kind} already.`,
        `Leave out the form, or choose another path.`,
      );
    const stored = await findStored(path, kind);
    if (stored === undefined) throw kind === 'file' ? noBundle(path) : notEmpty(path);
    try {
      const [first = '', ...others] = passphrases;
      const old = await openHeader(parseHeader(stored.header, path), first, path);
      const header = await addPassphrases(old, others, kdf);
      // A first export that was interrupted has left a header only.
      const isBegun = kind === 'file' || (await hasGenerations(path));
      const before = isBegun ? await openCurrent(stored, header, path) : undefined;
      const generation = (before?.catalogue.generation ?? 0) + 1;
      if (kind === 'file')
        await refuseIfFull(dirname(path), sum(before?.catalogue.packs.map(({ bytes }) => bytes) ?? []), path);
      const draft =
        kind === 'folder'
          ? await FolderDraft.begin(
              ...([path, generation, header === old ? undefined : header.bytes] as const),
              before?.catalogue.packs,
            )
          : await FileDraft.begin(path, header.id, header.bytes, 0);
      return new WriteSession(request, header, draft, before);
    } catch (error) {
      await stored[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Ids of all chunks that are there, one after the other. */
  known(): Buffer {
    const table = this.#before?.catalogue.table;
    if (table === undefined) return Buffer.alloc(0);
    const ids = Buffer.allocUnsafe(table.count * idBytes);
    for (let number = 0; number < table.count; number++) table.id(number).copy(ids, number * idBytes);
    return ids;
  }

  /** Takes the stream to its end. */
  async receive(source: AsyncIterable<Buffer>, listener: Listener): Promise<void> {
    let listed = 0;
    let pending = 0;
    const tell = () => listener.progress('write', Math.min(listed + pending, this.#expected), this.#expected);
    await readItems(source, (item) => {
      if (item.kind === 'chunk') {
        pending += item.pages * pageBytes;
        tell();
        return this.#take(item);
      }
      const number = this.#lists.length;
      if (item.kind === 'error') {
        this.#lists.push(null);
        listener.unreadable(number, item.errno, item.what);
        return undefined;
      }
      const list = this.#listOf(item);
      this.#lists.push(list);
      listed += list.bytes;
      pending = 0;
      tell();
      listener.list(number, { bytes: list.bytes, sha256: list.sha256, chunks: list.chunks.length });
      return undefined;
    });
    await this.#writer.end();
  }

  #take({ payload, id, codec, pages }: Extract<Item, { kind: 'chunk' }>): Promise<void> | undefined {
    if (this.#fresh.find(id) !== undefined || this.#before?.catalogue.table.find(id) !== undefined)
      return undefined;
    const add = () => {
      this.#fresh.add(id, codec, pages, this.#writer.add(payload));
    };
    if (!this.#writer.hasRoom(payload.length)) return this.#writer.makeRoom(payload.length).then(add);
    add();
    return undefined;
  }

  #listOf({ bytes, sha256, ids }: Extract<Item, { kind: 'list' }>): List {
    const chunks = new Uint32Array(ids.length / idBytes);
    for (let index = 0; index < chunks.length; index++) {
      const id = ids.subarray(index * idBytes, (index + 1) * idBytes);
      chunks[index] = id.every((byte) => byte === 0) ? zeros : this.#numberOf(id);
    }
    const fault = listFault(this.#table, bytes, chunks);
    if (fault !== undefined) throw new Error(`what came has ${fault}`);
    return { bytes, sha256: sha256.toString('hex'), chunks };
  }

  #numberOf(id: Buffer): number {
    const known = this.#table.find(id);
    if (known !== undefined) return known;
    const fresh = this.#fresh.find(id);
    const before = fresh === undefined ? this.#before?.catalogue.table.find(id) : undefined;
    const number = fresh ?? before;
    const table = fresh === undefined ? this.#before?.catalogue.table : this.#fresh;
    if (number === undefined || table === undefined) throw new Error('a list names a chunk that never came');
    this.#origins.push({ from: fresh === undefined ? 'before' : 'fresh', number });
    return this.#table.add(id, table.codec(number), table.pages(number), table.place(number));
  }

  /** Makes what has come the newest generation. */
  async commit(
    contents: Record<string, unknown>,
    { progress }: Pick<Listener, 'progress'>,
  ): Promise<Committed> {
    const draft = this.#draft;
    const kept = await this.#keepNeeded();
    const packs = [...this.#writer.packs, ...kept];
    await draft.settle();
    await this.#readBack(packs, progress);
    const catalogue = {
      generation: this.generation,
      contents,
      packs,
      lists: this.#lists,
      table: this.#table,
    };
    const bytes = encodeCatalogue(this.#header, catalogue);
    const onMedium = await draft.writeCatalogue(this.generation, bytes);
    if (!onMedium.equals(bytes)) throw new DamageError('its catalogue is not what was written');
    decodeCatalogue(this.#header, onMedium);
    const written = draft.written;
    const total = await draft.publish(this.generation, packs);
    await this.#before?.stored[Symbol.asyncDispose]();
    return { bytes: total, written, generation: this.generation };
  }

  /** @returns packs of the generation before that stay; what is needed of others is in new ones then. */
  async #keepNeeded(): Promise<Pack[]> {
    const before = this.#before;
    if (before === undefined) return [];
    const { packs, table } = before.catalogue;
    const needed = packs.map(() => 0);
    for (const { from, number } of this.#origins) {
      if (from === 'fresh') continue;
      const { pack, length } = table.place(number);
      needed[pack] = (needed[pack] ?? 0) + length;
    }
    const stays = packs.map(({ bytes }, index) => (needed[index] ?? 0) >= bytes * leastNeeded);
    await this.#rewrite(before, stays);
    const kept = packs.filter((_pack, index) => stays[index]);
    const numbers = new Map(kept.map(({ id }, index) => [id, this.#writer.packs.length + index]));
    for (const [number, origin] of this.#origins.entries()) {
      if (origin.from === 'fresh') continue;
      const place = table.place(origin.number);
      const at = numbers.get(packs[place.pack]?.id ?? '');
      if (at !== undefined) this.#table.move(number, { ...place, pack: at });
    }
    for (const pack of kept) {
      const old = packs.indexOf(pack);
      await this.#draft.keepPack(pack, () => before.stored.openPack(packs, old));
    }
    return kept;
  }

  async #rewrite(before: OpenBundle, stays: readonly boolean[]): Promise<void> {
    const { table } = before.catalogue;
    const moved = this.#origins.flatMap(({ from, number }, index) =>
      from === 'before' && !stays[table.place(number).pack] ? [{ number, index }] : [],
    );
    if (moved.length === 0) return;
    await using reader = readerOf(before);
    const indexes = new Map(moved.map(({ number, index }) => [table.id(number).toString('hex'), index]));
    const numbers = Uint32Array.from(moved, ({ number }) => number);
    await readAll(reader, before.catalogue, numbers, async (payload) => {
      if (!this.#writer.hasRoom(payload.length)) await this.#writer.makeRoom(payload.length);
      const place: Place = this.#writer.add(payload);
      const index = indexes.get(payload.toString('hex', 0, idBytes));
      if (index !== undefined) this.#table.move(index, place);
    });
    await this.#writer.end();
  }

  /** @throws DamageError where the medium gives other bytes than it was given. */
  async #readBack(packs: readonly Pack[], progress: Listener['progress']): Promise<void> {
    const place = (number: number): Promise<PackPlace> => this.#draft.openPack(packs[number]?.id ?? '');
    await using reader = new PackReader(this.#header, packs, place);
    const all = everyNumber(this.#table.count);
    const total = all.reduce((bytes, number) => bytes + this.#table.place(number).length, 0);
    let done = 0;
    await readAll(reader, { table: this.#table }, all, (payload) => {
      done += payload.length;
      progress('verify', done, total);
      return undefined;
    });
  }

  /** Leaves the bundle as it was. */
  discard(): void {
    this.#draft.discard();
  }
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, each) => all + each, 0);

const notEmpty = (path: string) =>
  new TorporError(
    'usage',
    `The folder ${path} has other things in it and is no bundle.`,
    `Name a folder of its own in it, such as ${join(path, 'session')}/.`,
  );
