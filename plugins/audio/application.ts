/** Name and icon of an application, from its desktop entry (Desktop Entry Specification 1.5), for the mixer. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

export interface Appearance {
  name: string;
  icon: string;
}

/** @param id of its desktop entry, if it has one; `name` is taken where nothing is found. */
export async function appearanceOf(
  id: string | undefined,
  name: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Appearance> {
  if (id === undefined || id.includes('/')) return { name, icon: '' };
  const home = env.XDG_DATA_HOME || join(homedir(), '.local/share');
  const folders = [home, ...(env.XDG_DATA_DIRS || '/usr/local/share:/usr/share').split(':')];
  const file = id.endsWith('.desktop') ? id : `${id}.desktop`;
  for (const folder of folders) {
    const text = await readFile(join(folder, 'applications', file), 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    // The groups after the first are further actions, with names of their own.
    const entry = text.split(/^\[(?!Desktop Entry\])/m)[0] ?? '';
    const value = (key: string) => new RegExp(`^${key}\\s*=\\s*(.+)$`, 'm').exec(entry)?.[1]?.trim();
    return { name: value('Name') ?? name, icon: value('Icon') ?? '' };
  }
  return { name, icon: '' };
}
