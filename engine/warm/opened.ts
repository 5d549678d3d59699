/** Which files a workload opens while it starts, as the kernel tells a program of ours (native/opened.c). */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { TorporError } from '../../api/errors.ts';
import { lastWordsOf } from '../command.ts';

type Program = ChildProcessByStdio<Writable, Readable, Readable>;

export class OpenedFiles implements AsyncDisposable {
  readonly #child: Program;
  readonly #words: () => string;
  readonly #closed: Promise<unknown>;
  #text = '';

  private constructor(child: Program) {
    this.#child = child;
    this.#words = lastWordsOf(child);
    this.#closed = once(child, 'close').catch(() => {});
    child.stdin.on('error', () => {});
    // Paths are bytes: what is no UTF-8 stays what it is.
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      this.#text += text;
    });
  }

  /**
   * Listens from when this has returned.
   * @param program native/opened.c
   * @param id of the workload, which need not be there yet.
   * @param paths one on each file system that is listened to.
   * @throws TorporError `failed` where the kernel does not tell.
   */
  static async start(program: string, id: string, paths: readonly string[]): Promise<OpenedFiles> {
    const child = spawn(program, [id, ...paths], { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
    const opened = new OpenedFiles(child);
    await Promise.race([once(child.stdout, 'data').catch(() => {}), opened.#closed]);
    if (child.exitCode === null && child.signalCode === null) return opened;
    throw cannotTell(opened.#words());
  }

  /** All that were opened until now, folders with a slash at the end. @throws TorporError `failed` where some were missed. */
  async stop(): Promise<Buffer[]> {
    this.#child.stdin.end();
    await this.#closed;
    if (this.#child.exitCode !== 0) throw cannotTell(this.#words());
    const [, ...paths] = this.#text.split('\0').slice(0, -1);
    return [...new Set(paths)].map((path) => Buffer.from(path, 'latin1'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await this.#closed;
  }
}

function cannotTell(words: string): TorporError {
  return new TorporError(
    'failed',
    `It cannot be told which files it reads: ${words || 'the program that listens has ended'}.`,
    'It needs Linux 5.9 or newer, with fanotify.',
  );
}
