/** The plugin that is put through the conformance suite, found as the engine would find it. */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { sentenceOf } from '../../api/errors.ts';
import { findUser, type User } from '../../engine/capsule/users.ts';
import { findInstallation } from '../../engine/installation.ts';
import { problemSentence, readEntries } from '../../engine/plugin-host/entries.ts';
import { type PluginEntry, parseEntry } from '../../engine/plugin-host/entry.ts';

export interface Subject {
  entry: PluginEntry;
  /** Whose plugin it is: it runs as that user. */
  user: User;
  /** The engine is to find this file beside its own plugins, and not where it usually looks. */
  isGivenByFile: boolean;
}

/**
 * @param given a path of a service file, or a bus name.
 * @throws Error with a sentence for the plugin's author where there is no such plugin.
 */
export async function findSubject(given: string, userName: string): Promise<Subject> {
  const user = await findUser(userName);
  const { plugins } = findInstallation();
  if (given.startsWith('/')) {
    const text = await readFile(given, 'utf8').catch((error: unknown) => {
      throw new Error(`${given} cannot be read: ${sentenceOf(error)}.`);
    });
    const parsed = parseEntry(text, given, plugins.own);
    if ('what' in parsed) throw new Error(problemSentence(parsed));
    return { entry: parsed, user, isGivenByFile: dirname(given) !== plugins.torpor };
  }
  const { entries, problems } = await readEntries(plugins, user);
  const entry = entries.find(({ name }) => name === given);
  if (entry !== undefined) return { entry, user, isGivenByFile: false };
  const folders = [plugins.torpor, ...plugins.machine, `${user.home}/.local/share/torpor/plugins`];
  throw new Error(
    [
      `No service file in ${folders.join(', ')} has the key Name=${given}.`,
      ...problems.map(problemSentence),
    ].join('\n'),
  );
}
