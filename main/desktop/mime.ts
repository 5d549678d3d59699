/**
 * Which type a file has, and which applications open it: shared-mime-info by GLib's own `gio`, and the associations of
 * the MIME Applications Associations specification 1.0.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { TorporError } from '../../api/errors.ts';
import { BrokenEntry, parseGroups } from './desktop-entry.ts';
import type { Folders } from './folders.ts';

const run = promisify(execFile);

/** @throws TorporError where the file is not there or cannot be read. */
export async function typeOfFile(path: string): Promise<string> {
  try {
    const { stdout } = await run('gio', ['info', '-a', 'standard::content-type', path], {
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    });
    return /^\s*standard::content-type:\s*(\S+)/m.exec(stdout)?.[1] ?? 'application/octet-stream';
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim().split(': ').at(-1);
    throw new TorporError(
      'not-found',
      `${path} cannot be opened: ${said || (error as Error).message}.`,
      'Choose a file that is there and that you may read.',
    );
  }
}

/** The type itself, then what it is a kind of, from the closest: such as text/x-python, text/plain. */
export async function withParents(type: string, folders: Folders): Promise<string[]> {
  const parents = new Map<string, string[]>();
  for (const folder of folders.data) {
    const text = await readFile(join(folder, 'mime/subclasses'), 'utf8').catch(() => '');
    for (const line of text.split('\n')) {
      const [child, parent] = line.split(' ');
      if (child && parent) parents.set(child, [...(parents.get(child) ?? []), parent]);
    }
  }
  const found = [type];
  for (const each of found)
    for (const parent of parents.get(each) ?? []) if (!found.includes(parent)) found.push(parent);
  if (type.startsWith('text/') && !found.includes('text/plain')) found.push('text/plain');
  return found;
}

/** For each type the ids of applications, the most important first. */
export interface Associations {
  defaults: Map<string, string[]>;
  added: Map<string, string[]>;
  /** Those whose own entries do not count for the type. */
  removed: Map<string, string[]>;
}

export interface AssociationFile {
  text: string;
  /** One such as `gnome-mimeapps.list` says only which application is the default. */
  desktopSpecific: boolean;
}

/** From all mimeapps.list files there are, the most important first. */
export async function readAssociations(folders: Folders, desktops: readonly string[]): Promise<Associations> {
  const names = [...desktops.map((desktop) => `${desktop.toLowerCase()}-mimeapps.list`), 'mimeapps.list'];
  const places = [...folders.config, ...folders.data.map((folder) => join(folder, 'applications'))];
  const files: AssociationFile[] = [];
  for (const place of places) {
    for (const name of names) {
      const text = await readFile(join(place, name), 'utf8').catch(() => undefined);
      if (text !== undefined) files.push({ text, desktopSpecific: name !== 'mimeapps.list' });
    }
  }
  return mergeAssociations(files);
}

/**
 * What a file removes is removed from those after it and from the entries, never from those before it (section 5 of the
 * specification), so that a distribution does not undo what the user has chosen. Pure.
 */
export function mergeAssociations(files: readonly AssociationFile[]): Associations {
  const all: Associations = { defaults: new Map(), added: new Map(), removed: new Map() };
  for (const { text, desktopSpecific } of files) {
    const groups = groupsOf(text);
    const append = (into: Map<string, string[]>, group: string) => {
      for (const [type, value] of groups.get(group) ?? []) {
        const gone = into === all.removed ? [] : (all.removed.get(type) ?? []);
        const ids = value.split(';').filter((id) => id !== '' && !gone.includes(id));
        into.set(type, [...(into.get(type) ?? []), ...ids]);
      }
    };
    append(all.defaults, 'Default Applications');
    if (desktopSpecific) continue;
    append(all.added, 'Added Associations');
    append(all.removed, 'Removed Associations');
  }
  return all;
}

/** None of a file that is broken: it is another program's. */
function groupsOf(text: string): ReadonlyMap<string, ReadonlyMap<string, string>> {
  try {
    return parseGroups(text);
  } catch (error) {
    if (error instanceof BrokenEntry) return new Map();
    throw error;
  }
}

/**
 * Ids of applications that open these types, the best first: for each type its defaults, what was added, and those that
 * name it themselves. Pure.
 */
export function openersOf(
  types: readonly string[],
  { defaults, added, removed }: Associations,
  applications: readonly { id: string; mimeTypes: readonly string[] }[],
): string[] {
  const found = types.flatMap((type) => {
    const out = new Set(removed.get(type) ?? []);
    const own = applications
      .filter(({ id, mimeTypes }) => mimeTypes.includes(type) && !out.has(id))
      .map(({ id }) => id);
    const named = [...(defaults.get(type) ?? []), ...(added.get(type) ?? []), ...own];
    return named.filter((id) => applications.some((application) => application.id === id));
  });
  return [...new Set(found)];
}
