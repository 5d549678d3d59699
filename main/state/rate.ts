/** How fast an operation goes and how long it will still take, from the bytes it has reported. Pure but for its memory. */

/** Older reports say nothing about how fast it goes now, in milliseconds. */
const windowMs = 3000;
/** Over less than this a rate is noise. */
const leastMs = 300;

export interface Estimate {
  bytesPerSecond?: number;
  secondsLeft?: number;
}

export class RateMeter {
  #samples: { at: number; bytes: number }[] = [];
  #phase = '';

  /** @param at milliseconds of a monotonic clock. @param total 0 where it is not known. */
  report(phase: string, bytes: number, total: number, at: number): Estimate {
    if (phase !== this.#phase) this.#samples = [];
    this.#phase = phase;
    this.#samples = this.#samples.filter((sample) => at - sample.at <= windowMs);
    this.#samples.push({ at, bytes });
    const first = this.#samples[0];
    if (first === undefined || total === 0 || at - first.at < leastMs || bytes <= first.bytes) return {};
    const bytesPerSecond = ((bytes - first.bytes) * 1000) / (at - first.at);
    return { bytesPerSecond, secondsLeft: Math.max(0, total - bytes) / bytesPerSecond };
  }
}
