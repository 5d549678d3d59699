/** What is being done at present, and waiting until that is done. */
import { setTimeout as sleep } from 'node:timers/promises';

export class UnderWay {
  readonly #all = new Set<Promise<unknown>>();

  get size(): number {
    return this.#all.size;
  }

  add<T>(doing: Promise<T>): Promise<T> {
    this.#all.add(doing);
    const forget = () => this.#all.delete(doing);
    doing.then(forget, forget);
    return doing;
  }

  /** Resolves when all is done that is being done now, at the latest after that time. */
  async settled(limitMs?: number): Promise<void> {
    if (this.#all.size === 0) return;
    const done = Promise.allSettled([...this.#all]);
    if (limitMs === undefined) await done;
    else await within(limitMs, done);
  }
}

/** Waits for something, but not longer than that. */
export async function within(limitMs: number, doing: Promise<unknown>): Promise<void> {
  const limit = new AbortController();
  const late = sleep(limitMs, undefined, { signal: limit.signal }).catch(() => {});
  await Promise.race([doing, late]);
  limit.abort();
}
