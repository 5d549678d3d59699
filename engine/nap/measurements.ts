/**
 * What putting programs aside has gained and cost on this machine, so that it can be told before it is done again: by user
 * and name of the program, the last few times of each. In a file of the state folder; one that is lost is no harm.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { nameOfCommand } from '../../api/command-name.ts';
import { type Measured, measuredSchema } from '../../api/types.ts';
import { specOf, type WorkloadKind } from '../../proto/manifest.ts';
import { writeDurable } from '../durable.ts';
import type { Logger } from '../log.ts';

const timesKept = 5;
const programsKept = 200;

type What = keyof Measured;
type One<W extends What> = NonNullable<Measured[W]>;

const timesSchema = z.object({
  suspend: z.array(measuredSchema.shape.suspend.unwrap()).default([]),
  resume: z.array(measuredSchema.shape.resume.unwrap()).default([]),
  nap: z.array(measuredSchema.shape.nap.unwrap()).default([]),
  wake: z.array(measuredSchema.shape.wake.unwrap()).default([]),
});
type Times = z.infer<typeof timesSchema>;
const fileSchema = z.object({ version: z.literal(1), programs: z.array(z.tuple([z.string(), timesSchema])) });

/** Pure. */
export const programKey = (uid: number, command: readonly string[]): string =>
  `${uid} ${nameOfCommand(command)}`;

export class Measurements {
  readonly #file: string;
  readonly #log: Logger;
  /** The one that was measured last is the last. */
  readonly #programs: Map<string, Times>;
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: string, log: Logger, programs: Map<string, Times>) {
    this.#file = file;
    this.#log = log;
    this.#programs = programs;
  }

  /** A file that is damaged counts as none. */
  static async open(stateDir: string, log: Logger): Promise<Measurements> {
    const file = join(stateDir, 'measurements.json');
    try {
      const { programs } = fileSchema.parse(JSON.parse(await readFile(file, 'utf8')));
      return new Measurements(file, log, new Map(programs));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn({ err: error, file }, 'what was measured cannot be read');
      return new Measurements(file, log, new Map());
    }
  }

  add<W extends What>(workload: WorkloadKind, what: W, measured: One<W>): void {
    const { user, command } = specOf(workload);
    const key = programKey(user.uid, command);
    const times = this.#programs.get(key) ?? timesSchema.parse({});
    const all = [...times[what], measured].slice(-timesKept);
    this.#programs.delete(key);
    this.#programs.set(key, { ...times, [what]: all });
    for (const oldest of this.#programs.keys()) {
      if (this.#programs.size <= programsKept) break;
      this.#programs.delete(oldest);
    }
    this.#writing = this.#writing.then(() => this.#write());
  }

  /** Medians; what was never measured is absent. */
  of(uid: number, command: readonly string[]): Measured {
    const times = this.#programs.get(programKey(uid, command));
    if (times === undefined) return {};
    const { suspend, resume, nap, wake } = times;
    return {
      ...(suspend.length === 0
        ? {}
        : {
            suspend: {
              gainBytes: medianOf(suspend.map((each) => each.gainBytes)),
              diskBytes: medianOf(suspend.map((each) => each.diskBytes)),
              ms: medianOf(suspend.map((each) => each.ms)),
            },
          }),
      ...(resume.length === 0 ? {} : { resume: { ms: medianOf(resume.map((each) => each.ms)) } }),
      ...(nap.length === 0
        ? {}
        : {
            nap: {
              gainBytes: medianOf(nap.map((each) => each.gainBytes)),
              ms: medianOf(nap.map((each) => each.ms)),
            },
          }),
      ...(wake.length === 0 ? {} : { wake: { ms: medianOf(wake.map((each) => each.ms)) } }),
    };
  }

  /** Resolves once all is written. */
  flush(): Promise<void> {
    return this.#writing;
  }

  async #write(): Promise<void> {
    const text = JSON.stringify({ version: 1, programs: [...this.#programs] });
    await writeDurable(this.#file, text).catch((error: unknown) =>
      this.#log.warn({ err: error, file: this.#file }, 'what was measured could not be written'),
    );
  }
}

/** Of an even number the lower one of both in the middle, so that it has been so once. Pure. */
export function medianOf(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? 0;
}
