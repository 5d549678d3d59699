/** A point at which several operations wait for each other: when all are there, something is done once, and all go on. */
export class Meeting {
  readonly #work: () => Promise<void>;
  readonly #outcome: Promise<void>;
  #resolve: () => void = () => {};
  #reject: (reason: unknown) => void = () => {};
  #missing: number;
  #broken = false;

  constructor(members: number, work: () => Promise<void>) {
    this.#missing = members;
    this.#work = work;
    this.#outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#outcome.catch(() => {});
  }

  /** Waits for the others and for the work. @throws what the work threw, or why the meeting was called off. */
  join(): Promise<void> {
    this.#missing--;
    if (this.#missing === 0 && !this.#broken) this.#work().then(this.#resolve, this.#reject);
    return this.#outcome;
  }

  /** Calls it off for all; once all have been there it is too late. */
  callOff(reason: unknown): void {
    if (this.#missing === 0) return;
    this.#broken = true;
    this.#reject(reason);
  }
}
