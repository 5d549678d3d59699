/**
 * How much of the packs each snapshot takes, as it was when that was last measured. What several need counts for the
 * oldest of them. Only figures for people: where they are lost, those of the manifests are shown until the next time.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { writeQuickly } from '../durable.ts';

const fileSchema = z.object({
  version: z.literal(1),
  shares: z.record(z.string(), z.number().int().nonnegative()),
});

export class Shares {
  readonly #file: string;
  #bytes: ReadonlyMap<string, number>;

  private constructor(file: string, bytes: ReadonlyMap<string, number>) {
    this.#file = file;
    this.#bytes = bytes;
  }

  static async open(stateDir: string): Promise<Shares> {
    const file = join(stateDir, 'shares.json');
    try {
      const { shares } = fileSchema.parse(JSON.parse(await readFile(file, 'utf8')));
      return new Shares(file, new Map(Object.entries(shares)));
    } catch {
      return new Shares(file, new Map());
    }
  }

  /** Undefined where it has not been measured since it was made. */
  of(snapshot: string): number | undefined {
    return this.#bytes.get(snapshot);
  }

  async replace(bytes: ReadonlyMap<string, number>): Promise<void> {
    this.#bytes = bytes;
    await writeQuickly(this.#file, JSON.stringify({ version: 1, shares: Object.fromEntries(bytes) }));
  }
}
