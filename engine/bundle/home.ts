/**
 * Documents that were changed on another machine, come home; and those that were changed in a layer come out of it. Each is
 * written by the user's own rights: in place of the one that is there where nobody has changed that meanwhile, beside it
 * otherwise.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { lstat, open } from 'node:fs/promises';
import { join, posix } from 'node:path';
import type { ImportResult } from '../../api/types.ts';
import { findUser, type User } from '../capsule/users.ts';
import { identityOptions, lastWordsOf, runCommand } from '../command.ts';
import type { FileHashes } from '../files/hashes.ts';
import { hostPath } from '../files/paths.ts';
import type { Base, LayerFile } from './contents.ts';
import type { Layers, Outlet } from './layers.ts';

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

const findLimitMs = 10 * 60_000;

/** Where documents go to. */
export interface Home {
  /** What their paths are beneath. */
  root: string;
  /** As they were there when they were taken away. */
  base: Base;
  /** Of what is brought, in ISO 8601. */
  date: string;
}

/**
 * @param files those that were changed, which lie in `folder` at their paths.
 */
export async function bringHome(
  { root, base, date }: Home,
  files: readonly Pick<LayerFile, 'path' | 'sha256' | 'mode'>[],
  folder: string,
  user: User,
  hashes: FileHashes,
): Promise<HomeDocument[]> {
  const before = new Map(base.map(({ path, sha256 }) => [path, sha256]));
  const documents: HomeDocument[] = [];
  for (const file of files) {
    const { path, sha256 } = file;
    const home = (await hostPath({ root }, Buffer.from(path))).toString();
    const now = await hashOf(home, hashes);
    if (now === sha256) documents.push({ path, outcome: 'same' });
    else {
      const isFree = now === 'nothing' || now === before.get(path);
      const to = isFree ? home : besideOf(home, date);
      const from = (await hostPath({ root: folder }, Buffer.from(path))).toString();
      const isWritten = await writeAs(user, from, to, file.mode);
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
function besideOf(path: string, date: string): string {
  const { dir, name, ext } = posix.parse(path);
  return join(dir, `${name} (from the bundle of ${date.slice(0, 10)})${ext}`);
}

async function writeAs(user: User, from: string, to: string, mode: number): Promise<boolean> {
  const file = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW);
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

/** Not worth keeping without what made them. */
const passing = /(^|\/)\.(cache|torpor-new)(\/|$)/;

/**
 * Brings what the user has changed in a layer out of it before the layer goes: to its place where that is at home here, else
 * to a folder `Torpor/NAME` of the user's.
 * @returns what became of each. @throws Error where the layer or its user cannot be made out.
 */
export async function bringOut(layers: Layers, id: string, hashes: FileHashes): Promise<HomeDocument[]> {
  const outlet = await layers.outletOf(id);
  if (outlet === undefined) return [];
  const folder = layers.changesOf(id);
  const changed = await changedFiles(folder, outlet, hashes);
  if (changed.length === 0) return [];
  const user = await findUser(outlet.uid);
  const home = {
    root: outlet.homeRoot ?? join(user.home, 'Torpor', outlet.name.replaceAll('/', '_')),
    base: outlet.homeRoot === undefined ? [] : outlet.safe,
    date: new Date().toISOString(),
  };
  const documents = await bringHome(home, changed, folder, user, hashes);
  const brought = new Set(documents.filter(({ outcome }) => outcome !== 'kept').map(({ path }) => path));
  const safe = new Map(outlet.safe.map(({ path, sha256 }) => [path, sha256]));
  for (const { path, sha256 } of changed) if (brought.has(path)) safe.set(path, sha256);
  await layers.writeOutlet(id, { ...outlet, safe: [...safe].map(([path, sha256]) => ({ path, sha256 })) });
  return documents;
}

/** The user's files in it that are nowhere else as they are. */
async function changedFiles(
  folder: string,
  { uid, safe }: Outlet,
  hashes: FileHashes,
): Promise<Pick<LayerFile, 'path' | 'sha256' | 'mode'>[]> {
  const find = ['-xdev', '-type', 'f', '-uid', String(uid), '-printf', '%P\\0'];
  const { stdout } = await runCommand('find', [folder, ...find], { timeoutMs: findLimitMs });
  const known = new Map(safe.map(({ path, sha256 }) => [path, sha256]));
  const changed: Pick<LayerFile, 'path' | 'sha256' | 'mode'>[] = [];
  for (const name of stdout.split('\0').slice(0, -1)) {
    if (passing.test(name)) continue;
    const path = posix.join('/', name);
    const there = await lstat(join(folder, name), { bigint: true });
    const sha256 = await hashes.hash(join(folder, name), there);
    if (known.get(path) !== sha256) changed.push({ path, sha256, mode: Number(there.mode) & 0o777 });
  }
  return changed;
}
