/**
 * Desktop entries: files that describe an installed application. After the Desktop Entry Specification 1.5
 * (https://specifications.freedesktop.org/desktop-entry-spec/1.5/). Pure.
 */
import { type Locale, localizedKeys } from './locale.ts';

export interface DesktopAction {
  id: string;
  name: string;
  exec: string;
}

export interface DesktopEntry {
  name: string;
  genericName: string;
  comment: string;
  keywords: string[];
  categories: string[];
  icon: string;
  exec: string;
  /** A program that must be there for the entry to count. */
  tryExec: string;
  /** Folder to start it in; empty for none. */
  path: string;
  terminal: boolean;
  mimeTypes: string[];
  actions: DesktopAction[];
  startupWmClass: string;
  /** Whether menus show it on a desktop of these names. */
  isShown: (desktops: readonly string[]) => boolean;
  /** The user has removed it. */
  hidden: boolean;
}

/** What is wrong with an entry: one sentence without the file's name. */
export class BrokenEntry extends Error {}

type Group = Map<string, string>;

const mainGroup = 'Desktop Entry';

/** @throws BrokenEntry saying what is wrong, where it is not an application's entry that can be used. */
export function parseDesktopEntry(text: string, locale: Locale): DesktopEntry | 'other-type' {
  const groups = parseGroups(text);
  const main = groups.get(mainGroup);
  if (main === undefined) throw new BrokenEntry('it has no group [Desktop Entry]');
  const type = main.get('Type');
  if (type === undefined) throw new BrokenEntry('it has no Type');
  if (type !== 'Application') return 'other-type';
  const localized = (group: Group, key: string) =>
    unescaped(
      localizedKeys(key, locale)
        .map((each) => group.get(each))
        .find((value) => value !== undefined) ?? '',
    );
  const plain = (key: string) => unescaped(main.get(key) ?? '');
  const name = localized(main, 'Name');
  if (name === '') throw new BrokenEntry('it has no Name');
  const exec = plain('Exec');
  const noDisplay = main.get('NoDisplay') === 'true';
  // One that is not displayed may be there for its icon alone, by which a desktop knows a program's windows.
  if (exec === '' && main.get('DBusActivatable') !== 'true' && !noDisplay)
    throw new BrokenEntry('it has no Exec');
  const only = list(main.get('OnlyShowIn'));
  const not = list(main.get('NotShowIn'));
  return {
    name,
    genericName: localized(main, 'GenericName'),
    comment: localized(main, 'Comment'),
    keywords: list(
      localizedKeys('Keywords', locale)
        .map((each) => main.get(each))
        .find((value) => value !== undefined),
    ),
    categories: list(main.get('Categories')),
    icon: localized(main, 'Icon'),
    exec,
    tryExec: plain('TryExec'),
    path: plain('Path'),
    terminal: main.get('Terminal') === 'true',
    mimeTypes: list(main.get('MimeType')),
    actions: list(main.get('Actions')).flatMap((id) => {
      const group = groups.get(`Desktop Action ${id}`);
      const actionName = group === undefined ? '' : localized(group, 'Name');
      const actionExec = unescaped(group?.get('Exec') ?? '');
      return actionName === '' || actionExec === '' ? [] : [{ id, name: actionName, exec: actionExec }];
    }),
    startupWmClass: plain('StartupWMClass'),
    isShown: (desktops) =>
      !noDisplay &&
      (only.length === 0 || desktops.some((desktop) => only.includes(desktop))) &&
      !desktops.some((desktop) => not.includes(desktop)),
    hidden: main.get('Hidden') === 'true',
  };
}

/** Groups in order; of a key that is there twice the first counts, as of a group. */
export function parseGroups(text: string): Map<string, Group> {
  const groups = new Map<string, Group>();
  let current: Group | undefined;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const header = /^\[([^[\]]+)\]$/.exec(trimmed)?.[1];
    if (header !== undefined) {
      current = groups.has(header) ? new Map() : new Map<string, string>();
      if (!groups.has(header)) groups.set(header, current);
      continue;
    }
    const [, key, value] = /^([^=[\]\s]+(?:\[[^\]]+\])?)\s*=\s*(.*)$/.exec(trimmed) ?? [];
    if (key === undefined || value === undefined || current === undefined)
      throw new BrokenEntry(`its line ${index + 1} is not understood`);
    if (!current.has(key)) current.set(key, value);
  }
  return groups;
}

const escapes: Readonly<Record<string, string>> = { s: ' ', n: '\n', t: '\t', r: '\r', '\\': '\\' };

/** Escape sequences of values of type string, section 4. One that is not known stays as it is. */
function unescaped(value: string): string {
  return value.replace(/\\(.)/g, (whole, letter: string) => escapes[letter] ?? whole);
}

/** Values of type strings: parted by semicolons, of which `\;` is one in a value. */
function list(value: string | undefined): string[] {
  if (value === undefined) return [];
  // Escapes are taken in pairs, so that the backslash of an escaped backslash does not escape what follows.
  const items = value.match(/(?:\\.|[^;\\]|\\$)+/g) ?? [];
  return items
    .map((item) =>
      item.replace(/\\(.)/g, (whole, letter: string) => (letter === ';' ? ';' : (escapes[letter] ?? whole))),
    )
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
