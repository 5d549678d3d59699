/** The programs that a user never wants to nap, by name, in a file of the state folder. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { nameOfCommand } from '../../api/command-name.ts';
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import { writeDurable } from '../durable.ts';
import type { Logger } from '../log.ts';

const fileSchema = z.object({ version: z.literal(1), users: z.record(z.string(), z.array(z.string())) });
const longestName = 200;
const mostNames = 500;

export class NeverNap {
  readonly #file: string;
  #users: Readonly<Record<string, readonly string[]>>;

  private constructor(file: string, users: Record<string, string[]>) {
    this.#file = file;
    this.#users = users;
  }

  /** A file that is damaged counts as none. */
  static async open(stateDir: string, log: Logger): Promise<NeverNap> {
    const file = join(stateDir, 'never-nap.json');
    try {
      return new NeverNap(file, fileSchema.parse(JSON.parse(await readFile(file, 'utf8'))).users);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn({ err: error, file }, 'what is never to nap cannot be read');
      return new NeverNap(file, {});
    }
  }

  /** Names of programs, sorted. */
  of(uid: number): string[] {
    return [...(this.#users[uid] ?? [])].sort();
  }

  /** @throws TorporError `usage` for what can be no name of a program. */
  async set(uid: number, name: string, isNever: boolean): Promise<void> {
    if (name === '' || name.length > longestName || name.includes('/'))
      throw new TorporError(
        'usage',
        `"${name.slice(0, 40)}" is no name of a program.`,
        'Give it as `torpor memory` shows it.',
      );
    const others = this.of(uid).filter((each) => each !== name);
    if (isNever && others.length >= mostNames)
      throw new TorporError('usage', `There are ${mostNames} programs already that never nap.`);
    const users = { ...this.#users, [uid]: isNever ? [...others, name] : others };
    await writeDurable(this.#file, JSON.stringify({ version: 1, users }, null, 1));
    this.#users = users;
  }

  /** What stands in the way of a nap of this user's program. */
  findings(uid: number, command: readonly string[]): Finding[] {
    const name = nameOfCommand(command);
    if (!(this.#users[uid] ?? []).includes(name)) return [];
    return [
      {
        tie: 'excluded',
        verdict: 'blocking',
        by: '',
        what: `You have said that ${name} is never to nap.`,
        hint: `\`torpor nap --allow ${name}\` takes that back; \`--anyway\` naps it this once.`,
      },
    ];
  }
}
