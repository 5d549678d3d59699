/** What the app remembers: settings, when applications were used, where their windows were. Kept by `conf`. */
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import Conf from 'conf';
import { TorporError } from '../../api/errors.ts';
import type { PlacementStore, SettingsStore } from '../desktop-parts.ts';
import { defaultSettings, type Notice, type Settings, settingsSchema } from '../ipc/view.ts';
import { type WindowPlacement, windowPlacementSchema } from '../shells/placement.ts';
import type { UseLog } from './applications.ts';
import type { Folders } from './folders.ts';

interface Remembered {
  settings: Partial<Settings>;
  used: Record<string, string>;
  placements: Record<string, WindowPlacement>;
}

const fileName = 'app';
/** Those of what is forgotten while the app does not run would stay for ever. */
const mostPlacements = 100;

export class AppStore implements SettingsStore, UseLog {
  readonly #conf: Conf<Remembered>;
  readonly #listeners: ((settings: Settings) => void)[] = [];
  /** What to tell the user about the file as it was found. */
  readonly problem: Notice | undefined;

  constructor(folders: Folders) {
    const cwd = join(folders.configHome, 'torpor');
    const { conf, problem } = openConf(cwd);
    this.#conf = conf;
    this.problem = problem;
  }

  /** A value that does not fit counts as not set. */
  get value(): Settings {
    const kept = this.#conf.get('settings');
    const fitting = Object.entries(kept).filter(
      ([key, value]) =>
        key in settingsSchema.shape && settingsSchema.partial().safeParse({ [key]: value }).success,
    );
    return { ...defaultSettings, ...Object.fromEntries(fitting) };
  }

  async set(change: { [K in keyof Settings]?: Settings[K] | undefined }): Promise<Settings> {
    const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
    const checked = settingsSchema.safeParse({ ...this.value, ...given });
    if (!checked.success)
      throw new TorporError('usage', 'That setting has a value that does not fit.', checked.error.message);
    try {
      this.#conf.set('settings', checked.data);
    } catch (error) {
      throw new TorporError(
        'failed',
        `The settings cannot be written to ${this.#conf.path}: ${(error as Error).message}.`,
        'Free some space or make the folder writable.',
      );
    }
    for (const listener of this.#listeners) listener(checked.data);
    return checked.data;
  }

  onChange(listener: (settings: Settings) => void): void {
    this.#listeners.push(listener);
  }

  get used(): Readonly<Record<string, string>> {
    return this.#conf.get('used');
  }
  note(id: string, at: string): void {
    this.#keep('used', { ...this.used, [id]: at });
  }

  readonly placements: PlacementStore = {
    of: (workload) => windowPlacementSchema.safeParse(this.#conf.get('placements')[workload]).data,
    keep: (workload, placement) => {
      const kept = this.#conf.get('placements');
      if (isDeepStrictEqual(kept[workload], placement)) return;
      const others = Object.entries(kept).filter(([id]) => id !== workload);
      const all = placement === undefined ? others : [...others, [workload, placement] as const];
      this.#keep('placements', Object.fromEntries(all.slice(-mostPlacements)));
    },
  };

  /** A full disk must not keep an application from being started. */
  #keep<K extends keyof Remembered>(key: K, value: Remembered[K]): void {
    try {
      this.#conf.set(key, value as never);
    } catch {
      // It is only a convenience.
    }
  }
}

function openConf(cwd: string): { conf: Conf<Remembered>; problem: Notice | undefined } {
  const open = () =>
    new Conf<Remembered>({
      cwd,
      configName: fileName,
      clearInvalidConfig: false,
      defaults: { settings: {}, used: {}, placements: {} },
      schema: {
        settings: { type: 'object' },
        used: { type: 'object', additionalProperties: { type: 'string' } },
        placements: { type: 'object' },
      },
    });
  try {
    return { conf: open(), problem: undefined };
  } catch (error) {
    const path = join(cwd, `${fileName}.json`);
    const aside = `${path}.damaged`;
    try {
      renameSync(path, aside);
    } catch (cause) {
      throw new TorporError(
        'failed',
        `The settings in ${path} cannot be read or kept: ${(cause as Error).message}.`,
        `Make ${cwd} a folder that you may write to, then start Torpor again.`,
        {},
        { cause },
      );
    }
    return {
      conf: open(),
      problem: {
        level: 'warning',
        message: `The settings in ${path} could not be read: ${(error as Error).message.replace(/\.?$/, '.')}`,
        hint: `They were put aside as ${aside}, and the usual ones are used.`,
      },
    };
  }
}
