/** The size and settings of a terminal (tty_ioctl(4)), of which Node tells the size of its own terminals only. */
import { closeSync, constants, openSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const ioctl = libc.func('int ioctl(int, unsigned long, _Inout_ uint16_t *)');
const ioctlOfSettings = libc.func('int ioctl(int, unsigned long, _Out_ uint8_t *)');

// Linux, on every architecture Torpor runs on.
const tcgets = 0x5401;
const tiocgwinsz = 0x5413;
const tiocswinsz = 0x5414;

export interface WindowSize {
  columns: number;
  rows: number;
}

/** @returns undefined where the descriptor is of no terminal, or of one that has no size. */
export function windowSize(fd: number): WindowSize | undefined {
  const size = [0, 0, 0, 0];
  if (ioctl(fd, tiocgwinsz, size) < 0) return undefined;
  const [rows = 0, columns = 0] = size;
  return rows > 0 && columns > 0 ? { columns, rows } : undefined;
}

/** The same of a terminal by its path, which does not become this process's own. */
export function windowSizeOf(path: string): WindowSize | undefined {
  try {
    const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    try {
      return windowSize(fd);
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

/** Sets it, upon which the kernel tells the foreground processes of the terminal by SIGWINCH if it is another. */
export function setWindowSize(fd: number, { columns, rows }: WindowSize): void {
  ioctl(fd, tiocswinsz, [rows, columns, 0, 0]);
}

/** More than a `struct termios`, which begins with c_iflag, c_oflag, c_cflag and c_lflag, 4 bytes each. */
const settingsBytes = 64;
const localFlags = 12;
const canonical = 0o2;

/** Whether a program reads key by key from a terminal, rather than line by line; of either end of it. */
export function readsKeys(fd: number): boolean {
  const settings = Buffer.alloc(settingsBytes);
  if (ioctlOfSettings(fd, tcgets, settings) < 0) return false;
  return (settings.readUInt32LE(localFlags) & canonical) === 0;
}
