/**
 * Torpor itself for machines that have none: an archive of the engine with everything that it is linked with, and the
 * script that unpacks and starts it (packaging/portable). Made once for each state of the installation, and kept.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import { runCommand } from '../command.ts';
import { privateFolder, syncFile, syncFolder } from '../durable.ts';
import type { Installation } from '../installation.ts';

const names = { 'engine.tar.gz': 0o644, resume: 0o755 } as const;
/** Below the folder of the engine's programs. */
const programFolders = ['native', 'criu', 'plugins', 'renderer', 'portable'];
const packLimitMs = 10 * 60_000;

/** A file of the portable engine, open for whoever is to copy it. */
export interface PortableFile {
  file: FileHandle;
  name: keyof typeof names;
  mode: number;
}

/** The files of this installation's portable engine, which is made if need be. They are the caller's to close. @throws TorporError */
export async function openPortableEngine(
  installation: Pick<Installation, 'portablePack' | 'profiles'>,
  stateDir: string,
): Promise<PortableFile[]> {
  const folder = await findOrPack(installation, stateDir);
  const files: PortableFile[] = [];
  try {
    for (const [name, mode] of Object.entries(names))
      files.push({ file: await open(join(folder, name)), name: name as keyof typeof names, mode });
    return files;
  } catch (error) {
    for (const { file } of files) await file.close();
    throw error;
  }
}

async function findOrPack(
  { portablePack, profiles }: Pick<Installation, 'portablePack' | 'profiles'>,
  stateDir: string,
): Promise<string> {
  const kept = join(stateDir, 'portable');
  const node = await nodeProgram();
  const modules = dirname(dirname(createRequire(import.meta.url).resolve('koffi')));
  const programs = dirname(dirname(portablePack));
  const bundles = (await readdir(programs)).filter((name) => name.endsWith('.mjs')).sort();
  const fingerprint = await fingerprintOf([
    node,
    profiles.torpor,
    ...[...bundles, ...programFolders].map((name) => join(programs, name)),
  ]);
  const folder = join(kept, fingerprint);
  await privateFolder(kept);
  if ((await readdir(kept)).includes(fingerprint)) return folder;
  const stage = await mkdtemp(join(kept, 'new-'));
  try {
    const { status, stderr } = await runCommand(portablePack, [stage, node, profiles.torpor, modules], {
      timeoutMs: packLimitMs,
    });
    if (status !== 0)
      throw new TorporError(
        'failed',
        `Torpor itself could not be packed for the other machine: ${stderr.trim() || `status ${status}`}.`,
        'Mend that, or export without --with-engine. Nothing was written.',
      );
    for (const name of Object.keys(names)) await syncFile(join(stage, name));
    await rename(stage, folder).catch((error: NodeJS.ErrnoException) => {
      // Another export has made the same.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    await syncFolder(kept);
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
  for (const name of await readdir(kept))
    if (name !== fingerprint && !name.startsWith('new-'))
      await rm(join(kept, name), { recursive: true, force: true });
  return folder;
}

/** What runs this engine where that is Node; Electron, which runs it in packages, would bring a desktop's libraries along. */
async function nodeProgram(): Promise<string> {
  if (process.versions.electron === undefined) return process.execPath;
  const { stdout } = await runCommand('sh', ['-c', 'command -v node']);
  const path = stdout.trim();
  const version = path === '' ? '' : (await runCommand(path, ['--version'])).stdout;
  if (Number(/^v(\d+)/.exec(version)?.[1] ?? 0) >= 20) return path;
  throw new TorporError(
    'failed',
    'Torpor itself can go along only with a Node of version 20 or later, and this machine has none.',
    'Install it (`apt install nodejs`), or export without --with-engine. Nothing was written.',
  );
}

/** Of what is in these files and folders, by names, sizes and times. */
async function fingerprintOf(paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) {
    const isFolder = (await stat(path)).isDirectory();
    const entries = isFolder ? (await readdir(path, { recursive: true })).sort() : [basename(path)];
    for (const entry of entries) {
      const { size, mtimeMs } = await stat(isFolder ? join(path, entry) : path);
      hash.update(`${entry}\0${size}\0${mtimeMs}\0`);
    }
  }
  return hash.digest('hex').slice(0, 32);
}
