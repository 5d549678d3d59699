/** The plugins that are installed: Torpor's own, the machine's, and the user's, by what starts them. */
import { join } from 'node:path';
import type { User } from '../capsule/users.ts';
import { type FileText, readSettings, readSettingsAs } from '../files/settings-folder.ts';
import { type EntryProblem, largestEntry, type OwnPrograms, type PluginEntry, parseEntry } from './entry.ts';

export interface PluginFolders {
  torpor: string;
  /** How those of Torpor's are started. */
  own: OwnPrograms;
  /** Of packages, and of the machine's administrator: the later one wins. */
  machine: readonly string[];
}

const files = { endings: ['service'], mostFiles: 100, largestFile: largestEntry };
export const userFolder = '.local/share/torpor/plugins';

export interface PluginEntries {
  /** One of each name: where there are several the user's, then the machine's. By name. */
  entries: PluginEntry[];
  problems: EntryProblem[];
}

/** All plugins for a user's workloads. What is broken is left out and told. */
export async function readEntries(folders: PluginFolders, user: User): Promise<PluginEntries> {
  const own = join(user.home, userFolder);
  const torpors = await readSettings(folders.torpor, files);
  const others: FileText[][] = [
    ...(await Promise.all(folders.machine.map((folder) => readSettings(folder, files)))),
    await readSettingsAs(user, own, files),
  ];
  const entries = new Map<string, PluginEntry>();
  const problems: EntryProblem[] = [];
  const all = [
    ...torpors.map(({ file, text }) => parseEntry(text, file, folders.own)),
    ...others.flat().map(({ file, text }) => parseEntry(text, file)),
  ];
  for (const parsed of all) {
    if ('what' in parsed) problems.push(parsed);
    else entries.set(parsed.name, parsed);
  }
  return { entries: [...entries.values()].sort((a, b) => a.name.localeCompare(b.name)), problems };
}

/** A problem as a sentence. */
export function problemSentence({ file, line, what }: EntryProblem): string {
  return `${file}${line === 0 ? '' : `, line ${line}`}: ${what}.`;
}
