/** How long each plugin may keep one operation waiting, over all its calls and tries. */
export class Budget {
  readonly #limitMs: number;
  readonly #spent = new Map<string, number>();

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /** What is left to a plugin, in milliseconds. */
  left(name: string): number {
    return Math.max(0, this.#limitMs - (this.#spent.get(name) ?? 0));
  }

  /** Does something for a plugin, and counts the time. */
  async spend<T>(name: string, work: (leftMs: number) => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    try {
      return await work(this.left(name));
    } finally {
      this.#spent.set(name, (this.#spent.get(name) ?? 0) + performance.now() - startedAt);
    }
  }

  /** How long they have kept it waiting so far, in milliseconds, by name. */
  get spent(): ReadonlyMap<string, number> {
    return this.#spent;
  }
}
