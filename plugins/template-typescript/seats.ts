/**
 * Seats: files in a folder, each of which one workload at a time may hold, as the seats of a floating licence. In the
 * file is the id of the workload that holds it.
 */
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Without a dot, so that what is set aside, `.NAME.ID`, can be told from a seat. */
export const seatPattern = /^[A-Za-z0-9][\w-]{0,99}$/;

export interface TakenSeat {
  name: string;
  /** Id of the workload that has it. */
  by: string;
}

export class Seats {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async heldBy(id: string): Promise<string[]> {
    const names = (await this.#files()).filter((name) => seatPattern.test(name));
    const holders = await Promise.all(names.map((name) => this.#holderOf(name)));
    return names.filter((_, index) => holders[index] === id);
  }

  /** Lets go of all that a workload holds. @returns what it has let go of, now or by an earlier call. */
  async giveBack(id: string): Promise<string[]> {
    // A seat is set aside rather than removed: should this program end before its answer has reached the engine, which
    // then has no state, the files still say what there is to be undone.
    for (const name of await this.heldBy(id)) await rename(join(this.#folder, name), this.#aside(name, id));
    return this.givenBackBy(id);
  }

  async givenBackBy(id: string): Promise<string[]> {
    return (await this.#files())
      .filter((name) => name.startsWith('.') && name.endsWith(`.${id}`))
      .map((name) => name.slice(1, -id.length - 1))
      .filter((name) => seatPattern.test(name));
  }

  /** Takes these seats for a workload; what it has already stays its. @returns those that another one has by now. */
  async take(names: readonly string[], id: string): Promise<TakenSeat[]> {
    if (names.length > 0) await mkdir(this.#folder, { recursive: true });
    const taken: TakenSeat[] = [];
    for (const name of names) {
      const aside = this.#aside(name, id);
      await writeFile(aside, `${id}\n`);
      try {
        // A link is made whole or not at all, and not over what is there.
        await link(aside, join(this.#folder, name));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        const by = await this.#holderOf(name);
        if (by !== id) taken.push({ name, by });
      }
      await rm(aside);
    }
    return taken;
  }

  #aside(name: string, id: string): string {
    return join(this.#folder, `.${name}.${id}`);
  }

  async #holderOf(name: string): Promise<string> {
    return (await readFile(join(this.#folder, name), 'utf8').catch(() => '')).trim();
  }

  async #files(): Promise<string[]> {
    return readdir(this.#folder).catch(() => []);
  }
}
