/**
 * Who may use the microphone, in the user's settings: `torpor/microphone.json` there. An application is known by what it
 * was started as, since inside a capsule anybody could call itself anything.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';

const schema = z.object({ version: z.literal(1), applications: z.record(z.string(), z.enum(['yes', 'no'])) });

export class Consents {
  readonly file: string;

  constructor(env: NodeJS.ProcessEnv = process.env) {
    this.file = join(env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'torpor', 'microphone.json');
  }

  /** Read each time: the user may have changed it. @throws Error where it is no such file. */
  async #read(): Promise<Record<string, 'yes' | 'no'>> {
    const text = await readFile(this.file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (text === undefined) return {};
    try {
      return schema.parse(JSON.parse(text)).applications;
    } catch {
      throw new Error(
        `${this.file} is not as expected, so nobody is let at the microphone. Mend or remove it.`,
      );
    }
  }

  /** @throws Error where the file cannot be understood. */
  async of(application: string): Promise<boolean | undefined> {
    const answer = (await this.#read())[application];
    return answer === undefined ? undefined : answer === 'yes';
  }

  async remember(application: string, allowed: boolean): Promise<void> {
    const applications = { ...(await this.#read()), [application]: allowed ? 'yes' : 'no' };
    await mkdir(dirname(this.file), { recursive: true, mode: 0o700 });
    const temporary = `${this.file}.${process.pid}`;
    await writeFile(temporary, `${JSON.stringify({ version: 1, applications }, undefined, 2)}\n`, {
      mode: 0o600,
    });
    await rename(temporary, this.file);
  }
}
