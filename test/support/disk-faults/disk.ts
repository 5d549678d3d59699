/**
 * What a disk may hold after a loss of power. Only what was synced is certain: the contents and length of a file after
 * an fsync of it, a name after an fsync of the folder that it is in. All else is there, or not, or partly. A renaming is
 * one step, as every journalling file system has it: it has happened altogether or not at all, and is certain once the
 * folder that the name has come to is synced.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Operation } from './recorder.ts';

/** What becomes of what was not synced. */
export interface Loss {
  data: 'dropped' | 'kept' | 'some';
  names: 'dropped' | 'kept' | 'some';
  /** Decides where it is `some`. */
  seed?: number;
}

const sectorBytes = 512;

type Change =
  | { kind: 'write'; offset: number; data: Buffer }
  | { kind: 'resize'; length: number }
  | { kind: 'allocate'; end: number };

interface File {
  kind: 'file';
  /** What a reader sees while the power is on. */
  live: Buffer;
  durable: Buffer;
  /** Since the last sync. */
  pending: Change[];
}

interface Move {
  from: { folder: Folder; name: string };
}

type Naming =
  | { kind: 'put'; name: string; node: Node; move?: Move }
  | { kind: 'remove'; name: string; node: Node }
  | { kind: 'rename'; name: string; to: string; node: Node }
  /** The other half of a `put` in another folder. */
  | { kind: 'leave'; name: string; node: Node; move: Move };

interface Folder {
  kind: 'folder';
  live: Map<string, Node>;
  durable: Map<string, Node>;
  pending: Naming[];
}

type Node = File | Folder;

/** A folder as it is on the disk: names and contents. */
export type Tree = Map<string, Tree | Buffer>;

function changed(contents: Buffer, change: Change): Buffer {
  switch (change.kind) {
    case 'resize':
      return extended(contents.subarray(0, change.length), change.length);
    case 'allocate':
      return extended(contents, change.end);
    case 'write': {
      const result = Buffer.from(extended(contents, change.offset + change.data.length));
      change.data.copy(result, change.offset);
      return result;
    }
  }
}

function extended(contents: Buffer, length: number): Buffer {
  if (contents.length >= length) return contents;
  return Buffer.concat([contents, Buffer.alloc(length - contents.length)]);
}

/** Numbers from 0 to below 1 that a seed decides (Mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Disk {
  readonly #path: string;
  readonly #root: Folder;
  /** By inode numbers, which a file system uses again: that of the last one made counts. */
  readonly #nodes = new Map<bigint, Node>();
  readonly #folders = new Set<Folder>();
  readonly #files = new Set<File>();

  /** With what is in the folder now, all of it durable. */
  constructor(path: string) {
    this.#path = path;
    this.#root = this.#load(path);
  }

  #load(path: string): Folder {
    const folder = this.#newFolder(statSync(path, { bigint: true }).ino);
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const below = join(path, entry.name);
      const node = entry.isDirectory()
        ? this.#load(below)
        : this.#newFile(statSync(below, { bigint: true }).ino, readFileSync(below));
      folder.live.set(entry.name, node);
      folder.durable.set(entry.name, node);
    }
    return folder;
  }

  #newFolder(inode: bigint): Folder {
    const folder: Folder = { kind: 'folder', live: new Map(), durable: new Map(), pending: [] };
    this.#nodes.set(inode, folder);
    this.#folders.add(folder);
    return folder;
  }

  #newFile(inode: bigint, contents: Buffer): File {
    const file: File = { kind: 'file', live: contents, durable: contents, pending: [] };
    this.#nodes.set(inode, file);
    this.#files.add(file);
    return file;
  }

  #folderAt(path: string): Folder {
    if (path === this.#path) return this.#root;
    const node = this.#folderAt(dirname(path)).live.get(basename(path));
    if (node?.kind !== 'folder') throw new Error(`the journal leads to ${path}, which is no folder`);
    return node;
  }

  #entryAt(path: string): { folder: Folder; name: string; node: Node } {
    const folder = this.#folderAt(dirname(path));
    const name = basename(path);
    const node = folder.live.get(name);
    if (node === undefined) throw new Error(`the journal leads to ${path}, which is not there`);
    return { folder, name, node };
  }

  #nodeOf(inode: bigint, path: string): Node {
    const node = this.#nodes.get(inode);
    if (node === undefined) throw new Error(`the journal has ${path}, which nobody has made`);
    return node;
  }

  #change(inode: bigint, path: string, change: Change): void {
    const file = this.#nodeOf(inode, path);
    if (file.kind !== 'file') throw new Error(`the journal has a write to ${path}, which is no file`);
    file.live = changed(file.live, change);
    file.pending.push(change);
  }

  #put(path: string, node: Node, move?: Move): void {
    const folder = this.#folderAt(dirname(path));
    const name = basename(path);
    folder.live.set(name, node);
    folder.pending.push({ kind: 'put', name, node, ...(move === undefined ? {} : { move }) });
  }

  /** What the operation that comes next does. */
  apply(operation: Operation): void {
    if (operation.failed) {
      // The kernel does not keep for another attempt what it could not write.
      if (operation.kind === 'sync') {
        const node = this.#nodeOf(operation.inode, operation.path);
        if (node.kind === 'file') node.pending = [];
      }
      return;
    }
    const { path } = operation;
    switch (operation.kind) {
      case 'make-file':
        this.#put(path, this.#newFile(operation.inode, Buffer.alloc(0)));
        break;
      case 'make-folder':
        this.#put(path, this.#newFolder(operation.inode));
        break;
      case 'write':
      case 'resize':
      case 'allocate':
        this.#change(operation.inode, path, operation);
        break;
      case 'link':
        this.#put(operation.to, this.#entryAt(path).node);
        break;
      case 'rename':
        this.#rename(path, operation.to);
        break;
      case 'unlink':
      case 'remove-folder': {
        const { folder, name, node } = this.#entryAt(path);
        folder.live.delete(name);
        folder.pending.push({ kind: 'remove', name, node });
        break;
      }
      case 'sync':
        this.#sync(this.#nodeOf(operation.inode, path));
        break;
      case 'sync-all':
        for (const file of this.#files) this.#sync(file);
        for (const folder of this.#folders) this.#sync(folder);
    }
  }

  #rename(from: string, to: string): void {
    const { folder, name, node } = this.#entryAt(from);
    folder.live.delete(name);
    if (this.#folderAt(dirname(to)) === folder) {
      folder.live.set(basename(to), node);
      folder.pending.push({ kind: 'rename', name, to: basename(to), node });
      return;
    }
    const move: Move = { from: { folder, name } };
    folder.pending.push({ kind: 'leave', name, node, move });
    this.#put(to, node, move);
  }

  #sync(node: Node): void {
    if (node.kind === 'file') {
      for (const change of node.pending) node.durable = changed(node.durable, change);
      node.pending = [];
      return;
    }
    for (const naming of node.pending) {
      named(node.durable, naming);
      if (naming.kind === 'put' && naming.move !== undefined) {
        const { folder, name } = naming.move.from;
        // That it was ever there is no longer open either.
        folder.pending = folder.pending.filter(
          (each) => !(each.name === name && each.node === naming.node && each.kind !== 'rename'),
        );
        if (folder.durable.get(name) === naming.node) folder.durable.delete(name);
      }
    }
    node.pending = node.pending.filter(({ kind }) => kind === 'leave');
  }

  /** As a reader sees it, which is also what is there after every process was killed. */
  get live(): Tree {
    return this.after({ data: 'kept', names: 'kept' });
  }

  /** What may be there when the power comes back. */
  after({ data, names, seed = 0 }: Loss): Tree {
    const next = random(seed);
    const kept = new Map<Folder, Naming[]>();
    const moved = new Set<Move>();
    for (const folder of this.#folders) {
      const { pending } = folder;
      const count =
        names === 'kept'
          ? pending.length
          : names === 'dropped'
            ? 0
            : Math.floor(next() * (pending.length + 1));
      const some = pending.slice(0, count);
      kept.set(folder, some);
      for (const naming of some) if (naming.kind === 'put' && naming.move) moved.add(naming.move);
    }
    const contents = (file: File): Buffer => {
      if (data === 'kept') return file.live;
      return data === 'dropped' ? file.durable : partly(file, next);
    };
    const grow = (folder: Folder): Tree => {
      const entries = new Map(folder.durable);
      for (const naming of kept.get(folder) ?? []) named(entries, naming);
      for (const naming of folder.pending)
        if (naming.kind === 'leave' && moved.has(naming.move) && entries.get(naming.name) === naming.node)
          entries.delete(naming.name);
      return new Map(
        [...entries].map(([name, node]) => [name, node.kind === 'file' ? contents(node) : grow(node)]),
      );
    };
    return grow(this.#root);
  }
}

/** Applies one to names. What leaves does so with the other half. */
function named(entries: Map<string, Node>, naming: Naming): void {
  switch (naming.kind) {
    case 'put':
      entries.set(naming.name, naming.node);
      return;
    case 'remove':
      if (entries.get(naming.name) === naming.node) entries.delete(naming.name);
      return;
    case 'rename':
      if (entries.get(naming.name) === naming.node) entries.delete(naming.name);
      entries.set(naming.to, naming.node);
      return;
    case 'leave':
      return;
  }
}

/** Each change has come to the disk or not, a write perhaps as some of its sectors, or as no more than the length. */
function partly({ durable, pending }: File, next: () => number): Buffer {
  const ends = pending.map((change) =>
    change.kind === 'write' ? change.offset + change.data.length : endOf(change),
  );
  const room = Buffer.alloc(Math.max(durable.length, ...ends));
  durable.copy(room);
  let { length } = durable;
  for (const [index, change] of pending.entries()) {
    const fate = next();
    if (fate < 0.3) continue;
    const end = ends[index] ?? 0;
    if (change.kind === 'resize') {
      room.fill(0, end);
      length = end;
      continue;
    }
    if (change.kind === 'allocate') {
      length = Math.max(length, end);
      continue;
    }
    if (fate < 0.6) change.data.copy(room, change.offset);
    if (fate < 0.8) length = Math.max(length, end);
    if (fate < 0.65) continue;
    for (let from = change.offset; from < end; ) {
      const to = Math.min(end, (Math.floor(from / sectorBytes) + 1) * sectorBytes);
      if (next() < 0.5) {
        change.data.copy(room, from, from - change.offset, to - change.offset);
        length = Math.max(length, to);
      }
      from = to;
    }
  }
  return room.subarray(0, length);
}

const endOf = (change: Exclude<Change, { kind: 'write' }>) =>
  change.kind === 'resize' ? change.length : change.end;

/** Writes a tree into a folder that is there. */
export function writeTree(tree: Tree, path: string): void {
  for (const [name, node] of tree) {
    const below = join(path, name);
    if (Buffer.isBuffer(node)) {
      writeFileSync(below, node, { mode: 0o600 });
    } else {
      mkdirSync(below, { mode: 0o700 });
      writeTree(node, below);
    }
  }
}

export function readTree(path: string): Tree {
  return new Map(
    readdirSync(path, { withFileTypes: true }).map((entry) => {
      const below = join(path, entry.name);
      return [entry.name, entry.isDirectory() ? readTree(below) : readFileSync(below)];
    }),
  );
}

/** The same for trees with the same names and contents. */
export function digestOf(tree: Tree): string {
  const hash = createHash('sha256');
  for (const name of [...tree.keys()].sort()) {
    const node = tree.get(name) ?? Buffer.alloc(0);
    const digest = Buffer.isBuffer(node) ? createHash('sha256').update(node).digest('hex') : digestOf(node);
    hash.update(`${Buffer.isBuffer(node) ? 'file' : 'folder'} ${digest} ${name}\0`);
  }
  return hash.digest('hex');
}
