/** What both forms of a bundle, the file and the folder, give to those who read and write bundles. */
import type { FileHandle } from 'node:fs/promises';
import type { Pack } from './pack.ts';

export type FormKind = 'file' | 'folder';

/** A pack's bytes, in a file that is open. */
export interface PackPlace {
  file: FileHandle;
  /** Where in the file the pack begins. */
  start: number;
  close(): Promise<void>;
}

/** A generation that may be complete. */
export interface Candidate {
  /** By its name; undefined where only its catalogue says. */
  generation: number | undefined;
  /** Of the catalogue, as it lies there. @throws DamageError */
  read(): Promise<Buffer>;
}

/** A bundle that is there. */
export interface Stored extends AsyncDisposable {
  readonly kind: FormKind;
  /** As it lies there: whole, damaged, or something else. */
  readonly header: Buffer;
  /** Newest first. */
  candidates(): Promise<Candidate[]>;
  /** The newest generation behind this one that was begun and never ended. */
  unfinishedAfter(generation: number): Promise<number | undefined>;
  /** @returns bytes of the bundle. @throws DamageError where a pack is not there, or has another length. */
  measure(packs: readonly Pack[], catalogueBytes: number): Promise<number>;
  openPack(packs: readonly Pack[], number: number): Promise<PackPlace>;
}

/** A generation in the making. Until `publish` the one before is untouched. */
export interface Draft {
  readonly kind: FormKind;
  /** Bytes that were written to the medium until now. */
  readonly written: number;
  beginPack(id: string): Promise<void>;
  append(data: Buffer): Promise<void>;
  endPack(): Promise<void>;
  /** What must be free to take over packs of the generation before. */
  roomToKeep(packs: readonly Pack[]): number;
  /** Takes over a pack of the generation before. */
  keepPack(pack: Pack, open: () => Promise<PackPlace>): Promise<void>;
  /** Syncs everything and has the kernel forget it, so that what is read next comes from the medium. */
  settle(): Promise<void>;
  openPack(id: string): Promise<PackPlace>;
  /** Writes and syncs the catalogue. @returns what the medium has of it then. */
  writeCatalogue(generation: number, catalogue: Buffer): Promise<Buffer>;
  /** Makes it the current generation, and removes what nobody needs any more. @returns bytes of the bundle. */
  publish(generation: number, packs: readonly Pack[]): Promise<number>;
  /** Leaves the bundle as it was, as far as the medium allows. At once, so that a signal can have it done. */
  discard(): void;
}
