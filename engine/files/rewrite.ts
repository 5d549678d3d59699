/**
 * Changes to the files in a checkpoint's `files.img`, at the level of the wire: whatever is not changed stays as CRIU
 * has written it, byte for byte. Fields are those of images/regfile.proto of CRIU 4.2.
 */
import { fileEntry, rewriteImage } from '../../proto/images.ts';
import { decode, delimitedField, encode, message, optional, rawFields, WireError } from '../../proto/wire.ts';

const regOfFileEntry = 3;
const mountField = message('reg_file_entry', { mntId: optional(7, 'sint32') });
const field = { name: 6, mntId: 7, size: 8, mode: 10, buildId: 11, checksums: [12, 13, 14] } as const;

export interface RegFileChange {
  /** Leaves out what CRIU knows a file's contents by: size, build id, checksum. */
  forgetContents?: boolean;
  /** Leaves out its type and permissions, which CRIU compares too. */
  forgetMode?: boolean;
  /** Another file in its place: an absolute path, and the mount it lies on where that is another one. */
  movedTo?: { path: string; mountId?: number };
}

/**
 * `files.img` with these changes, by the ids of files.
 * @throws WireError where it is damaged, or an id is not that of a file in it.
 */
export function rewriteRegFiles(image: Buffer, changes: ReadonlyMap<number, RegFileChange>): Buffer {
  const left = new Set(changes.keys());
  const rewritten = rewriteImage('files', image, (entry) => {
    const id = decode(fileEntry, entry).reg?.id;
    const change = id === undefined ? undefined : changes.get(id);
    if (id === undefined || change === undefined) return entry;
    left.delete(id);
    return rewriteEntry(entry, change);
  });
  const [missing] = left;
  if (missing !== undefined) throw new WireError(`files image: no file ${missing} in it`);
  return rewritten;
}

function rewriteEntry(entry: Buffer, change: RegFileChange): Buffer {
  return Buffer.concat(
    Array.from(rawFields(entry, 'file_entry'), ({ number, content, whole }) =>
      number === regOfFileEntry ? delimitedField(regOfFileEntry, rewriteRegFile(content, change)) : whole,
    ),
  );
}

function rewriteRegFile(content: Buffer, { forgetContents, forgetMode, movedTo }: RegFileChange): Buffer {
  const dropped = new Set<number>();
  if (forgetContents)
    for (const number of [field.size, field.buildId, ...field.checksums]) dropped.add(number);
  if (forgetMode) dropped.add(field.mode);
  if (movedTo?.mountId !== undefined) dropped.add(field.mntId);
  const parts = Array.from(rawFields(content, 'reg_file_entry'))
    .filter(({ number }) => !dropped.has(number))
    .map(({ number, whole }) =>
      number === field.name && movedTo ? delimitedField(field.name, Buffer.from(movedTo.path)) : whole,
    );
  if (movedTo?.mountId !== undefined) parts.push(encode(mountField, { mntId: movedTo.mountId }));
  return Buffer.concat(parts);
}
