/**
 * Puts right how CRIU noted that mapped files were open. CRIU takes it from the mode of /proc/PID/map_files/RANGE, and
 * Linux keeps the mode of such an entry from when it was first looked up, also after another file was mapped at the
 * very same place (map_files_d_revalidate of fs/proc/base.c brings only the owner up to date). Whatever looked before,
 * be it an inspection, an earlier checkpoint or lsof, can so make a writable mapping seem to be one of a file opened
 * for reading, which cannot be mapped again (EACCES). Programs that map and unmap shared memory all the time, as
 * Firefox and Thunderbird do, meet this now and then.
 *
 * And marks address space that is only reserved, as what is made with V8 has gigabytes of: in a lazy resume CRIU maps all
 * memory writable for a moment, which Linux refuses (ENOMEM) for more than the machine has, unless it is so marked.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mmEntry, rewriteImage } from '../../proto/images.ts';
import {
  decode,
  delimitedField,
  encode,
  message,
  optional,
  type RawField,
  rawFields,
  required,
} from '../../proto/wire.ts';

const mmEntryVmas = 14;
const vmaFlags = 6;
const vmaFdflags = 10;
const mapFlags = message('vma_entry', { flags: required(vmaFlags, 'uint32') });
const openFlags = message('vma_entry', { fdflags: required(vmaFdflags, 'uint32') });
const vmaEntry = message('vma_entry', {
  start: required(1, 'uint64'),
  end: required(2, 'uint64'),
  prot: required(5, 'uint32'),
  flags: required(vmaFlags, 'uint32'),
  fdflags: optional(vmaFdflags, 'uint32'),
});

/** mman.h and fcntl.h of Linux, the same on all architectures that CRIU knows. */
const protWrite = 2;
const mapTypes = 0xf;
const mapPrivate = 2;
const mapAnonymous = 0x20;
const mapNoReserve = 0x4000;
/** Less than that any machine has, in bytes. */
const largeReserve = 256n * 1024n * 1024n;
const mapShared = new Set([1, 3]);
const accessMode = 3;
const readOnly = 0;
const readWrite = 2;

/** A shared mapping that can be written to is one of a file that is open for both: mmap(2) takes no other. */
function mendVma({ content, whole }: RawField): Buffer {
  const { start, end, prot, flags, fdflags } = decode(vmaEntry, content);
  const isReserved =
    (flags & (mapTypes | mapAnonymous | mapNoReserve)) === (mapPrivate | mapAnonymous) &&
    (prot & protWrite) === 0 &&
    end - start >= largeReserve;
  if (isReserved) return withField(content, vmaFlags, encode(mapFlags, { flags: flags | mapNoReserve }));
  const isSharedWritable = mapShared.has(flags & mapTypes) && (prot & protWrite) !== 0;
  if (!isSharedWritable || fdflags === undefined || (fdflags & accessMode) !== readOnly) return whole;
  return withField(content, vmaFdflags, encode(openFlags, { fdflags: fdflags | readWrite }));
}

/** A vma with one of its fields as it is right, every other byte as it was. */
function withField(vma: Buffer, number: number, right: Buffer): Buffer {
  const fields = Array.from(rawFields(vma, vmaEntry.name), (field) =>
    field.number === number ? right : field.whole,
  );
  return delimitedField(mmEntryVmas, Buffer.concat(fields));
}

/** An mm image with the flags put right, every other byte as it was, or undefined where nothing is wrong. */
export function mendMappingFlags(mmImage: Buffer): Buffer | undefined {
  const mended = rewriteImage('mm', mmImage, (bytes) =>
    Buffer.concat(
      Array.from(rawFields(bytes, mmEntry.name), (field) =>
        field.number === mmEntryVmas ? mendVma(field) : field.whole,
      ),
    ),
  );
  return mended.equals(mmImage) ? undefined : mended;
}

/** The mm images of a folder that need it, mended, by name. */
export async function mendedMappings(imagesDir: string): Promise<Map<string, Buffer>> {
  const mended = new Map<string, Buffer>();
  for (const name of await readdir(imagesDir)) {
    if (!/^mm-\d+\.img$/.test(name)) continue;
    const image = mendMappingFlags(await readFile(join(imagesDir, name)));
    if (image !== undefined) mended.set(name, image);
  }
  return mended;
}
