/**
 * Puts right how CRIU noted that mapped files were open. CRIU takes it from the mode of /proc/PID/map_files/RANGE, and
 * Linux keeps the mode of such an entry from when it was first looked up, also after another file was mapped at the
 * very same place (map_files_d_revalidate of fs/proc/base.c brings only the owner up to date). Whatever looked before,
 * be it an inspection, an earlier checkpoint or lsof, can so make a writable mapping seem to be one of a file opened
 * for reading, which cannot be mapped again (EACCES). Programs that map and unmap shared memory all the time, as
 * Firefox and Thunderbird do, meet this now and then.
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
const vmaFdflags = 10;
const openFlags = message('vma_entry', { fdflags: required(vmaFdflags, 'uint32') });
const vmaEntry = message('vma_entry', {
  prot: required(5, 'uint32'),
  flags: required(6, 'uint32'),
  fdflags: optional(vmaFdflags, 'uint32'),
});

/** mman.h and fcntl.h of Linux, the same on all architectures that CRIU knows. */
const protWrite = 2;
const mapTypes = 0xf;
const mapShared = new Set([1, 3]);
const accessMode = 3;
const readOnly = 0;
const readWrite = 2;

/** A shared mapping that can be written to is one of a file that is open for both: mmap(2) takes no other. */
function mendVma({ content, whole }: RawField): Buffer {
  const { prot, flags, fdflags } = decode(vmaEntry, content);
  const isSharedWritable = mapShared.has(flags & mapTypes) && (prot & protWrite) !== 0;
  if (!isSharedWritable || fdflags === undefined || (fdflags & accessMode) !== readOnly) return whole;
  const right = encode(openFlags, { fdflags: fdflags | readWrite });
  const fields = Array.from(rawFields(content, vmaEntry.name), (field) =>
    field.number === vmaFdflags ? right : field.whole,
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
