/** A terminal of a test's own, in which a command runs as if a user had typed it (test/fixtures/terminal.py). */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const program = new URL('../fixtures/terminal.py', import.meta.url).pathname;
const patience = 60_000;

export interface TerminalOptions {
  columns?: number;
  rows?: number;
  uid?: number;
  env?: Record<string, string>;
}

export class TestTerminal implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<unknown>;
  #said = '';
  /** All that it has shown, escape sequences included. */
  shown = '';

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.#closed = new Promise((resolve) => child.once('close', resolve));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.shown += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text;
    });
    child.stdin.on('error', () => {});
  }

  static async start(command: readonly string[], options: TerminalOptions = {}): Promise<TestTerminal> {
    const { columns = 80, rows = 24, uid, env = {} } = options;
    const child = spawn('python3', [program, String(columns), String(rows), ...command], {
      cwd: '/',
      env: { ...process.env, ...env },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    const terminal = new TestTerminal(child);
    await terminal.#until(() => terminal.#said.includes('\n'), 'the pid of its command');
    return terminal;
  }

  /** Of what leads its session. */
  get pid(): number {
    return Number(this.#said.split('\n')[0]);
  }

  /** Its exit code, negative for a signal; undefined while it runs. */
  get exit(): number | undefined {
    const code = /^exit (-?\d+)$/m.exec(this.#said)?.[1];
    return code === undefined ? undefined : Number(code);
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Waits until it has shown this, from a place in {@link shown} on. @returns the place behind it. */
  async until(wanted: string | RegExp, from = 0): Promise<number> {
    let end = -1;
    await this.#until(() => {
      const text = this.shown.slice(from);
      const found = typeof wanted === 'string' ? text.indexOf(wanted) : text.search(wanted);
      const length = typeof wanted === 'string' ? wanted.length : (wanted.exec(text)?.[0].length ?? 0);
      end = found < 0 ? -1 : from + found + length;
      return end >= 0;
    }, String(wanted));
    return end;
  }

  /** Waits until its command has ended. @returns its exit code. */
  async ended(): Promise<number> {
    await this.#until(() => this.exit !== undefined, 'its end');
    return this.exit ?? -1;
  }

  /** Closes it, as a window that is closed or a connection that breaks: its session is told. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    const isClosed = await Promise.race([this.#closed.then(() => true), sleep(5000, false)]);
    if (!isClosed) this.#child.kill('SIGKILL');
    await this.#closed;
  }

  async #until(isSo: () => boolean, what: string): Promise<void> {
    for (const end = Date.now() + patience; !isSo(); await sleep(20))
      if (Date.now() > end)
        throw new Error(`the terminal never showed ${what}; it showed:\n${this.shown}\n${this.#said}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The children of a process. */
export async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter(Boolean).map(Number);
}
