/**
 * Sessions: sets of workloads that were suspended at one instant. That a session's file is there is what makes all its
 * snapshots valid at once: it is written, durably, when every one of them is, and before any process is ended. Those that
 * were saved under a name keep it here, too.
 */
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { sessionReasons } from '../../api/types.ts';
import { privateFolder, syncFolder, writeDurable } from '../durable.ts';

/** What a session was saved as; of what one command suspended without a name there is none. */
const titleSchema = z.object({
  name: z.string(),
  /** Whose name for it that is. */
  uid: z.number().int().nonnegative(),
  reason: z.enum(sessionReasons),
});
export type SessionTitle = z.infer<typeof titleSchema>;

const storedSessionSchema = z.object({
  version: z.literal(1),
  id: z.string().regex(/^[0-9a-f]{12}$/),
  takenAt: z.string(),
  members: z.array(z.object({ workload: z.string(), name: z.string(), snapshot: z.string() })).min(1),
  title: titleSchema.optional(),
});
export type StoredSession = z.infer<typeof storedSessionSchema>;
export type TitledSession = StoredSession & { title: SessionTitle };

export class Sessions {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async open(stateDir: string): Promise<Sessions> {
    const folder = join(stateDir, 'sessions');
    await privateFolder(folder);
    return new Sessions(folder);
  }

  #path(id: string): string {
    return join(this.#folder, `${id}.json`);
  }

  /** When this has returned, the session exists; where it throws, it does not. */
  async commit(session: StoredSession): Promise<void> {
    try {
      await writeDurable(this.#path(session.id), JSON.stringify(session, null, 1));
    } catch (error) {
      // Its name may be there, only not for certain.
      await rm(this.#path(session.id), { force: true });
      await syncFolder(this.#folder).catch(() => {});
      throw error;
    }
  }

  async has(id: string): Promise<boolean> {
    return (await stat(this.#path(id)).catch(() => undefined)) !== undefined;
  }

  /** Those that were saved under a name, the newest first. */
  async titled(): Promise<TitledSession[]> {
    const all = await Promise.all(
      (await readdir(this.#folder)).map((name) => this.read(name.replace(/\.json$/, ''))),
    );
    return all
      .flatMap((session) => {
        const title = session?.title;
        return session === undefined || title === undefined ? [] : [{ ...session, title }];
      })
      .sort((a, b) => (a.takenAt < b.takenAt ? 1 : -1));
  }

  /** Gives it another name. */
  async rename({ title, ...session }: TitledSession, name: string): Promise<void> {
    await writeDurable(
      this.#path(session.id),
      JSON.stringify({ ...session, title: { ...title, name } }, null, 1),
    );
  }

  /** Takes its name away. Its snapshots know each other as before. */
  async forgetTitle({ title: _title, ...session }: TitledSession): Promise<void> {
    await writeDurable(this.#path(session.id), JSON.stringify(session, null, 1));
  }

  /** Removes those of which no snapshot is left, as when all were removed. */
  async sweep(snapshots: readonly string[]): Promise<void> {
    const left = new Set(snapshots);
    for (const name of await readdir(this.#folder)) {
      const session = await this.read(name.replace(/\.json$/, ''));
      if (session !== undefined && !session.members.some(({ snapshot }) => left.has(snapshot)))
        await rm(join(this.#folder, name), { force: true });
    }
  }

  /** Undefined where there is none, or its file is damaged. */
  async read(id: string): Promise<StoredSession | undefined> {
    const text = await readFile(this.#path(id), 'utf8').catch(() => undefined);
    if (text === undefined) return undefined;
    try {
      return storedSessionSchema.parse(JSON.parse(text));
    } catch {
      return undefined;
    }
  }
}
