/**
 * A pipe of which a program inside has the writing end, as a sign that it still wants something: that ends when the last
 * such end is closed. The reading end is ours. It is closed for a suspend, so that the pipe is the program's alone, and
 * opened again after the resume through the program's own descriptor.
 */
import { constants, fstatSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import koffi from 'koffi';
import { SocketError } from './sockets.ts';

const pipe2 = koffi.load('libc.so.6').func('int pipe2(_Out_ int *, int)');
const cloexec = 0o2000000;
const mostHolders = 8;

/** A process as its own namespace numbers it, and one of its descriptors. Both are the same after a resume. */
export interface Holder {
  pid: number;
  fd: number;
}

export class HeldPipe {
  /** Resolves when nobody has a writing end any more, or it was closed here. */
  readonly ended: Promise<void>;
  readonly inode: number;
  readonly #socket: Socket;

  private constructor(fd: number) {
    this.inode = fstatSync(fd).ino;
    this.#socket = new Socket({ fd, readable: true, writable: false });
    this.#socket.on('error', () => {});
    this.#socket.resume();
    this.ended = new Promise((resolve) => this.#socket.once('close', () => resolve()));
  }

  /** @returns also the writing end, to be given away. @throws SocketError */
  static make(): { pipe: HeldPipe; given: number } {
    const ends = [-1, -1];
    if (pipe2(ends, cloexec) < 0) throw new SocketError('pipe2', koffi.errno());
    const [ours = -1, given = -1] = ends;
    return { pipe: new HeldPipe(ours), given };
  }

  /** The pipe that one of these still has among these processes of the host; undefined where none has. */
  static reopen(holders: readonly Holder[], pids: readonly number[]): HeldPipe | undefined {
    for (const { pid, fd } of holders) {
      const process = pids.find((each) => innerPid(each) === pid);
      if (process === undefined) continue;
      const path = `/proc/${process}/fd/${fd}`;
      try {
        if (!readlinkSync(path).startsWith('pipe:')) continue;
        return new HeldPipe(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
      } catch {
        // It has gone in the meantime.
      }
    }
    return undefined;
  }

  /** Who of these processes of the host has a writing end of the pipe with this number. */
  static holders(inode: number, pids: readonly number[]): Holder[] {
    const target = `pipe:[${inode}]`;
    const found = pids.flatMap((process): Holder[] => {
      const pid = innerPid(process);
      const fds = descriptorsOf(process).filter((fd) => linkOf(`/proc/${process}/fd/${fd}`) === target);
      return pid === undefined ? [] : fds.map((fd) => ({ pid, fd: Number(fd) }));
    });
    return found.slice(0, mostHolders);
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Of a process that has ended, or is not one whose descriptors its user may see, there are none. */
function descriptorsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // It has been closed in the meantime.
    return undefined;
  }
}

/** A process's number in its innermost pid namespace. */
function innerPid(pid: number): number | undefined {
  try {
    const [, numbers = ''] = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Number(numbers.split(/\s+/).at(-1));
  } catch {
    return undefined;
  }
}
