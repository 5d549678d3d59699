/** What users have agreed to, for each application once, on disk in the engine's state folder. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { writeDurable } from '../durable.ts';
import type { Logger } from '../log.ts';

const agreementSchema = z.object({
  uid: z.number().int().nonnegative(),
  consent: z.string(),
  /** The program it was given for, or the desktop entry where there is none. */
  program: z.string(),
  at: z.string(),
});
export type Agreement = z.infer<typeof agreementSchema>;
const fileSchema = z.object({ version: z.literal(1), agreements: z.array(agreementSchema) });

export class Agreements {
  readonly #file: string;
  #all: Agreement[];
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: string, all: Agreement[]) {
    this.#file = file;
    this.#all = all;
  }

  /** A file that is damaged counts as none: everything is asked again. */
  static async open(stateDir: string, log: Logger): Promise<Agreements> {
    const file = join(stateDir, 'agreements.json');
    try {
      return new Agreements(file, fileSchema.parse(JSON.parse(await readFile(file, 'utf8'))).agreements);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn({ err: error, file }, 'what users have agreed to cannot be read and will be asked again');
      return new Agreements(file, []);
    }
  }

  has(uid: number, consent: string, program: string): boolean {
    return this.#all.some((each) => isSame(each, { uid, consent, program }));
  }

  of(uid: number): Agreement[] {
    return this.#all.filter((each) => each.uid === uid);
  }

  async add(uid: number, consent: string, program: string): Promise<void> {
    if (this.has(uid, consent, program)) return;
    this.#all = [...this.#all, { uid, consent, program, at: new Date().toISOString() }];
    await this.#write();
  }

  /** Takes back what a user has agreed to. @returns how many there were */
  async remove(uid: number, consent: string): Promise<number> {
    const before = this.#all.length;
    this.#all = this.#all.filter((each) => each.uid !== uid || each.consent !== consent);
    if (this.#all.length < before) await this.#write();
    return before - this.#all.length;
  }

  #write(): Promise<void> {
    const written = this.#writing.then(() =>
      writeDurable(this.#file, JSON.stringify({ version: 1, agreements: this.#all })),
    );
    this.#writing = written.catch(() => {});
    return written;
  }
}

const isSame = (a: Omit<Agreement, 'at'>, b: Omit<Agreement, 'at'>) =>
  a.uid === b.uid && a.consent === b.consent && a.program === b.program;
