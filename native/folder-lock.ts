/** An exclusive lock on a folder that the kernel lets go of when its holder dies: flock(2) through koffi. */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';

const exclusive = 2;
const nonBlocking = 4;

/** Takes the lock without waiting. @returns what releases it, or undefined where another process holds it. */
export function lockFolder(path: string): Disposable | undefined {
  const flock = koffi.load('libc.so.6').func('int flock(int, int)');
  const fd = openSync(path, 'r');
  if (flock(fd, exclusive | nonBlocking) !== 0) {
    closeSync(fd);
    return undefined;
  }
  return { [Symbol.dispose]: () => closeSync(fd) };
}
