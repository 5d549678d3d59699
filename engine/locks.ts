/** Who is at work on what: one operation at a time on a workload or a snapshot, and a way to give it up. */
import { TorporError } from '../api/errors.ts';

/** What is known of an operation that nobody waits for. */
export interface Secondary {
  /** It is to give up for something that was asked for: its signal is raised. */
  givesWay: () => void;
}

interface Held {
  operation: string;
  controller: AbortController;
  secondary: Secondary | undefined;
  /** Settles when the key is free. */
  ended: Promise<void>;
}

export class Locks {
  readonly #held = new Map<string, Held>();

  /**
   * Runs the work with the key held, handing it a signal that {@link Locks.cancel} raises. A secondary operation is told
   * to give up by any other that wants its key, which then waits until it has ended.
   * @throws TorporError `failed` at once where any other operation holds the key: nobody waits in a queue unseen.
   */
  async hold<T>(
    key: string,
    what: string,
    operation: string,
    work: (signal: AbortSignal) => Promise<T>,
    secondary?: Secondary,
  ): Promise<T> {
    const other = this.#held.get(key);
    if (other?.secondary !== undefined && secondary === undefined) {
      other.secondary.givesWay();
      other.controller.abort(cancelled());
      await other.ended;
    }
    this.refuseIfHeld(key, what);
    const controller = new AbortController();
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#held.set(key, { operation, controller, secondary, ended });
    try {
      return await work(controller.signal);
    } finally {
      this.#held.delete(key);
      end();
    }
  }

  /** The same once nobody holds the key any more: for what is not a user's to wait for. */
  async holdNext<T>(key: string, what: string, operation: string, work: () => Promise<T>): Promise<T> {
    for (let other = this.#held.get(key); other !== undefined; other = this.#held.get(key)) await other.ended;
    return this.hold(key, what, operation, work);
  }

  /** The same with several keys held, all of them or none; what cancels one of them cancels it. */
  async holdAll<T>(
    keys: readonly { key: string; what: string }[],
    operation: string,
    work: (signal: AbortSignal) => Promise<T>,
    secondary?: Secondary,
  ): Promise<T> {
    const holdFrom = (index: number, signals: AbortSignal[]): Promise<T> => {
      const next = keys[index];
      if (next === undefined) return work(AbortSignal.any(signals));
      const { key, what } = next;
      const rest = (signal: AbortSignal) => holdFrom(index + 1, [...signals, signal]);
      return this.hold(key, what, operation, rest, secondary);
    };
    return await holdFrom(0, []);
  }

  /** @throws TorporError `failed` where an operation holds the key. */
  refuseIfHeld(key: string, what: string): void {
    const other = this.#held.get(key);
    if (other === undefined) return;
    throw new TorporError(
      'failed',
      `${what} is just being ${other.operation}.`,
      'Wait until that is done; see `torpor ps`.',
    );
  }

  /** What is being done with the key, such as `suspended`; undefined where nothing is. */
  operationOn(key: string): string | undefined {
    return this.#held.get(key)?.operation;
  }

  get busy(): boolean {
    return this.#held.size > 0;
  }

  /** Asks the operation that holds the key to give up. @returns false where there is none. */
  cancel(key: string): boolean {
    const held = this.#held.get(key);
    held?.controller.abort(cancelled());
    return held !== undefined;
  }
}

const cancelled = () =>
  new TorporError('failed', 'It was cancelled; everything is as it was before.', '', { cancelled: true });

/** Whether something failed because it was given up. */
export const wasCancelled = (error: unknown) =>
  error instanceof TorporError && error.details.cancelled === true;
