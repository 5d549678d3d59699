/**
 * What happens to users' workloads by itself: at what they are saved, and whether they are restored at the log-in. On disk in
 * the state folder. What ends with a shutdown anyway is saved by default as far as it runs in capsules, which were made for
 * that; nothing else happens before somebody has asked for it.
 */
import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  type PowerEvent,
  type SessionPolicy,
  type SessionPolicyChange,
  sessionPolicySchema,
} from '../../api/types.ts';
import { writeDurable } from '../durable.ts';
import type { Logger } from '../log.ts';

export const usualPolicy: SessionPolicy = {
  saveAt: ['reboot', 'kexec', 'power-off'],
  jobs: false,
  restoreAtLogin: false,
};

const chosenSchema = sessionPolicySchema.partial();
const fileSchema = z.object({
  version: z.literal(1),
  machine: chosenSchema,
  /** By uid. */
  users: z.record(z.string().regex(/^\d+$/), chosenSchema),
});
type Chosen = z.infer<typeof fileSchema>;

export class Policies {
  readonly #file: string;
  #chosen: Chosen;
  #writing: Promise<unknown> = Promise.resolve();
  readonly #changed: (() => void)[] = [];
  #asksWhetherTold = () => false;

  private constructor(file: string, chosen: Chosen) {
    this.#file = file;
    this.#chosen = chosen;
  }

  /** A file that is damaged is put aside and counts as none. */
  static async open(stateDir: string, log: Logger): Promise<Policies> {
    const file = join(stateDir, 'policies.json');
    try {
      return new Policies(file, fileSchema.parse(JSON.parse(await readFile(file, 'utf8'))));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        log.warn({ err: error, file }, 'what users have chosen to be saved at cannot be read');
        await rename(file, `${file}.damaged`);
      }
      return new Policies(file, { version: 1, machine: {}, users: {} });
    }
  }

  onChange(listener: () => void): void {
    this.#changed.push(listener);
  }

  /** Has it known whether somebody tells of shutdowns. */
  follow(isTold: () => boolean): void {
    this.#asksWhetherTold = isTold;
  }

  get isTold(): boolean {
    return this.#asksWhetherTold();
  }

  of(uid: number): SessionPolicy {
    const own = this.#chosen.users[String(uid)];
    const all = this.#chosen.machine;
    return {
      saveAt: own?.saveAt ?? all.saveAt ?? usualPolicy.saveAt,
      jobs: own?.jobs ?? all.jobs ?? usualPolicy.jobs,
      restoreAtLogin: own?.restoreAtLogin ?? all.restoreAtLogin ?? usualPolicy.restoreAtLogin,
    };
  }

  /** What is not given stays as it is. */
  async change(uid: number, { machine, ...change }: SessionPolicyChange): Promise<void> {
    const next = this.#writing
      .catch(() => {})
      .then(async () => {
        const { version, machine: all, users } = this.#chosen;
        const chosen: Chosen = machine
          ? { version, machine: { ...all, ...change }, users }
          : { version, machine: all, users: { ...users, [uid]: { ...users[String(uid)], ...change } } };
        await writeDurable(this.#file, JSON.stringify(chosen, null, 1));
        this.#chosen = chosen;
      });
    this.#writing = next;
    await next;
    for (const listener of this.#changed) listener();
  }
}

/** Pure. */
export function isSavedAt({ saveAt }: SessionPolicy, event: PowerEvent): boolean {
  // Of a shutdown of unknown kind: rather save for nothing than lose what the user wanted to keep.
  if (event === 'shutdown') return saveAt.some((each) => each !== 'low-battery');
  return saveAt.includes(event);
}
