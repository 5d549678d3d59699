/** The plugins that are installed: Torpor's own, the machine's, and the user's, by what starts them. */
import { join } from 'node:path';
import type { User } from '../capsule/users.ts';
import { type FileText, readSettings, readSettingsAs } from '../files/settings-folder.ts';
import { type EntryProblem, largestEntry, type OwnPrograms, type PluginEntry, parseEntry } from './entry.ts';

export interface PluginFolders {
  torpor: string;
  /** How programs of Torpor's own are started. */
  own: OwnPrograms;
  /** Of packages, and of the machine's administrator: the later one wins. */
  machine: readonly string[];
}

const files = { endings: ['service'], mostFiles: 100, largestFile: largestEntry };
export const userFolder = '.local/share/torpor/plugins';

export interface PluginEntries {
  /** One of each name: where there are several the user's, unless the machine requires its own, then the machine's. By name. */
  entries: PluginEntry[];
  problems: EntryProblem[];
}

/** All plugins for a user's workloads. What is broken is left out and told. */
export async function readEntries(folders: PluginFolders, user: User): Promise<PluginEntries> {
  const ofMachine = await Promise.all(
    [folders.torpor, ...folders.machine].map((folder) => readSettings(folder, files)),
  );
  const ofUser = await readSettingsAs(user, join(user.home, userFolder), files);
  const entries = new Map<string, PluginEntry>();
  const problems: EntryProblem[] = [];
  const take = ({ file, text }: FileText, required?: ReadonlyMap<string, PluginEntry>) => {
    const parsed = parseEntry(text, file, folders.own);
    if ('what' in parsed) {
      problems.push(parsed);
      return;
    }
    const stays = required?.get(parsed.name);
    if (stays === undefined) entries.set(parsed.name, parsed);
    else problems.push({ file, line: 0, what: notReplaced(stays) });
  };
  for (const each of ofMachine.flat()) take(each);
  const required = new Map([...entries].filter(([, { policy }]) => policy === 'required'));
  for (const each of ofUser) take(each, required);
  return { entries: [...entries.values()].sort((a, b) => a.name.localeCompare(b.name)), problems };
}

const notReplaced = ({ name, file }: PluginEntry) =>
  `${name} is required on this machine, by ${file}, and is not replaced`;

/** A problem as a sentence. */
export function problemSentence({ file, line, what }: EntryProblem): string {
  return `${file}${line === 0 ? '' : `, line ${line}`}: ${what}.`;
}
