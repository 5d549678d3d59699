/** An exclusive lock on a folder that the kernel lets go of when its holder dies: flock(2) through koffi. */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';

const exclusive = 2;
const nonBlocking = 4;

export interface FolderLock extends Disposable {
  /** A child that inherits it holds the lock as well, for as long as it lives. */
  readonly fd: number;
}

/** Takes the lock without waiting. @returns what releases it, or undefined where another process holds it. */
export function lockFolder(path: string): FolderLock | undefined {
  const flock = koffi.load('libc.so.6').func('int flock(int, int)');
  const fd = openSync(path, 'r');
  if (flock(fd, exclusive | nonBlocking) !== 0) {
    closeSync(fd);
    return undefined;
  }
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}
