/** What can be told of a program by its ELF headers (elf(5)): the libraries it names, and whether it is an AppImage. */
import type { FileHandle } from 'node:fs/promises';

export interface Linked {
  /** Sonames, as DT_NEEDED has them. */
  needed: string[];
  /** Folders to look in first, as DT_RUNPATH or DT_RPATH has them. */
  runPath: string[];
}

const programHeader = { load: 1, dynamic: 2 } as const;
const tag = { needed: 1n, strings: 5n, stringsSize: 10n, rpath: 15n, runPath: 29n } as const;
/** Real ones have some hundreds of entries and kilobytes of strings; a made-up one must not cost memory. */
const mostHeaders = 64;
const largestSection = 4 * 1024 * 1024;

/** "ELF", 64 bits, little-endian: what Torpor runs on. */
export const isElf = (head: Buffer) => head.readUInt32BE(0) === 0x7f454c46 && head[4] === 2 && head[5] === 1;

/** AppImages carry their mark and version in the padding of the ELF identification. */
export const isAppImage = (head: Buffer) =>
  head.length > 11 && head.toString('latin1', 8, 10) === 'AI' && (head[10] === 1 || head[10] === 2);

/** The libraries that a program or library names; undefined where it is none that is understood. */
export async function readLinked(file: FileHandle): Promise<Linked | undefined> {
  const head = await readAt(file, 0, 64);
  if (head.length < 64 || !isElf(head)) return undefined;
  const count = head.readUInt16LE(56);
  const size = head.readUInt16LE(54);
  if (count > mostHeaders || size < 56) return undefined;
  const table = await readAt(file, Number(head.readBigUInt64LE(32)), count * size);
  const segments = Array.from({ length: Math.floor(table.length / size) }, (_, index) => {
    const at = index * size;
    return {
      type: table.readUInt32LE(at),
      offset: table.readBigUInt64LE(at + 8),
      address: table.readBigUInt64LE(at + 16),
      bytes: table.readBigUInt64LE(at + 32),
    };
  });
  const dynamic = segments.find(({ type }) => type === programHeader.dynamic);
  if (dynamic === undefined) return { needed: [], runPath: [] };
  const entries = await readAt(file, Number(dynamic.offset), Number(dynamic.bytes));
  const values = Array.from({ length: Math.floor(entries.length / 16) }, (_, index) => ({
    tag: entries.readBigUInt64LE(index * 16),
    value: entries.readBigUInt64LE(index * 16 + 8),
  }));
  const address = values.find((each) => each.tag === tag.strings)?.value;
  const length = values.find((each) => each.tag === tag.stringsSize)?.value;
  const holder = segments.find(
    (each) =>
      each.type === programHeader.load &&
      address !== undefined &&
      address >= each.address &&
      address < each.address + each.bytes,
  );
  if (address === undefined || length === undefined || holder === undefined) return undefined;
  const strings = await readAt(file, Number(address - holder.address + holder.offset), Number(length));
  const textAt = (offset: bigint) => {
    const start = Number(offset);
    const end = strings.indexOf(0, start);
    return strings.toString('latin1', start, end < 0 ? strings.length : end);
  };
  const textsOf = (wanted: bigint) =>
    values.filter((each) => each.tag === wanted && each.value < length).map(({ value }) => textAt(value));
  const paths = textsOf(tag.runPath)[0] ?? textsOf(tag.rpath)[0] ?? '';
  return { needed: textsOf(tag.needed), runPath: paths.split(':').filter(Boolean) };
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  if (!Number.isSafeInteger(position) || length > largestSection) return Buffer.alloc(0);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
