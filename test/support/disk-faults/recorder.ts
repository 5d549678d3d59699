/**
 * Writes down every operation that changes what is below a folder, in order and across processes, and has a chosen one
 * fail: the other end of preload.c, which whatever is to be recorded is started with.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';

/** One that has changed something, or was made to fail with an error. */
export type Operation = { path: string; failed: boolean } & (
  | { kind: 'make-file' | 'make-folder'; inode: bigint }
  | { kind: 'write'; inode: bigint; offset: number; data: Buffer }
  | { kind: 'resize'; inode: bigint; length: number }
  /** Up to `end` there is something, be it zeros. */
  | { kind: 'allocate'; inode: bigint; end: number }
  | { kind: 'rename' | 'link'; to: string }
  | { kind: 'unlink' | 'remove-folder' }
  | { kind: 'sync'; inode: bigint }
  | { kind: 'sync-all' }
);

/** What befalls the operation of that number, the first one being 1. */
export type Fault =
  | { kind: 'error'; at: number; code: 'EIO' | 'ENOSPC' }
  /** A write does half of what it was asked to. */
  | { kind: 'short'; at: number }
  /** It does not happen, and its process is killed. */
  | { kind: 'kill'; at: number }
  /** From there on whatever needs room has none. */
  | { kind: 'full'; at: number };

const root = new URL('../../..', import.meta.url).pathname;
const output = join(root, 'build/native');
const library = join(output, 'test/libdisk-faults.so');

const rootBytes = 4096;
const headerBytes = 8192;
const recordBytes = 56;
/** Sparse: only what is used is there. */
const controlBytes = 1024 * 1024 * 1024;
const at = { root: 0, fault: 4096, count: 4112, used: 4120, struck: 4128 };
const faults = { error: 1, short: 2, kill: 3, full: 4 };

export class Recorder implements Disposable {
  readonly #folder: string;
  readonly #control: number;
  /** What a process to be recorded is started with. */
  readonly env: Record<string, string>;

  /** `parent` is on the file system of what is to be recorded. */
  constructor(parent: string) {
    execFileSync('make', ['-s', '-C', join(root, 'native'), 'testing', `OUT=${output}`]);
    this.#folder = mkdtempSync(join(parent, 'torpor-recorder-'));
    const control = join(this.#folder, 'control');
    this.#control = openSync(control, 'w+', 0o600);
    ftruncateSync(this.#control, controlBytes);
    this.env = { LD_PRELOAD: library, TORPOR_DISK_FAULTS: control, UV_USE_IO_URING: '0' };
  }

  /** Begins anew with this folder; nobody may be writing. Without one nothing is recorded. */
  watch(folder: string, fault?: Fault): void {
    const header = Buffer.alloc(at.struck + 8);
    header.write(folder, 0, rootBytes - 1, 'utf8');
    if (fault !== undefined) {
      header.writeUInt32LE(faults[fault.kind], at.fault);
      header.writeInt32LE(fault.kind === 'error' ? constants.errno[fault.code] : 0, at.fault + 4);
      header.writeBigUInt64LE(BigInt(fault.at), at.fault + 8);
    }
    writeSync(this.#control, header, 0, header.length, 0);
  }

  /** Nothing fails any more; the recording goes on. */
  mend(): void {
    writeSync(this.#control, Buffer.alloc(4), 0, 4, at.fault);
  }

  stop(): void {
    this.watch('');
  }

  #number(offset: number): number {
    const bytes = Buffer.alloc(8);
    readSync(this.#control, bytes, 0, 8, offset);
    return Number(bytes.readBigUInt64LE());
  }

  /** How many operations there have been. */
  get count(): number {
    return this.#number(at.count);
  }

  /** How many operations a fault has befallen. */
  get struck(): number {
    return this.#number(at.struck);
  }

  operations(): Operation[] {
    const journal = Buffer.alloc(this.#number(at.used));
    readSync(this.#control, journal, 0, journal.length, headerBytes);
    const operations: Operation[] = [];
    for (let offset = 0; offset < journal.length; ) {
      const record = journal.subarray(offset);
      const lengths = [record.readUInt32LE(32), record.readUInt32LE(36), Number(record.readBigUInt64LE(40))];
      const [pathBytes = 0, secondBytes = 0, dataBytes = 0] = lengths;
      const second = recordBytes + pathBytes;
      const data = second + secondBytes;
      operations.push(
        parseRecord(
          record,
          record.toString('utf8', recordBytes, second),
          record.toString('utf8', second, data),
          record.subarray(data, data + dataBytes),
        ),
      );
      offset += Math.ceil((data + dataBytes) / 8) * 8;
    }
    return operations;
  }

  [Symbol.dispose](): void {
    closeSync(this.#control);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function parseRecord(record: Buffer, path: string, to: string, data: Buffer): Operation {
  const inode = record.readBigUInt64LE(8);
  const offset = Number(record.readBigUInt64LE(16));
  const common = { path, failed: record.readInt32LE(4) !== 0 };
  const kind = record.readUInt32LE(0);
  switch (kind) {
    case 1:
      return { ...common, kind: 'make-file', inode };
    case 2:
      return { ...common, kind: 'make-folder', inode };
    case 3:
      return { ...common, kind: 'write', inode, offset, data };
    case 4:
      return { ...common, kind: 'resize', inode, length: offset };
    case 5: {
      const length = Number(record.readBigUInt64LE(24));
      return { ...common, kind: 'allocate', inode, end: length === 0 ? 0 : offset + length };
    }
    case 6:
      return { ...common, kind: 'rename', to };
    case 7:
      return { ...common, kind: 'link', to };
    case 8:
      return { ...common, kind: 'unlink' };
    case 9:
      return { ...common, kind: 'remove-folder' };
    case 10:
      return { ...common, kind: 'sync', inode };
    case 11:
      return { ...common, kind: 'sync-all' };
    default:
      throw new Error(`the journal has an operation of the unknown kind ${kind}`);
  }
}
