/**
 * Snapshots at intervals: of a workload that its user wants it for, one is taken every so often while it runs on, and the
 * older ones of these are removed. Here is when a turn is due, what is remembered of it on disk so that it goes on with the
 * next engine, and what is told of how it goes; how a snapshot is taken and which ones go is the engine's.
 *
 * While the workload does not run nothing is taken, and the count begins anew when it runs again. It is the workload's for
 * as long as the workload is known, so a computation that a loss of power has ended and that is resumed from its last
 * snapshot has them again.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { sentenceOf } from '../../api/errors.ts';
import { type Interval, type IntervalState, intervalSchema } from '../../api/types.ts';
import { privateFolder, syncFolder, writeDurable, writeQuickly } from '../durable.ts';
import type { Logger } from '../log.ts';

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Calls it once when that time has passed. @returns what calls it off. */
  after(milliseconds: number, call: () => unknown): () => void;
}

export const systemClock: Clock = {
  now: Date.now,
  after(milliseconds, call) {
    const timer = setTimeout(call, milliseconds);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** How a turn went; `skipped` says why there was none to take. */
export type Turn = { kind: 'taken' } | { kind: 'skipped'; why: string };

export interface TurnTaker {
  /** Whether it runs, or will in a moment: a snapshot may be just being taken. */
  runs(workload: string): boolean;
  /** Takes one and removes what is too many. @throws what a suspend throws. */
  take(workload: string, interval: Interval): Promise<Turn>;
  /** What is to be told of it has changed. */
  changed(workload: string): void;
}

const keptSchema = intervalSchema.extend({
  version: z.literal(1),
  workload: z.string().regex(/^[0-9a-f]+$/),
  /** When the last turn was, ISO 8601. */
  lastAt: z.iso.datetime(),
  failures: z.number().int().nonnegative(),
  problem: z.object({ at: z.string(), what: z.string() }).optional(),
});
type Kept = z.infer<typeof keptSchema>;

interface Entry {
  kept: Kept;
  /** In milliseconds since the epoch, which have passed while a turn is under way; undefined while it waits for the workload. */
  dueAt: number | undefined;
  callOff: () => void;
  isTaking: boolean;
}

export class Intervals {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #entries = new Map<string, Entry>();
  #taker: TurnTaker | undefined;

  private constructor(folder: string, clock: Clock, log: Logger) {
    this.#folder = folder;
    this.#clock = clock;
    this.#log = log;
  }

  /** Reads what an earlier engine left; a file that is damaged is left alone and told of in the log. */
  static async open(stateDir: string, clock: Clock, log: Logger): Promise<Intervals> {
    const folder = join(stateDir, 'intervals');
    await privateFolder(folder);
    const intervals = new Intervals(folder, clock, log);
    for (const name of await readdir(folder)) {
      if (!name.endsWith('.json')) continue;
      try {
        const kept = keptSchema.parse(JSON.parse(await readFile(join(folder, name), 'utf8')));
        intervals.#entries.set(kept.workload, waiting(kept));
      } catch (error) {
        log.error({ err: error, file: join(folder, name) }, 'the file of an interval is damaged');
      }
    }
    return intervals;
  }

  /** From here on turns are taken. Those of workloads that `isKnown` does not know are forgotten. */
  async start(taker: TurnTaker, isKnown: (workload: string) => boolean): Promise<void> {
    this.#taker = taker;
    for (const [workload, entry] of this.#entries) {
      if (!isKnown(workload)) await this.end(workload);
      else if (taker.runs(workload)) {
        const { lastAt, everySeconds } = entry.kept;
        // The machine's clock may have been set back meanwhile.
        const left = Date.parse(lastAt) + everySeconds * 1000 - this.#clock.now();
        this.#schedule(entry, Math.min(Math.max(left, 0), everySeconds * 1000));
      }
    }
  }

  /** Durably, from now on, as if a turn had just been. */
  async set(workload: string, { everySeconds, keepLast }: Interval): Promise<void> {
    this.#entries.get(workload)?.callOff();
    const lastAt = new Date(this.#clock.now()).toISOString();
    const entry = waiting({ version: 1, workload, everySeconds, keepLast, lastAt, failures: 0 });
    await writeDurable(this.#path(workload), JSON.stringify(entry.kept, null, 1));
    this.#entries.get(workload)?.callOff();
    this.#entries.set(workload, entry);
    if (this.#taker?.runs(workload)) this.#schedule(entry, everySeconds * 1000);
    this.#taker?.changed(workload);
  }

  /** Takes no more of them. @returns false where none were taken. */
  async end(workload: string): Promise<boolean> {
    const entry = this.#entries.get(workload);
    if (entry === undefined) return false;
    entry.callOff();
    this.#entries.delete(workload);
    await rm(this.#path(workload), { force: true });
    await syncFolder(this.#folder);
    this.#taker?.changed(workload);
    return true;
  }

  stateOf(workload: string): IntervalState | undefined {
    const entry = this.#entries.get(workload);
    if (entry === undefined) return undefined;
    const { everySeconds, keepLast, failures, problem } = entry.kept;
    const isDue = entry.dueAt !== undefined && this.#taker?.runs(workload) === true;
    return {
      everySeconds,
      keepLast,
      failures,
      ...(problem === undefined ? {} : { problem }),
      ...(isDue && entry.dueAt !== undefined ? { nextAt: new Date(entry.dueAt).toISOString() } : {}),
    };
  }

  /** To be called whenever a workload's state has changed. */
  follow(workload: string): void {
    const entry = this.#entries.get(workload);
    if (entry === undefined || entry.isTaking || entry.dueAt !== undefined) return;
    if (this.#taker?.runs(workload)) this.#schedule(entry, entry.kept.everySeconds * 1000);
  }

  /** Takes no more turns; what is on disk stays for the next engine. */
  stop(): void {
    for (const entry of this.#entries.values()) entry.callOff();
    this.#taker = undefined;
  }

  #path(workload: string): string {
    return join(this.#folder, `${workload}.json`);
  }

  #schedule(entry: Entry, inMs: number): void {
    entry.callOff();
    entry.dueAt = this.#clock.now() + inMs;
    entry.callOff = this.#clock.after(inMs, () => this.#turn(entry));
  }

  /** Never throws: what goes wrong is told, and the next turn comes. */
  async #turn(entry: Entry): Promise<void> {
    const { workload, everySeconds } = entry.kept;
    const dueAt = entry.dueAt ?? this.#clock.now();
    if (this.#taker?.runs(workload) !== true) {
      entry.dueAt = undefined;
      return;
    }
    entry.isTaking = true;
    const outcome = await this.#take(this.#taker, entry);
    entry.isTaking = false;
    // It may have been ended or set anew meanwhile.
    if (this.#taker === undefined || this.#entries.get(workload) !== entry) return;
    entry.kept = { ...withoutProblem(entry.kept), ...outcome, lastAt: this.#time() };
    await writeQuickly(this.#path(workload), JSON.stringify(entry.kept, null, 1)).catch((error: unknown) =>
      this.#log.error({ err: error, workload }, 'could not write down a turn of its interval'),
    );
    if (this.#entries.get(workload) !== entry) {
      // Ended while that was written.
      if (!this.#entries.has(workload)) await rm(this.#path(workload), { force: true });
      return;
    }
    // At the pace that was asked for, but never one upon the other.
    const left = dueAt + everySeconds * 1000 - this.#clock.now();
    entry.dueAt = undefined;
    if (this.#taker?.runs(workload)) this.#schedule(entry, left > 0 ? left : everySeconds * 1000);
    this.#taker?.changed(workload);
  }

  async #take(taker: TurnTaker, { kept }: Entry): Promise<Pick<Kept, 'failures' | 'problem'>> {
    const { workload, failures } = kept;
    try {
      const turn = await taker.take(workload, kept);
      if (turn.kind === 'taken') return { failures: 0 };
      this.#log.info({ workload, why: turn.why }, 'a turn of its interval was skipped');
      return { failures, problem: { at: this.#time(), what: turn.why } };
    } catch (error) {
      // One that has ended meanwhile has nothing to be told of.
      if (!taker.runs(workload)) return { failures, ...(kept.problem && { problem: kept.problem }) };
      this.#log.warn({ err: error, workload, failures: failures + 1 }, 'a turn of its interval failed');
      return { failures: failures + 1, problem: { at: this.#time(), what: sentenceOf(error) } };
    }
  }

  #time(): string {
    return new Date(this.#clock.now()).toISOString();
  }
}

function waiting(kept: Kept): Entry {
  return { kept, dueAt: undefined, callOff: () => {}, isTaking: false };
}

function withoutProblem({ problem: _problem, ...kept }: Kept): Kept {
  return kept;
}
