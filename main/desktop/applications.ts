/** The installed applications: desktop entries of all data folders, with their icons, types and when they were used. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { Applications, Icon, LaunchCommand } from '../desktop-parts.ts';
import type { Application } from '../ipc/view.ts';
import { BrokenEntry, type DesktopEntry, parseDesktopEntry } from './desktop-entry.ts';
import { expandExec, splitExec, takesFiles } from './exec.ts';
import type { Folders } from './folders.ts';
import { Icons } from './icons.ts';
import { ownEntry } from './integration.ts';
import type { Locale } from './locale.ts';
import { openersOf, readAssociations, typeOfFile, withParents } from './mime.ts';
import { isProgram } from './programs.ts';
import { letterTile } from './tile.ts';

/** Terminals with the option that takes a command as separate arguments, the most usual first. */
const terminals = [
  ['xterm', '-e'],
  ['x-terminal-emulator', '-e'],
  ['konsole', '-e'],
  ['xfce4-terminal', '-x'],
  ['gnome-terminal', '--wait', '--'],
] as const;

/** How long what is known counts without a look at the folders, in milliseconds. */
const freshMs = 500;

type Found =
  | { kind: 'entry'; entry: DesktopEntry; path: string }
  | { kind: 'broken'; name: string; problem: string };

export interface UseLog {
  /** When each application was last started from here, ISO 8601. */
  readonly used: Readonly<Record<string, string>>;
  note(id: string, at: string): void;
}

export class InstalledApplications implements Applications {
  readonly #folders: Folders;
  readonly #locale: Locale;
  readonly #desktops: readonly string[];
  readonly #uses: UseLog;
  readonly #icons: Icons;
  #found: Promise<ReadonlyMap<string, Found>> | undefined;
  /** Of what {@link #found} was read from, and when that was last looked at. */
  #signature = '';
  #lookedAt = Number.NEGATIVE_INFINITY;
  #subfolders: readonly string[] = [];
  /** An entry that is written over in place changes no folder. */
  #entries: readonly string[] = [];

  /** @param desktops names of the desktop, as in XDG_CURRENT_DESKTOP */
  constructor(folders: Folders, locale: Locale, desktops: readonly string[], uses: UseLog) {
    this.#folders = folders;
    this.#locale = locale;
    this.#desktops = desktops;
    this.#uses = uses;
    this.#icons = new Icons(folders);
  }

  async list(): Promise<Application[]> {
    const found = await this.#all();
    const shown = [...found].filter(
      ([, each]) => each.kind === 'broken' || each.entry.isShown(this.#desktops),
    );
    return shown
      .map(([id, each]) => this.#describe(id, each))
      .sort(
        (a, b) =>
          (b.usedAt ?? '').localeCompare(a.usedAt ?? '') ||
          Number(a.problem !== undefined) - Number(b.problem !== undefined) ||
          a.name.localeCompare(b.name),
      );
  }

  async forFile(path: string): Promise<Application[]> {
    const found = await this.#all();
    const types = await withParents(await typeOfFile(path), this.#folders);
    const openers = [...found].flatMap(([id, each]) =>
      each.kind === 'entry' && takesFiles(each.entry.exec) !== 'none' ? [this.#describe(id, each)] : [],
    );
    const order = openersOf(types, await readAssociations(this.#folders, this.#desktops), openers);
    return order.flatMap((id) => openers.find((each) => each.id === id) ?? []);
  }

  async commandFor(
    id: string,
    { action, files = [] }: { action?: string; files?: readonly string[] },
  ): Promise<LaunchCommand> {
    const found = (await this.#all()).get(id);
    if (found === undefined)
      throw new TorporError('not-found', `There is no application ${id}.`, 'Choose one of the list.');
    if (found.kind === 'broken')
      throw new TorporError('failed', found.problem, 'Install the application anew, or mend the file.');
    const { entry, path } = found;
    const exec = action === undefined ? entry.exec : entry.actions.find((each) => each.id === action)?.exec;
    if (exec === undefined)
      throw new TorporError('not-found', `${entry.name} has no action ${action}.`, 'Choose another one.');
    const argv = argvOf(exec, { files, name: entry.name, icon: entry.icon, entryPath: path });
    const program = argv[0] ?? '';
    if (!(await isProgram(program)))
      throw new TorporError(
        'failed',
        `${entry.name} cannot be started: its program ${program} is not there.`,
        'Install the application anew.',
      );
    const command = entry.terminal ? await this.inTerminal(argv) : { name: basename(program), argv };
    return { ...command, ...(entry.path === '' ? {} : { cwd: entry.path }) };
  }

  async inTerminal(argv: readonly string[]): Promise<LaunchCommand> {
    for (const [program, ...options] of terminals)
      if (await isProgram(program))
        return { name: basename(argv[0] ?? program), argv: [program, ...options, ...argv] };
    throw new TorporError(
      'failed',
      'No terminal program is installed, so a command cannot be shown in one.',
      'Install one: apt-get install xterm.',
    );
  }

  async of({
    application,
    command,
  }: {
    application?: string | undefined;
    command: readonly string[];
  }): Promise<Application | undefined> {
    const found = await this.#all();
    const known = application === undefined ? undefined : found.get(application);
    if (application !== undefined && known !== undefined) return this.#describe(application, known);
    const program = programOf(command);
    const candidates = [...found].flatMap(([id, each]) =>
      each.kind === 'entry' && each.entry.isShown(this.#desktops) && isMeantBy(id, each.entry, program)
        ? [{ id, each, words: splitExec(each.entry.exec).filter(({ text }) => !/^%.$/.test(text)).length }]
        : [],
    );
    // One with more arguments is for a part of the application, such as its settings.
    const [best] = candidates.sort((a, b) => a.words - b.words);
    return best && this.#describe(best.id, best.each);
  }

  async icon(of: { application?: string; name: string }, sizePx: number): Promise<Icon> {
    const found = of.application === undefined ? undefined : (await this.#all()).get(of.application);
    const icon = found?.kind === 'entry' ? await this.#icons.find(found.entry.icon, sizePx) : undefined;
    const bytes = icon && (await readFile(icon.path).catch(() => undefined));
    if (icon !== undefined && bytes !== undefined) return { type: icon.type, bytes };
    const name = found?.kind === 'entry' ? found.entry.name : of.name;
    return { type: 'image/svg+xml', bytes: Buffer.from(letterTile(name)) };
  }

  async used(id: string): Promise<void> {
    this.#uses.note(id, new Date().toISOString());
  }

  #describe(id: string, found: Found): Application {
    const usedAt = this.#uses.used[id];
    const shared = {
      id,
      icon: `/icons/app/${encodeURIComponent(id)}`,
      ...(usedAt === undefined ? {} : { usedAt }),
    };
    if (found.kind === 'broken') {
      const { name, problem } = found;
      const none = { comment: '', keywords: [], categories: [], terminal: false, actions: [], mimeTypes: [] };
      return { ...shared, ...none, name, problem };
    }
    const { name, comment, genericName, keywords, categories, terminal, actions, mimeTypes } = found.entry;
    return {
      ...shared,
      name,
      comment: comment || genericName,
      keywords: genericName === '' ? keywords : [...keywords, genericName],
      categories,
      terminal,
      actions: actions.map((action) => ({ id: action.id, name: action.name })),
      mimeTypes,
    };
  }

  /** Read anew when something was installed, removed or edited. */
  async #all(): Promise<ReadonlyMap<string, Found>> {
    if (this.#found !== undefined && performance.now() - this.#lookedAt < freshMs) return this.#found;
    this.#lookedAt = performance.now();
    const signature = await this.#signatureNow();
    if (this.#found === undefined || signature !== this.#signature) {
      this.#icons.refresh();
      this.#found = this.#read();
      await this.#found;
      this.#signature = await this.#signatureNow();
    }
    return this.#found;
  }

  async #signatureNow(): Promise<string> {
    const paths = [...this.#roots(), ...this.#subfolders, ...this.#entries];
    const times = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)));
    return times.map((info) => info?.ctimeMs ?? 0).join(' ');
  }

  #roots(): string[] {
    return this.#folders.data.map((folder) => join(folder, 'applications'));
  }

  /** Of entries with the same id the one in the most important folder counts, also where it says "hidden". */
  async #read(): Promise<Map<string, Found>> {
    const found = new Map<string, Found | undefined>();
    const subfolders: string[] = [];
    const entries: string[] = [];
    for (const root of this.#roots()) {
      const names = await readdir(root, { recursive: true }).catch(() => [] as string[]);
      for (const name of names.filter((each) => each.endsWith('.desktop')).sort()) {
        const id = name.replaceAll('/', '-');
        // Not in itself.
        if (id === ownEntry) continue;
        if (name.includes('/')) subfolders.push(dirname(join(root, name)));
        entries.push(join(root, name));
        if (!found.has(id)) found.set(id, await this.#readEntry(join(root, name), id));
      }
    }
    this.#subfolders = [...new Set(subfolders)];
    this.#entries = entries;
    return new Map([...found].flatMap(([id, each]) => (each === undefined ? [] : [[id, each] as const])));
  }

  async #readEntry(path: string, id: string): Promise<Found | undefined> {
    let text = '';
    const broken = (fault: string): Found => ({
      kind: 'broken',
      // Its own, if that much can be read.
      name: /^Name[ \t]*=[ \t]*(\S.*)$/m.exec(text)?.[1] ?? basename(id, '.desktop'),
      problem: `${path} cannot be used: ${fault}.`,
    });
    try {
      text = await readFile(path, 'utf8');
      const entry = parseDesktopEntry(text, this.#locale);
      if (entry === 'other-type' || entry.hidden || entry.exec === '') return undefined;
      if (entry.tryExec !== '' && !(await isProgram(entry.tryExec))) return undefined;
      // So that a quote that is not closed is known before somebody starts it.
      splitExec(entry.exec);
      return { kind: 'entry', entry, path };
    } catch (error) {
      if (error instanceof BrokenEntry) return broken(error.message);
      // A link to what has been removed is what uninstalling often leaves.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      return broken((error as Error).message);
    }
  }
}

/** @throws TorporError naming the entry where its command line, or that of the action, is broken. */
function argvOf(exec: string, about: Parameters<typeof expandExec>[1]): string[] {
  try {
    return expandExec(exec, about);
  } catch (error) {
    if (!(error instanceof BrokenEntry)) throw error;
    throw new TorporError(
      'failed',
      `${about.entryPath} cannot be used: ${error.message}.`,
      'Install the application anew, or mend the file.',
    );
  }
}

/** Programs that stand for what they run, which is named by their first argument. */
const interpreters = /^(?:sh|bash|dash|perl|ruby|node|java|wine|flatpak|snap|python[\d.]*)$/;

/** What tells a command from others: its program's name, or with an interpreter also what that runs. */
function programOf(command: readonly string[]): string {
  const isEnv = basename(command[0] ?? '') === 'env';
  const start = isEnv ? command.findIndex((word, at) => at > 0 && !/^-|^\w+=/.test(word)) : 0;
  const [program = '', ...args] = start < 0 ? [] : command.slice(start);
  const name = basename(program);
  if (!interpreters.test(name)) return name;
  const runs = args.find((word) => !word.startsWith('-') && word !== 'run' && !/^%.$/.test(word));
  return runs === undefined ? name : `${name} ${runs}`;
}

/** Whether such a program is started by this entry. */
function isMeantBy(id: string, { exec, tryExec, startupWmClass }: DesktopEntry, program: string): boolean {
  if (program === '') return false;
  const own = programOf(splitExec(exec).map(({ text }) => text));
  // Some programs go by several names, such as gimp for gimp-2.10.
  const names = [own, basename(tryExec), startupWmClass, basename(id, '.desktop')];
  return names.includes(program);
}
