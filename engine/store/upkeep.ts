/**
 * Keeps the packs small and in order while nothing else is to be done: what no snapshot needs any more is removed some
 * time after a snapshot was, and what a suspend wrote in a hurry is compressed. A suspend goes first: upkeep is given up
 * for it and begun anew.
 */
import { join } from 'node:path';
import type { CollectResult } from '../../api/types.ts';
import type { Logger } from '../log.ts';
import { GivenUp } from './packs-lock.ts';
import type { PagesProgram } from './pages-program.ts';
import type { SnapshotStore } from './snapshot-store.ts';
import { bytesBelow } from './usage.ts';

export interface UpkeepDelays {
  /** From the removal of a snapshot. */
  sweepMs: number;
  /** From a suspend, or another attempt that was given up. */
  compressMs: number;
}

const usualDelays: UpkeepDelays = { sweepMs: 1000, compressMs: 30_000 };

/** What is to be done some time. */
interface Task {
  readonly what: string;
  readonly work: (signal: AbortSignal) => Promise<unknown>;
  timer?: NodeJS.Timeout;
}

export class Upkeep {
  readonly #store: SnapshotStore;
  readonly #pages: PagesProgram;
  readonly #log: Logger;
  readonly #delays: UpkeepDelays;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #sweeping: Task = { what: 'sweep', work: (signal) => this.#sweep(signal, true) };
  readonly #compressing: Task = { what: 'recompress', work: (signal) => this.#compress(signal) };

  constructor(store: SnapshotStore, pages: PagesProgram, log: Logger, delays: Partial<UpkeepDelays> = {}) {
    this.#store = store;
    this.#pages = pages;
    this.#log = log;
    this.#delays = { ...usualDelays, ...delays };
    store.onChange(({ what }) => {
      if (what === 'removed') this.#soon(this.#sweeping, this.#delays.sweepMs);
      if (what === 'made') this.#soon(this.#compressing, this.#delays.compressMs);
    });
  }

  /** An engine begins: what an earlier one left half done is garbage now. */
  start(): void {
    this.#soon(this.#sweeping, this.#delays.sweepMs);
    this.#soon(this.#compressing, this.#delays.compressMs);
  }

  /** Gives up what is under way, and begins nothing any more. */
  async stop(): Promise<void> {
    this.#stopping.abort(new GivenUp('The engine stops.'));
    for (const task of [this.#sweeping, this.#compressing]) clearTimeout(task.timer);
    await Promise.all(this.#running);
  }

  /** Removes at once what no snapshot needs. Where a suspend is under way, or one begins, it goes first. */
  async collect(): Promise<CollectResult> {
    const before = { freedBytes: 0 };
    for (;;) {
      try {
        const { freedBytes, ...rest } = await this.#sweep(this.#stopping.signal, false);
        return { ...rest, freedBytes: before.freedBytes + freedBytes };
      } catch (error) {
        if (!(error instanceof GivenUp) || this.#stopping.signal.aborted) throw error;
        before.freedBytes += error instanceof Interrupted ? error.freedBytes : 0;
      }
    }
  }

  /** What a sweep would free. Removes nothing, and so may be asked in the middle of a suspend. */
  async freeableBytes(signal: AbortSignal): Promise<number> {
    return (await this.#pages.sweep(true, { signal })).freedBytes;
  }

  #soon(task: Task, delayMs: number): void {
    if (this.#stopping.signal.aborted) return;
    clearTimeout(task.timer);
    task.timer = setTimeout(() => {
      const running = this.#run(task).finally(() => this.#running.delete(running));
      this.#running.add(running);
    }, delayMs).unref();
  }

  async #run(task: Task): Promise<void> {
    try {
      await task.work(this.#stopping.signal);
    } catch (error) {
      if (error instanceof GivenUp) this.#soon(task, this.#delays.compressMs);
      else this.#log.error({ err: error, task: task.what }, 'upkeep of the store failed');
    }
  }

  #sweep(signal: AbortSignal, inBackground: boolean): Promise<CollectResult> {
    const folder = join(this.#store.stateDir, 'packs');
    return this.#store.packs.alone(async (given) => {
      const before = await bytesBelow(folder);
      const freed = async () => Math.max(0, before - (await bytesBelow(folder)));
      const doubt = await this.#store.doubtAboutChunks(given);
      if (doubt !== undefined) {
        this.#log.warn({ snapshot: doubt.id, problem: doubt.problem }, 'nothing is removed from the packs');
        const skipped = [
          `Nothing is removed, since it is not known what snapshot ${doubt.id} needs: ${doubt.problem}`,
        ];
        return { freedBytes: 0, storedBytes: before, skipped };
      }
      try {
        const swept = await this.#pages.sweep(false, { signal: given, inBackground });
        await this.#store.measureShares(given);
        const freedBytes = await freed();
        this.#log.info({ ...swept, freedBytes }, 'packs swept');
        return { freedBytes, storedBytes: before - freedBytes, skipped: swept.skipped };
      } catch (error) {
        if (error instanceof GivenUp) throw new Interrupted(error.message, await freed());
        throw error;
      }
    }, signal);
  }

  async #compress(signal: AbortSignal): Promise<void> {
    await this.#store.packs.alone(async (given) => {
      await this.#pages.recompress({ signal: given, inBackground: true });
      await this.#store.measureShares(given);
    }, signal);
  }
}

/** Given up in the middle, with this much done. */
class Interrupted extends GivenUp {
  readonly freedBytes: number;

  constructor(message: string, freedBytes: number) {
    super(message);
    this.freedBytes = freedBytes;
  }
}
