/** The end of a virtual machine's serial line at which scripts are run there (test/fixtures/vm/runner.sh). */
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Outcome } from './engine.ts';

export interface RunOptions {
  /** How long it may take at most. */
  limitMs?: number;
}

const ready = 'ready';
const usualLimitMs = 120_000;

type Waiting = { resolve: (line: string) => void; reject: (error: Error) => void };

export class SerialLine implements Disposable {
  readonly #socket: Socket;
  readonly #lines: string[] = [];
  #waiting: Waiting | undefined;
  #end: Error | undefined;
  #number = 0;

  private constructor(socket: Socket, ended: () => string) {
    this.#socket = socket;
    createInterface({ input: socket }).on('line', (text) => {
      // What the kernel's or a log-in's own line left without an end stands before.
      const line = /@(.*)/.exec(text)?.[1];
      if (line === undefined) return;
      if (this.#waiting === undefined) this.#lines.push(line);
      else this.#waiting.resolve(line);
    });
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#end = new Error(ended());
      this.#waiting?.reject(this.#end);
    });
  }

  /** @param ended what is said where the machine has ended. */
  static async open(path: string, ended: () => string): Promise<SerialLine> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new SerialLine(socket, ended);
  }

  #next(end: number, what: string): Promise<string> {
    const line = this.#lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (this.#end !== undefined) return Promise.reject(this.#end);
    return new Promise<string>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`the virtual machine takes too long to ${what}`)),
        Math.max(0, end - Date.now()),
      );
      this.#waiting = {
        resolve: (text) => {
          clearTimeout(timer);
          resolve(text);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
    }).finally(() => {
      this.#waiting = undefined;
    });
  }

  /** Waits until somebody has begun to listen there. */
  async untilReady(limitMs: number): Promise<void> {
    const end = Date.now() + limitMs;
    while ((await this.#next(end, 'be ready')) !== ready);
  }

  #send(script: string): string {
    this.#number++;
    this.#socket.write(`${this.#number} ${Buffer.from(script).toString('base64')}\n`);
    return String(this.#number);
  }

  /** Runs a script of sh there, to its end; one at a time. */
  async run(script: string, { limitMs = usualLimitMs }: RunOptions = {}): Promise<Outcome> {
    const number = this.#send(script);
    const end = Date.now() + limitMs;
    for (;;) {
      const line = await this.#next(end, `run ${script}`);
      if (line === ready)
        throw new Error(`the virtual machine has started anew instead of running ${script}`);
      // One that took longer than it could may answer later.
      const outcome = outcomeOf(line, number);
      if (outcome !== undefined) return outcome;
    }
  }

  /**
   * Runs a script that has the machine start anew, and waits until somebody listens again.
   * @throws Error where the script failed.
   */
  async runUntilReady(script: string, limitMs: number): Promise<void> {
    const number = this.#send(script);
    const end = Date.now() + limitMs;
    for (;;) {
      const line = await this.#next(end, `start anew by ${script}`);
      if (line === ready) return;
      const outcome = outcomeOf(line, number);
      if (outcome !== undefined && outcome.code !== 0)
        throw new Error(`${script}: exit ${outcome.code}\n${outcome.stdout}${outcome.stderr}`);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** What an answer says of the script of that number. */
function outcomeOf(line: string, wanted: string): Outcome | undefined {
  const [number, code, ...outputs] = line.split(' ');
  if (number !== wanted) return undefined;
  const [stdout = '', stderr = ''] = outputs.map((each) =>
    Buffer.from(each.slice(0, -1), 'base64').toString(),
  );
  return { code: Number(code), stdout, stderr };
}
