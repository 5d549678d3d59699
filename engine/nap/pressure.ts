/**
 * Tells when programs wait for memory: the kernel wakes a program of ours then (native/pressure.c), which runs from when
 * somebody first asks until the engine ends.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Pressure, PressureWatch } from '../../api/types.ts';
import { lastWordsOf } from '../command.ts';
import type { Logger } from '../log.ts';

/** Windows of two seconds are what the kernel allows everybody. */
const windowUs = 2_000_000;
/** A twentieth: a delay that a user begins to feel, before it is one that annoys. */
const stallUs = windowUs / 20;

type Program = ChildProcessByStdio<Writable, Readable, Readable>;

export class PressureWatcher implements Disposable {
  readonly #program: string;
  readonly #log: Logger;
  readonly #rose: (pressure: Pressure) => void;
  #watching: Promise<PressureWatch> | undefined;
  #child: Program | undefined;

  constructor(program: string, log: Logger, rose: (pressure: Pressure) => void) {
    this.#program = program;
    this.#log = log;
    this.#rose = rose;
  }

  /** Tells from now on; the problem is that of a kernel that cannot tell. */
  watch(): Promise<PressureWatch> {
    this.#watching ??= this.#start();
    return this.#watching;
  }

  async #start(): Promise<PressureWatch> {
    const child = spawn(this.#program, [String(stallUs), String(windowUs)], {
      stdio: ['pipe', 'pipe', 'pipe'],
      cwd: '/',
    });
    this.#child = child;
    child.stdin.on('error', () => {});
    const words = lastWordsOf(child);
    const lines = createInterface(child.stdout);
    return new Promise((resolve) => {
      lines.once('line', () => {
        lines.on('line', (line) => {
          const [some = 0, full = 0] = line.split(' ').map(Number);
          this.#rose({ some, full });
        });
        resolve({});
      });
      const end = (why: string) => {
        if (this.#child !== child) return;
        this.#log.warn({ why }, 'memory pressure is not told');
        // Whoever asks next has it tried again.
        this.#watching = undefined;
        resolve({ problem: `The kernel does not tell when memory is short: ${why}.` });
      };
      child.once('error', (error) => end(error.message));
      child.once('close', () => end(words() || 'the program that listens to it has ended'));
    });
  }

  [Symbol.dispose](): void {
    const child = this.#child;
    this.#child = undefined;
    child?.stdin.end();
  }
}
