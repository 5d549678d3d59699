/** Icons by name, after the Icon Theme Specification 0.13: the user's theme, what it inherits, hicolor, pixmaps. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { extname, isAbsolute, join } from 'node:path';
import { BrokenEntry, parseGroups } from './desktop-entry.ts';
import type { Folders } from './folders.ts';

/** What browsers show; an xpm they do not. */
const mediaTypes: Readonly<Record<string, string>> = { '.png': 'image/png', '.svg': 'image/svg+xml' };
const fallbackThemes = ['Adwaita', 'hicolor'];
const largestBytes = 4 * 1024 * 1024;

export interface IconFile {
  path: string;
  type: string;
}

interface ThemeFolder {
  path: string;
  size: number;
  scalable: boolean;
}

interface Theme {
  folders: ThemeFolder[];
  inherits: string[];
}

export class Icons {
  readonly #folders: Folders;
  readonly #themes = new Map<string, Promise<Theme>>();
  readonly #found = new Map<string, Promise<IconFile | undefined>>();
  #listings = new Map<string, Promise<ReadonlySet<string>>>();

  constructor(folders: Folders) {
    this.#folders = folders;
  }

  /** The file nearest to this size, larger rather than smaller; undefined where there is none a browser shows. */
  find(name: string, sizePx: number): Promise<IconFile | undefined> {
    const key = `${sizePx} ${name}`;
    const known = this.#found.get(key) ?? this.#look(name, sizePx);
    this.#found.set(key, known);
    return known;
  }

  /** Forgets everything: applications were installed or removed, or the theme is another one. */
  refresh(): void {
    this.#themes.clear();
    this.#found.clear();
    this.#listings.clear();
  }

  async #look(name: string, sizePx: number): Promise<IconFile | undefined> {
    if (name === '') return undefined;
    if (isAbsolute(name)) return usable(name);
    // Some entries have an extension, against the specification.
    const plain = name.replace(/\.(png|svg|xpm)$/, '');
    if (plain.includes('/')) return undefined;
    for (const theme of await this.#searchOrder()) {
      const found = await this.#inTheme(theme, plain, sizePx);
      if (found !== undefined) return found;
    }
    for (const folder of this.#folders.data) {
      for (const place of ['pixmaps', 'icons']) {
        const found = await this.#inFolder(join(folder, place), plain);
        if (found !== undefined) return found;
      }
    }
    return undefined;
  }

  async #searchOrder(): Promise<string[]> {
    const order: string[] = [];
    const add = async (name: string): Promise<void> => {
      if (order.includes(name)) return;
      order.push(name);
      for (const parent of (await this.#theme(name)).inherits) await add(parent);
    };
    for (const name of [await this.#userTheme(), ...fallbackThemes]) if (name !== undefined) await add(name);
    // Every application puts its own icon there, so it is the last to be asked.
    return [...order.filter((name) => name !== 'hicolor'), 'hicolor'];
  }

  async #userTheme(): Promise<string | undefined> {
    for (const version of ['gtk-4.0', 'gtk-3.0']) {
      for (const folder of this.#folders.config) {
        const text = await readFile(join(folder, version, 'settings.ini'), 'utf8').catch(() => '');
        const name = /^\s*gtk-icon-theme-name\s*=\s*"?([^"\n]+?)"?\s*$/m.exec(text)?.[1];
        if (name !== undefined && !name.includes('/')) return name;
      }
    }
    return undefined;
  }

  #theme(name: string): Promise<Theme> {
    const known = this.#themes.get(name) ?? this.#readTheme(name);
    this.#themes.set(name, known);
    return known;
  }

  async #readTheme(name: string): Promise<Theme> {
    const roots = [
      join(this.#folders.home, '.icons'),
      ...this.#folders.data.map((each) => join(each, 'icons')),
    ].map((root) => join(root, name));
    for (const root of roots) {
      const text = await readFile(join(root, 'index.theme'), 'utf8').catch(() => undefined);
      if (text === undefined) continue;
      try {
        return themeOf(text, roots);
      } catch (error) {
        if (!(error instanceof BrokenEntry)) throw error;
      }
    }
    return { folders: [], inherits: [] };
  }

  async #inTheme(theme: string, name: string, sizePx: number): Promise<IconFile | undefined> {
    const { folders } = await this.#theme(theme);
    const distance = ({ size, scalable }: ThemeFolder) =>
      scalable ? 0.5 : size >= sizePx ? size - sizePx : (sizePx - size) * 8;
    for (const { path } of [...folders].sort((a, b) => distance(a) - distance(b))) {
      const found = await this.#inFolder(path, name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  async #inFolder(folder: string, name: string): Promise<IconFile | undefined> {
    const listing = this.#listings.get(folder) ?? list(folder);
    this.#listings.set(folder, listing);
    const names = await listing;
    for (const extension of Object.keys(mediaTypes))
      if (names.has(name + extension)) return usable(join(folder, name + extension));
    return undefined;
  }
}

async function list(folder: string): Promise<ReadonlySet<string>> {
  return new Set(await readdir(folder).catch(() => []));
}

async function usable(path: string): Promise<IconFile | undefined> {
  const type = mediaTypes[extname(path).toLowerCase()];
  const info = await stat(path).catch(() => undefined);
  return type === undefined || !info?.isFile() || info.size > largestBytes ? undefined : { path, type };
}

/** @throws BrokenEntry where the index is not understood. */
function themeOf(text: string, roots: readonly string[]): Theme {
  const groups = parseGroups(text);
  const main = groups.get('Icon Theme');
  const names = `${main?.get('Directories') ?? ''},${main?.get('ScaledDirectories') ?? ''}`;
  const folders = names
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean)
    .flatMap((name) => {
      const group = groups.get(name);
      const size = Number(group?.get('Size') ?? 0) * Number(group?.get('Scale') ?? 1);
      const scalable = group?.get('Type') === 'Scalable' || /(^|\/)scalable(\/|$)/.test(name);
      return roots.map((root) => ({ path: join(root, name), size, scalable }));
    });
  const inherits = (main?.get('Inherits') ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  return { folders, inherits };
}
