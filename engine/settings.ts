/** The settings of the engine, for all users of the machine, on disk in its state folder. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Settings, settingsSchema } from '../api/types.ts';
import { writeDurable } from './durable.ts';
import type { Logger } from './log.ts';

const fileSchema = z.object({ version: z.literal(1), settings: settingsSchema });

export class EngineSettings {
  readonly #file: string;
  #now: Settings;

  private constructor(file: string, now: Settings) {
    this.#file = file;
    this.#now = now;
  }

  /** A file that is damaged counts as none. */
  static async open(stateDir: string, log: Logger): Promise<EngineSettings> {
    const file = join(stateDir, 'settings.json');
    try {
      return new EngineSettings(file, fileSchema.parse(JSON.parse(await readFile(file, 'utf8'))).settings);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn({ err: error, file }, 'the settings cannot be read; all are as they come');
      return new EngineSettings(file, {});
    }
  }

  get now(): Settings {
    return this.#now;
  }

  async replace(settings: Settings): Promise<void> {
    await writeDurable(this.#file, JSON.stringify({ version: 1, settings }, null, 1));
    this.#now = settings;
  }
}
