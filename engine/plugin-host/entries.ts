/** The plugins that are installed: Torpor's own, the machine's, and the user's, by what starts them. */
import { join } from 'node:path';
import type { User } from '../capsule/users.ts';
import { type FileText, readSettings, readSettingsAs } from '../files/settings-folder.ts';
import { type EntryProblem, largestEntry, type PluginEntry, parseEntry } from './entry.ts';

export interface PluginFolders {
  torpor: string;
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
  const own = join(user.home, userFolder);
  const ofMachine: FileText[][] = [
    await readSettings(folders.torpor, files),
    ...(await Promise.all(folders.machine.map((folder) => readSettings(folder, files)))),
  ];
  const entries = new Map<string, PluginEntry>();
  const problems: EntryProblem[] = [];
  const take = ({ file, text }: FileText, before?: (name: string) => PluginEntry | undefined) => {
    const parsed = parseEntry(text, file);
    if ('what' in parsed) {
      problems.push(parsed);
      return;
    }
    const first = before?.(parsed.name);
    if (first?.policy !== 'required') entries.set(parsed.name, parsed);
    else problems.push({ file, line: 0, what: notReplaced(first) });
  };
  for (const each of ofMachine.flat()) take(each);
  const required = new Map(entries);
  for (const each of await readSettingsAs(user, own, files)) take(each, (name) => required.get(name));
  return { entries: [...entries.values()].sort((a, b) => a.name.localeCompare(b.name)), problems };
}

const notReplaced = ({ name, file }: PluginEntry) =>
  `${name} is required on this machine, by ${file}, and is not replaced`;

/** A problem as a sentence. */
export function problemSentence({ file, line, what }: EntryProblem): string {
  return `${file}${line === 0 ? '' : `, line ${line}`}: ${what}.`;
}
