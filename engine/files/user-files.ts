/**
 * Files as the user of a capsule could see them, in the root folder the capsule will have. The engine looks as root, so
 * what the user may not enter or read is taken for what is not there, and nothing is opened that could block.
 */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink } from 'node:fs/promises';
import { join, posix } from 'node:path';
import type { User } from '../capsule/users.ts';

/** More than this the kernel does not follow either (path_resolution(7)). */
const maxLinks = 40;

export interface FoundFile {
  /** Without any link in it, below the capsule's root. */
  path: string;
  stat: Stats;
}

export class UserFiles {
  readonly #root: string;
  readonly #user: Pick<User, 'uid' | 'gid' | 'groups'>;

  constructor(root: string, user: Pick<User, 'uid' | 'gid' | 'groups'>) {
    this.#root = root;
    this.#user = user;
  }

  /** The file or folder of that absolute path, links followed; undefined where the user would not find it. */
  async find(path: string): Promise<FoundFile | undefined> {
    try {
      return await this.#find(path);
    } catch {
      return undefined;
    }
  }

  async #find(path: string): Promise<FoundFile | undefined> {
    const ahead = path.split('/');
    let resolved = '/';
    let found = await lstat(this.#root);
    let links = 0;
    for (let part = ahead.shift(); part !== undefined; part = ahead.shift()) {
      if (part === '' || part === '.') continue;
      if (part === '..') {
        resolved = posix.dirname(resolved);
        found = await lstat(join(this.#root, resolved));
        continue;
      }
      if (!found.isDirectory() || !this.#may(found, constants.X_OK)) return undefined;
      const next = posix.join(resolved, part);
      const at = await lstat(join(this.#root, next));
      if (!at.isSymbolicLink()) {
        resolved = next;
        found = at;
        continue;
      }
      if (++links > maxLinks) return undefined;
      const target = await readlink(join(this.#root, next));
      if (target.startsWith('/')) resolved = '/';
      found = await lstat(join(this.#root, resolved));
      ahead.unshift(...target.split('/'));
    }
    return { path: resolved, stat: found };
  }

  /** Whether the user could execute it. */
  isExecutable({ stat }: FoundFile): boolean {
    return stat.isFile() && (stat.mode & 0o111) !== 0 && this.#may(stat, constants.X_OK);
  }

  /** Opens a regular file that the user could read; undefined where there is none. */
  async open({ path }: Pick<FoundFile, 'path'>): Promise<FileHandle | undefined> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await open(join(this.#root, path), flags).catch(() => undefined);
    const stat = await file?.stat();
    if (stat?.isFile() && this.#may(stat, constants.R_OK)) return file;
    await file?.close();
    return undefined;
  }

  /** The first bytes of a file; none where it cannot be read. */
  async head(file: Pick<FoundFile, 'path'>, bytes: number): Promise<Buffer> {
    const opened = await this.open(file);
    if (opened === undefined) return Buffer.alloc(0);
    try {
      const { buffer, bytesRead } = await opened.read(Buffer.alloc(bytes), 0, bytes, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await opened.close();
    }
  }

  /** The names in a folder; none where the user could not list it. */
  async list(path: string): Promise<string[]> {
    const folder = await this.find(path);
    if (!folder?.stat.isDirectory() || !this.#may(folder.stat, constants.R_OK)) return [];
    return await readdir(join(this.#root, folder.path)).catch(() => []);
  }

  /** By the permission bits alone: where access control lists give more, less is found. */
  #may({ uid, gid, mode }: Stats, wanted: number): boolean {
    if (this.#user.uid === 0) return true;
    const isGroup = gid === this.#user.gid || this.#user.groups.includes(gid);
    const bits = uid === this.#user.uid ? mode >> 6 : isGroup ? mode >> 3 : mode;
    return (bits & wanted) === wanted;
  }
}
