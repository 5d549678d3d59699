/**
 * For the length of a restore CRIU puts files that were deleted while open back into their folder, as NAME.cr.N.ghost
 * with N counted from 1 in each checkpoint. Two capsules of a user easily have such a file of the same name, as
 * openbox's log is, and were they restored at the same time each would find the other's in its way. So every snapshot
 * gets numbers of its own before CRIU reads its images.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { remapFpathEntry, rewriteImage } from '../../proto/images.ts';
import { decode, encode } from '../../proto/wire.ts';

const remapImage = 'remap-fpath.img';
const ghostKind = 1;
/** CRIU keeps the highest bit to itself. */
const idBits = 31;
const countBits = 10;

/** The number of a ghost while this snapshot is restored; as hexadecimal digits it is in the file's name. */
export function ghostIdIn(snapshot: string, id: number): number {
  // More in one checkpoint than fit keep their numbers, rather than two becoming the same.
  if (id >= 1 << countBits) return id;
  const own = Number.parseInt(snapshot.slice(0, 8), 16) % 2 ** (idBits - countBits);
  return own * 2 ** countBits + id;
}

export interface OwnGhosts {
  /** Images to be put in the place of others, by name. */
  rewritten: Map<string, Buffer>;
  /** Images under another name: the new one, and the old one. */
  renamed: Map<string, string>;
}

/** What CRIU must read instead. @throws WireError where the image is damaged. */
export async function ownGhosts(imagesDir: string, snapshot: string): Promise<OwnGhosts> {
  const image = await readFile(join(imagesDir, remapImage)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (image === undefined) return { rewritten: new Map(), renamed: new Map() };
  return renumberGhosts(image, snapshot);
}

/** Pure part of {@link ownGhosts}. */
export function renumberGhosts(image: Buffer, snapshot: string): OwnGhosts {
  const renamed = new Map<string, string>();
  const renumbered = rewriteImage('remapFpath', image, (bytes) => {
    const entry = decode(remapFpathEntry, bytes);
    const remapId = ghostIdIn(snapshot, entry.remapId);
    if (entry.kind !== ghostKind || remapId === entry.remapId) return bytes;
    renamed.set(imageOf(remapId), imageOf(entry.remapId));
    return encode(remapFpathEntry, { ...entry, remapId });
  });
  return { rewritten: new Map(renamed.size === 0 ? [] : [[remapImage, renumbered]]), renamed };
}

const imageOf = (id: number) => `ghost-file-${id.toString(16)}.img`;
