/** A jump to another kernel as it is written down, for the engine that starts next: after it, or after a death on the way. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { kexecTimesSchema } from '../../api/types.ts';
import { writeDurable } from '../durable.ts';

const departureSchema = z.object({
  version: z.literal(1),
  /** Of the boot that is left. */
  boot: z.string(),
  from: z.string(),
  to: z.string(),
  /** Until it is `jumping`, whatever was saved for it goes on where it was. */
  phase: z.enum(['saving', 'jumping']),
  /** The name of what is saved for it; absent where nothing runs. */
  session: z.string().optional(),
  /** Names of what was saved for jumps before, and did not come back yet. */
  earlier: z.array(z.string()),
  took: kexecTimesSchema,
});
export type Departure = z.infer<typeof departureSchema>;

export class Departures {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, 'kexec.json');
  }

  /** @throws Error where it is damaged. */
  async read(): Promise<Departure | undefined> {
    const text = await readFile(this.#path, 'utf8').catch(() => undefined);
    return text === undefined ? undefined : departureSchema.parse(JSON.parse(text));
  }

  async write(departure: Departure): Promise<void> {
    await writeDurable(this.#path, JSON.stringify(departure, null, 1));
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}

/** All that was saved for it and comes back with it. */
export const sessionsOf = ({ session, earlier }: Departure): string[] => [
  ...earlier,
  ...(session === undefined ? [] : [session]),
];
