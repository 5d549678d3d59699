/**
 * Who is at work in the packs. A suspend counts on every chunk that it finds there until its snapshot is committed, so
 * packs are removed or replaced only while no suspend is under way. That is upkeep: it can wait, and is given up for a
 * suspend. What resumes holds its packs open and needs nothing. The programs that do upkeep lock the folder themselves
 * (flock), by which one shows that an engine which was killed has left behind.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { lockFolder } from '../../native/folder-lock.ts';
import { unlessAborted } from '../abort.ts';

const lookAgainMs = 20;

/** The upkeep was given up for a suspend; it can be begun anew. */
export class GivenUp extends Error {
  override readonly name = 'GivenUp';
}

export class PacksLock {
  readonly #folder: string;
  /** A program that an engine which was killed has left behind. */
  readonly #left: Promise<void>;
  #suspends = 0;
  #upkeep: { controller: AbortController; done: Promise<unknown> } | undefined;
  #waiting: (() => void)[] = [];

  constructor(folder: string) {
    this.#folder = folder;
    this.#left = this.#othersGone();
    // Met again by whoever waits for it.
    this.#left.catch(() => {});
  }

  /** They get SIGTERM when their engine ends. */
  async #othersGone(): Promise<void> {
    for (;;) {
      const lock = lockFolder(this.#folder);
      lock?.[Symbol.dispose]();
      if (lock !== undefined) return;
      await sleep(lookAgainMs);
    }
  }

  /** For a suspend: waits until upkeep has been given up. @returns what ends it, and does nothing when called again. */
  async share(): Promise<() => void> {
    this.#suspends++;
    let isHeld = true;
    const release = () => {
      if (isHeld) this.#suspends--;
      isHeld = false;
      this.#tell();
    };
    try {
      this.#upkeep?.controller.abort(new GivenUp('A suspend goes first.'));
      await this.#upkeep?.done;
      await this.#left;
      return release;
    } catch (error) {
      release();
      throw error;
    }
  }

  /**
   * For upkeep: waits until nobody else is at work. The signal is raised, with {@link GivenUp} as its reason, when a
   * suspend begins, which then waits until the work has ended.
   */
  async alone<T>(
    work: (signal: AbortSignal) => Promise<T>,
    signal = new AbortController().signal,
  ): Promise<T> {
    await unlessAborted(this.#left, signal);
    while (this.#suspends > 0 || this.#upkeep !== undefined) {
      const changed = new Promise<void>((resolve) => this.#waiting.push(resolve));
      await unlessAborted(changed, signal);
    }
    const controller = new AbortController();
    const running = work(AbortSignal.any([signal, controller.signal]));
    const done = running.then(
      () => {},
      () => {},
    );
    this.#upkeep = { controller, done };
    try {
      return await running;
    } finally {
      this.#upkeep = undefined;
      this.#tell();
    }
  }

  #tell(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
