/**
 * Which memory of running workloads has not been written since their latest snapshot: what is known of that is not looked
 * at again by the next one. There is one `torpor-unwritten` for each workload that snapshots are taken of at an interval.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { lastWordsOf } from '../command.ts';
import type { Logger } from '../log.ts';

/** It answers in milliseconds, except on a busy machine. */
const answerLimitMs = 10_000;

const answerSchema = z.object({
  error: z.string().optional(),
  processes: z.number().optional(),
  pages: z.number().optional(),
});
type Answer = z.infer<typeof answerSchema>;

/** One `torpor-unwritten`, which is asked one thing at a time. With its end nothing is known any more. */
class Tracker {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #words: () => string;
  readonly #lines: AsyncIterator<string>;
  /** The snapshot since which is known what has been written. */
  since: string | undefined;

  constructor(program: string) {
    this.#child = spawn(program, { env: {}, cwd: '/' });
    // What has ended, or was never there, says so by the end of its lines.
    this.#child.on('error', () => {});
    this.#child.stdin.on('error', () => {});
    this.#words = lastWordsOf(this.#child);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @throws Error with what it says, or where it says nothing; it is of no use then. */
  async ask(command: string): Promise<Answer> {
    let limit: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      limit = setTimeout(() => reject(new Error('torpor-unwritten does not answer')), answerLimitMs);
    });
    try {
      this.#child.stdin.write(`${command}\n`);
      const { value, done } = await Promise.race([this.#lines.next(), late]);
      if (done) throw new Error(this.#words() || 'torpor-unwritten has ended');
      const answer = answerSchema.parse(JSON.parse(value));
      if (answer.error !== undefined) throw new Error(answer.error);
      return answer;
    } finally {
      clearTimeout(limit);
    }
  }

  /** It ends when it has done what it is at: killed in the middle of that, it could leave a thread in the wrong place. */
  end(): void {
    this.since = undefined;
    this.#child.stdin.end();
  }
}

export class UnwrittenMemory {
  readonly #program: string;
  readonly #log: Logger;
  readonly #trackers = new Map<string, Tracker>();

  /** @param program torpor-unwritten, which may be missing: then nothing is known. */
  constructor(program: string, log: Logger) {
    this.#program = program;
    this.#log = log;
  }

  /** The snapshot since which it is known what has been written of a workload. */
  since(workload: string): string | undefined {
    return this.#trackers.get(workload)?.since;
  }

  /**
   * From now on these too, which must run. Never throws: of what cannot be watched everything is handed over.
   * @param filters how many seccomp filters they have from Torpor, which let the kernel be asked for this; what has more
   *   is left alone.
   */
  async watch(workload: string, pids: readonly number[], filters: number): Promise<void> {
    try {
      if (!this.#trackers.has(workload)) this.#trackers.set(workload, new Tracker(this.#program));
    } catch (err) {
      this.#log.warn({ err, workload }, 'it cannot be looked which memory is written');
    }
    await this.#ask(workload, `watch ${[filters, ...pids].join(' ')}`);
  }

  /**
   * While all stand still: writes what has not been written since a snapshot, for who receives pages and for CRIU.
   * @param files which must not exist, and do not where nothing is known.
   * @returns whether they do.
   */
  async list(
    workload: string,
    snapshotFolder: string,
    files: { pages: string; leftOut: string },
  ): Promise<boolean> {
    const answer = await this.#ask(workload, ['list', snapshotFolder, files.pages, files.leftOut].join('\t'));
    return answer !== undefined;
  }

  /** While all stand still: from now on it is looked for what is written, beginning with a snapshot of this instant. */
  async protect(workload: string): Promise<void> {
    const tracker = this.#trackers.get(workload);
    if (tracker === undefined) return;
    tracker.since = undefined;
    await this.#ask(workload, 'protect');
  }

  /** The snapshot of the instant of {@link UnwrittenMemory.protect} exists. */
  begin(workload: string, snapshot: string): void {
    const tracker = this.#trackers.get(workload);
    if (tracker !== undefined) tracker.since = snapshot;
  }

  /** Nobody needs to know any more. */
  end(workload: string): void {
    this.#trackers.get(workload)?.end();
    this.#trackers.delete(workload);
  }

  endAll(): void {
    for (const workload of [...this.#trackers.keys()]) this.end(workload);
  }

  async #ask(workload: string, command: string): Promise<Answer | undefined> {
    const tracker = this.#trackers.get(workload);
    try {
      return await tracker?.ask(command);
    } catch (err) {
      this.#log.warn({ err, workload }, 'it is not known which memory has been written');
      tracker?.end();
      if (this.#trackers.get(workload) === tracker) this.#trackers.delete(workload);
      return undefined;
    }
  }
}
