/**
 * How fast an operation goes and how long it will still take, reckoned where it is shown from the bytes that it reports.
 * Pure but for its memory: the time comes in with each report.
 */

/** Older reports say nothing about how fast it goes now, in milliseconds. */
const windowMs = 3000;
/** Over less than this a rate is noise. */
const leastMs = 400;
/** How much of what is told next comes from what is measured now: the figures follow within a second, and do not jump. */
const weight = 0.4;

export interface Estimate {
  bytesPerSecond?: number;
  secondsLeft?: number;
}

export class RateMeter {
  #samples: { at: number; bytes: number }[] = [];
  #phase = '';
  #told: number | undefined;

  /** @param at milliseconds of a monotonic clock. @param total 0 where it is not known. */
  report(phase: string, bytes: number, total: number, at: number): Estimate {
    if (phase !== this.#phase) {
      this.#samples = [];
      this.#told = undefined;
    }
    this.#phase = phase;
    // The beginning of a phase, when nothing is known of it yet, would make it seem slow.
    if (total === 0) return {};
    this.#samples.push({ at, bytes });
    // One that is older than the window stays, so that rare reports have something to go by.
    while ((this.#samples[1]?.at ?? at) <= at - windowMs) this.#samples.shift();
    const [first] = this.#samples;
    if (first === undefined || at - first.at < leastMs) return {};
    const now = ((bytes - first.bytes) * 1000) / (at - first.at);
    if (now <= 0) {
      this.#told = undefined;
      return {};
    }
    this.#told = this.#told === undefined ? now : this.#told + weight * (now - this.#told);
    return { bytesPerSecond: this.#told, secondsLeft: Math.max(0, total - bytes) / this.#told };
  }
}
