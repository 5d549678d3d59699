/** How long plugins may keep one operation waiting. */

/** All plugins together get that many times what one gets. */
const together = 3;

/** For one kind of calls. */
export class Budget {
  readonly #limitMs: number;
  readonly #now: () => number;
  readonly #spent = new Map<string, number>();
  #running = 0;
  #runningSince = 0;
  #spentTogether = 0;

  /** @param now a clock in milliseconds that is never set. */
  constructor(limitMs: number, now: () => number) {
    this.#limitMs = limitMs;
    this.#now = now;
  }

  /** What is left to a plugin, in milliseconds. */
  left(name: string): number {
    const own = this.#limitMs - (this.#spent.get(name) ?? 0);
    return Math.max(0, Math.min(own, this.#limitMs * together - this.#spentByAll()));
  }

  #spentByAll(): number {
    return this.#spentTogether + (this.#running > 0 ? this.#now() - this.#runningSince : 0);
  }

  /** Does something for a plugin, and counts the time. */
  async spend<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startedAt = this.#now();
    if (this.#running++ === 0) this.#runningSince = startedAt;
    try {
      return await work();
    } finally {
      const now = this.#now();
      this.#spent.set(name, (this.#spent.get(name) ?? 0) + now - startedAt);
      if (--this.#running === 0) this.#spentTogether += now - this.#runningSince;
    }
  }
}

/** Of one suspend or resume, over all its tries: for what it asks of them, and apart from that for undoing it. */
export class PluginTime {
  readonly calls: Budget;
  readonly aborts: Budget;
  /** How long the operation did nothing else, in milliseconds. */
  waitedMs = 0;
  readonly #now: () => number;

  /** @param now a clock in milliseconds that is never set. */
  constructor(limitMs: number, now: () => number = () => performance.now()) {
    this.calls = new Budget(limitMs, now);
    this.aborts = new Budget(limitMs, now);
    this.#now = now;
  }

  /** Waits for plugins, and counts the time. */
  async wait<T>(promise: Promise<T>): Promise<T> {
    const startedAt = this.#now();
    try {
      return await promise;
    } finally {
      this.waitedMs += this.#now() - startedAt;
    }
  }
}
