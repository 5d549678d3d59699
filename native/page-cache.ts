/** What the kernel keeps of a file in memory, and of a pipe: posix_fadvise(2) and F_SETPIPE_SZ, through koffi. */
import koffi from 'koffi';

/** Linux, on every architecture Torpor runs on. */
const dontNeed = 4;
const setPipeSize = 1031;

/**
 * Has the kernel forget a file's contents, so that what is read next comes from the medium. What was not synced stays.
 * @returns whether it was willing; a file system without a medium is not.
 */
export function dropFromCache(fd: number): boolean {
  const advise = koffi.load('libc.so.6').func('int posix_fadvise(int, int64_t, int64_t, int)');
  return advise(fd, 0, 0, dontNeed) === 0;
}

/** Room for that many bytes in a pipe. Where it is none, or more than the user may have, it stays as it is. */
export function widenPipe(fd: number, bytes: number): void {
  koffi.load('libc.so.6').func('int fcntl(int, int, int)')(fd, setPipeSize, bytes);
}
