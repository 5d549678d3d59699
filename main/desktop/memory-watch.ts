/** Watches how much memory is available, and tells once when it has come to be short. */
import { readFile } from 'node:fs/promises';

const intervalMs = 5000;
/** It counts as over only this many percent above, so that it is not told again and again. */
const hysteresisPercent = 4;

export interface MemoryWatchParts {
  /** Share that must stay available, in percent; asked for each time. */
  leastPercent: () => number;
  short: () => void;
  meminfo?: string;
}

export class MemoryWatch implements Disposable {
  readonly #parts: MemoryWatchParts;
  readonly #timer: NodeJS.Timeout;
  #isShort = false;

  constructor(parts: MemoryWatchParts) {
    this.#parts = parts;
    this.#timer = setInterval(() => void this.look(), intervalMs);
    this.#timer.unref();
  }

  /** Looks now. */
  async look(): Promise<void> {
    const percent = await availablePercent(this.#parts.meminfo ?? '/proc/meminfo');
    if (percent === undefined) return;
    const least = this.#parts.leastPercent();
    if (percent > least + hysteresisPercent) this.#isShort = false;
    if (percent >= least || this.#isShort) return;
    this.#isShort = true;
    this.#parts.short();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Undefined where the kernel does not say. */
export async function availablePercent(path: string): Promise<number | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const field = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? Number.NaN);
  const percent = (100 * field('MemAvailable')) / field('MemTotal');
  return Number.isFinite(percent) ? percent : undefined;
}
