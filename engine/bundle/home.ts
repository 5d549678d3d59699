/**
 * Documents that were changed on another machine, come home. Each is written by the user's own rights: in place of the one
 * at home where nobody has changed that meanwhile, beside it otherwise.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat, open } from 'node:fs/promises';
import { join, posix } from 'node:path';
import type { ImportResult } from '../../api/types.ts';
import type { User } from '../capsule/users.ts';
import { identityOptions, lastWordsOf } from '../command.ts';
import type { FileHashes } from '../files/hashes.ts';
import { hostPath } from '../files/paths.ts';
import type { Bundled, LayerFile } from './contents.ts';

export type HomeDocument = ImportResult['documents'][number];

/** Writes beside, synced, and renames: nobody finds half a document. */
const writeScript = `set -e
umask 077
mkdir -p -- "$(dirname -- "$1")"
new="$1.torpor-new"
trap 'rm -f -- "$new"' EXIT
cat > "$new"
chmod "$2" -- "$new"
sync -- "$new"
mv -f -T -- "$new" "$1"
trap - EXIT`;

/**
 * @param files those that were changed on the other machine, which lie in `folder` at their paths.
 */
export async function bringHome(
  { origin, base, manifest }: Pick<Bundled, 'origin' | 'base' | 'manifest'>,
  files: readonly LayerFile[],
  folder: string,
  user: User,
  hashes: FileHashes,
): Promise<HomeDocument[]> {
  const before = new Map(base.map(({ path, sha256 }) => [path, sha256]));
  const documents: HomeDocument[] = [];
  for (const file of files) {
    const { path, sha256 } = file;
    const home = (await hostPath({ root: origin.root }, Buffer.from(path))).toString();
    const now = await hashOf(home, hashes);
    if (now === sha256) documents.push({ path, outcome: 'same' });
    else {
      const isFree = now === 'nothing' || now === before.get(path);
      const to = isFree ? home : besideOf(home, manifest.takenAt);
      const isWritten = await writeAs(user, join(folder, path), to, file.mode);
      const place = to === home ? {} : { to };
      documents.push({ path, outcome: isWritten ? (isFree ? 'written' : 'beside') : 'kept', ...place });
    }
  }
  return documents;
}

async function hashOf(path: string, hashes: FileHashes): Promise<string> {
  const there = await lstat(path, { bigint: true }).catch(() => undefined);
  if (there === undefined) return 'nothing';
  return (await hashes.hash(path, there).catch(() => undefined)) ?? 'something else';
}

/** A name that says where it comes from: `letter (from the bundle of 2026-11-23).odt`. */
function besideOf(path: string, takenAt: string): string {
  const { dir, name, ext } = posix.parse(path);
  return join(dir, `${name} (from the bundle of ${takenAt.slice(0, 10)})${ext}`);
}

async function writeAs(user: User, from: string, to: string, mode: number): Promise<boolean> {
  const file = await open(from, 'r');
  try {
    const words = [...identityOptions(user), '--', 'sh', '-c', writeScript, 'sh', to, mode.toString(8)];
    const child = spawn('setpriv', words, { stdio: [file.fd, 'ignore', 'pipe'], cwd: '/' });
    lastWordsOf(child);
    const [status] = (await once(child, 'close')) as [number | null];
    return status === 0;
  } finally {
    await file.close();
  }
}
