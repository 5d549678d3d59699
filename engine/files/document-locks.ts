/**
 * The files by which applications tell each other that a document is in use, such as LibreOffice's `.~lock.NAME#`. They
 * stay beside the document while the application is suspended, so others are told. Who opens the document all the same,
 * or takes the file away, is noticed at the resume: the application itself never looks again.
 */
import { posix } from 'node:path';
import type { Finding } from '../../api/types.ts';
import type { DocumentLock } from '../../proto/manifest.ts';
import type { FileRecord } from './record.ts';
import type { UserFiles } from './user-files.ts';

/** Such a file holds a line; of a longer one, a name that only looks like it, nothing is kept. */
const largestLock = 4096;

/**
 * @param names of such files, with `{}` for the document's
 * @param seen by the application's user: what lies beside a document may be somebody else's doing
 */
export async function findDocumentLocks(
  files: readonly FileRecord[],
  names: readonly string[],
  seen: UserFiles,
): Promise<DocumentLock[]> {
  const documents = files.filter((file) => file.kind === 'file' && file.role === 'document');
  const possible = documents.flatMap(({ path }) =>
    names.map((name) => ({
      document: path,
      path: posix.join(posix.dirname(path), name.replaceAll('{}', posix.basename(path))),
    })),
  );
  const found = await Promise.all(
    possible.map(async (each) => {
      const contents = await read(each.path, seen);
      return contents === undefined ? undefined : { ...each, contents: contents.toString('base64') };
    }),
  );
  return found.filter((lock) => lock !== undefined);
}

async function read(path: string, files: UserFiles): Promise<Buffer | undefined> {
  const found = await files.find(path);
  if (!found?.stat.isFile() || found.stat.size > largestLock) return undefined;
  return files.head(found, largestLock);
}

/** What is told of a document when its application is suspended. */
export const lockKept = ({ document, path }: DocumentLock): Finding => ({
  tie: 'document-lock',
  verdict: 'handled',
  by: 'engine',
  what: `${document} stays marked as being in use, by ${posix.basename(path)} beside it.`,
  hint: 'Others who open it meanwhile are told so.',
});

/** What has become of the marks while the application was suspended. */
export async function compareDocumentLocks(
  locks: readonly DocumentLock[],
  seen: UserFiles,
): Promise<Finding[]> {
  const findings = await Promise.all(locks.map((lock) => compareLock(lock, seen)));
  return findings.filter((finding) => finding !== undefined);
}

async function compareLock(lock: DocumentLock, seen: UserFiles): Promise<Finding | undefined> {
  const now = await read(lock.path, seen);
  if (now?.equals(Buffer.from(lock.contents, 'base64'))) return undefined;
  const happened =
    now === undefined
      ? `The mark that ${lock.document} is in use was taken away while it was suspended`
      : `${lock.document} was opened elsewhere while it was suspended${ownerOf(now)}`;
  return {
    tie: 'document-lock',
    verdict: 'degraded',
    by: 'engine',
    what: `${happened}.`,
    hint: 'Somebody else may have changed it: save under another name, or reload it, before you overwrite it.',
  };
}

/** LibreOffice writes name, user, machine, time and profile, with commas between them. */
function ownerOf(contents: Buffer): string {
  const [name = '', user = '', machine = ''] = contents.toString('utf8').split(',');
  const who = [name.trim() || user, machine].filter((part) => /^[\p{L}\p{N} ._-]{1,60}$/u.test(part));
  return who.length === 2 ? `, by ${who[0]} on ${who[1]}` : '';
}
