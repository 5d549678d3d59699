/**
 * Files of packages that suspended applications have in memory and that an upgrade has replaced: `kept-files/` of the
 * state folder has each under the SHA-256 of its contents. `torpor-keep` (native/keep.c) puts them there just before
 * dpkg replaces anything; the engine says what is needed, gives them to applications that are resumed, and removes what
 * nobody needs any more. A name is never trusted: who is given a file has had its hash looked at.
 *
 * They are used where they lie. Copies in the run folder would take memory, and could not be executed where /run is mounted
 * so that nothing in it can be.
 */
import { type BigIntStats, constants } from 'node:fs';
import { chmod, copyFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import { lockFolder } from '../../native/folder-lock.ts';
import { privateFolder, syncFile, syncFolder } from '../durable.ts';
import type { Logger } from '../log.ts';
import { mountOf, readMounts } from '../mounts.ts';
import { FileHashes, openRegular } from './hashes.ts';
import { keptHash } from './paths.ts';
import { executableOf, mappedFiles, openFiles } from './processes.ts';
import { fileRecordSchema, packaged, type RecordedFile } from './record.ts';

const folderName = 'kept-files';
/** torpor-keep gives up after half of that. */
const lockLimitMs = 60_000;
const hashName = /^[0-9a-f]{64}$/;
/** Set-id and sticky bits. */
const specialBits = 0o7000n;
const othersWrite = 0o022n;

/**
 * What a snapshot needs of the machine's packages, as `torpor-keep` reads it: lines of SHA-256, size, time of change in
 * nanoseconds, path. Pure.
 * @param surroundings records of files.
 */
export function systemFileList(surroundings: readonly unknown[]): string {
  const lines = surroundings.flatMap((each) => {
    const { data: record } = fileRecordSchema.safeParse(each);
    if (record?.kind !== 'file') return [];
    const { sha256, size, mtimeNs, path } = record;
    // Whatever it is to the application by now, there is no other one.
    const kept = keptHash(path);
    if (kept !== undefined) return [`${kept} ${size} ${mtimeNs} ${path}\n`];
    return mayBeKept(record) && packaged.test(path) ? [`${sha256} ${size} ${mtimeNs} ${path}\n`] : [];
  });
  return lines.join('');
}

/** Whether a kept file may take its place: one that is written to would take the writes, unseen. Pure. */
function mayBeKept({ role, writable, sha256, kept, path, bytes }: RecordedFile): boolean {
  if (role === 'document' || writable || sha256 === undefined || kept !== undefined) return false;
  return bytes === undefined && !path.includes('\n') && posix.normalize(path) === path;
}

/** The hashes in such a list. Pure. */
export const hashesIn = (list: string): string[] =>
  list.split('\n').flatMap((line) => {
    const [sha256 = ''] = line.split(' ');
    return hashName.test(sha256) ? [sha256] : [];
  });

export interface Needs {
  /** Hashes of what snapshots need; undefined where that is not known of all of them. */
  ofSnapshots: () => Promise<ReadonlySet<string> | undefined>;
  /** Pids of all that runs in workloads. */
  running: () => Promise<readonly number[]>;
}

export class KeptFiles {
  readonly #folder: string;
  readonly #needs: Needs;
  readonly #log: Logger;
  /** What is done one after the other. */
  #working: Promise<void> = Promise.resolve();

  private constructor(folder: string, needs: Needs, log: Logger) {
    this.#folder = folder;
    this.#needs = needs;
    this.#log = log;
  }

  static async open(stateDir: string, needs: Needs, log: Logger): Promise<KeptFiles> {
    const folder = join(stateDir, folderName);
    await privateFolder(folder);
    await chmod(folder, 0o700);
    return new KeptFiles(folder, needs, log);
  }

  /**
   * Where the file lies that this record is of. Undefined where it was not kept, is not whole, or would not do: as a
   * program on a file system from which nothing may be executed, or with rights of its own.
   */
  async pathFor(record: RecordedFile): Promise<string | undefined> {
    const { sha256, role } = record;
    if (sha256 === undefined || !mayBeKept(record)) return undefined;
    const path = join(this.#folder, sha256);
    const opened = await openRegular(path).catch(() => undefined);
    if (opened === undefined) return undefined;
    await opened.file.close();
    const { stat } = opened;
    const found = await new FileHashes().hash(path, stat).catch(() => undefined);
    if (found !== sha256 || (stat.mode & (specialBits | othersWrite)) !== 0n || stat.uid !== 0n) {
      this.#log.warn(
        { path, found, mode: Number(stat.mode), uid: Number(stat.uid) },
        'a kept file is not used',
      );
      return undefined;
    }
    if (role !== 'mapped-data' && (await isNoExec(this.#folder))) {
      this.#log.warn(
        { path },
        'a kept program is not used, since nothing may be executed in the state folder',
      );
      return undefined;
    }
    return path;
  }

  /**
   * Makes copies of those of which the processes still have the machine's own, that has no name any more but the one here:
   * CRIU saves a file without a name with the rest, but to one with a name it gives another, in the folder of the system's
   * where it was. To be called before they are suspended.
   */
  separate(pids: readonly number[]): Promise<void> {
    const separated = this.#working.then(() => this.#separate(pids));
    this.#working = separated.catch(() => {});
    return separated;
  }

  async #separate(pids: readonly number[]): Promise<void> {
    const inUse = await this.#ofThese(await namelessFilesOf(pids));
    if (inUse.length === 0) return;
    using _lock = await this.#locked();
    for (const path of inUse) {
      const made = `${path}.new`;
      // One that dpkg's hook has left may be a name of the machine's own file.
      await rm(made, { force: true });
      await copyFile(path, made, constants.COPYFILE_EXCL);
      await syncFile(made);
      await rename(made, path);
      this.#log.info({ path }, 'a kept file was copied');
    }
    await syncFolder(this.#folder);
  }

  /** Paths of the kept files that have these keys. */
  async #ofThese(keys: ReadonlySet<string>): Promise<string[]> {
    if (keys.size === 0) return [];
    const names = (await readdir(this.#folder)).filter((name) => hashName.test(name));
    const found = await Promise.all(
      names.map(async (name) => {
        const path = join(this.#folder, name);
        const stats = await stat(path, { bigint: true }).catch(() => undefined);
        return stats !== undefined && keys.has(fileKey(stats)) ? path : [];
      }),
    );
    return found.flat();
  }

  /** As soon as dpkg's hook is done, which may take it a while. */
  async #locked(): Promise<Disposable> {
    for (const end = Date.now() + lockLimitMs; ; await sleep(20)) {
      const lock = lockFolder(this.#folder);
      if (lock !== undefined) return lock;
      if (Date.now() > end)
        throw new TorporError(
          'failed',
          'Files are just being kept for the upgrade of a package.',
          'Try again in a moment.',
        );
    }
  }

  /** Removes what no snapshot needs and nothing that runs has in memory. Never throws; what is locked stays till next time. */
  sweep(): Promise<void> {
    this.#working = this.#working.then(async () => {
      try {
        using lock = lockFolder(this.#folder);
        if (lock !== undefined) await this.#sweep(this.#needs);
      } catch (error) {
        this.#log.warn({ err: error }, 'kept files were not swept');
      }
    });
    return this.#working;
  }

  async #sweep({ ofSnapshots, running }: Needs): Promise<void> {
    const names = await readdir(this.#folder);
    if (names.length === 0) return;
    // What is suspended or resumed meanwhile is seen as the one or as the other: it runs until its snapshot is there,
    // and a snapshot that it was resumed from goes only when it runs.
    const before = await keptFilesIn(await running());
    const needed = await ofSnapshots();
    if (needed === undefined) return;
    const after = await keptFilesIn(await running());
    const unneeded = names.filter((name) => !(needed.has(name) || before.has(name) || after.has(name)));
    for (const name of unneeded) await rm(join(this.#folder, name), { force: true });
    if (unneeded.length > 0) this.#log.info({ removed: unneeded.length }, 'kept files swept');
  }
}

async function isNoExec(folder: string): Promise<boolean> {
  return mountOf(await readMounts(), folder)?.options.includes('noexec') === true;
}

/** Two with the same are the same file. */
const fileKey = ({ dev, ino }: BigIntStats) => `${dev} ${ino}`;

/** Keys of the files that these processes have without a name. */
async function namelessFilesOf(pids: readonly number[]): Promise<Set<string>> {
  const [mapped, programs, open] = await Promise.all([
    mappedFiles(pids),
    Promise.all(pids.map(executableOf)),
    Promise.all(pids.map(openFiles)),
  ]);
  const all = [...mapped.values(), ...programs, ...open.flatMap(({ files }) => files)];
  return new Set(
    all.flatMap((file) => (file?.path.toString('latin1').endsWith(' (deleted)') ? fileKey(file.stat) : [])),
  );
}

/** Hashes of the kept files that these processes have. */
async function keptFilesIn(pids: readonly number[]): Promise<Set<string>> {
  const mapped = await mappedFiles(pids);
  const programs = await Promise.all(pids.map(executableOf));
  const open = (await Promise.all(pids.map(openFiles))).flatMap(({ files }) => files);
  const paths = [...mapped.values(), ...programs, ...open].map((file) => file?.path.toString('latin1') ?? '');
  return new Set(paths.flatMap((path) => keptHash(path) ?? []));
}
