/**
 * Telling how far an operation is. Amounts are measured from outside, a few times a second and not before a phase has
 * lasted a while, so that they cost an operation nothing.
 */
import type { Phase, Progress } from '../../api/types.ts';

/** In bytes. */
export interface Amount {
  done: number;
  total: number;
}
export type Measure = () => Amount | Promise<Amount>;

/** Says that a phase has begun; with a measure it is told again and again how far it is, until the next one begins. */
export type Report = (phase: Phase, measure?: Measure) => void;

export const measureIntervalMs = 200;

/** Reports the phases of one operation on one workload. Disposing of it ends the measuring. */
export class Reporter implements Disposable {
  readonly #workload: string;
  readonly #operation: Progress['operation'];
  readonly #emit: (progress: Progress) => void;
  #timer: NodeJS.Timeout | undefined;
  /** Counts phases, so that what was measured too late is not told of the next one. */
  #phase = 0;

  constructor(workload: string, operation: Progress['operation'], emit: (progress: Progress) => void) {
    this.#workload = workload;
    this.#operation = operation;
    this.#emit = emit;
  }

  readonly report: Report = (phase, measure) => {
    this[Symbol.dispose]();
    this.#tell(phase, { done: 0, total: 0 });
    if (measure !== undefined) this.#follow(this.#phase, phase, measure, 0);
  };

  #follow(number: number, phase: Phase, measure: Measure, before: number): void {
    this.#timer = setTimeout(async () => {
      const amount = await Promise.resolve()
        .then(measure)
        .catch(() => undefined);
      if (number !== this.#phase) return;
      const told = amount === undefined ? before : Math.max(before, Math.min(amount.done, amount.total));
      // An estimate of the whole may be corrected, but not below what was told to be done.
      if (amount !== undefined && amount.total >= told)
        this.#tell(phase, { done: told, total: amount.total });
      this.#follow(number, phase, measure, told);
    }, measureIntervalMs);
    this.#timer.unref();
  }

  #tell(phase: Phase, { done, total }: Amount): void {
    this.#emit({
      workload: this.#workload,
      operation: this.#operation,
      phase,
      bytesDone: Math.round(done),
      bytesTotal: Math.round(total),
    });
  }

  [Symbol.dispose](): void {
    this.#phase++;
    clearTimeout(this.#timer);
  }
}

/** Counts towards a total that is known. */
export class Tally {
  readonly #total: number;
  #done = 0;

  constructor(total: number) {
    this.#total = total;
  }

  readonly add = (bytes: number): void => {
    this.#done += bytes;
  };

  readonly measure = (): Amount => ({ done: this.#done, total: this.#total });
}
