/**
 * What is carried for each capsule while it runs, in the user's runtime folder: a bridge that ended, or was killed, while
 * applications run on is followed by one that goes on from there. No capsule reaches that folder.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type KeptState, keptSchema } from './carried.ts';

export class Kept {
  readonly #folder: string | undefined;

  /** @param folder where there is none, nothing is kept. */
  constructor(folder: string | undefined) {
    this.#folder = folder;
  }

  #path(id: string): string | undefined {
    return this.#folder === undefined || !/^[\w-]+$/.test(id) ? undefined : join(this.#folder, `${id}.json`);
  }

  /** What was kept last; undefined for nothing, or nothing that can be read. */
  read(id: string): KeptState | undefined {
    const path = this.#path(id);
    try {
      return path === undefined ? undefined : keptSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
    } catch {
      return undefined;
    }
  }

  /** It is written at once, before an application is told that it has something. What cannot be written is not kept. */
  write(id: string, state: KeptState): void {
    const path = this.#path(id);
    if (path === undefined || this.#folder === undefined) return;
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      writeFileSync(`${path}.new`, JSON.stringify(state), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch {
      this.remove(id);
    }
  }

  remove(id: string): void {
    const path = this.#path(id);
    try {
      if (path !== undefined) rmSync(path, { force: true });
    } catch {
      // The folder has gone, or cannot be written to: nothing is kept there.
    }
  }
}
