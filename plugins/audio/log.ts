/**
 * What the plugin has to say goes to a file in the user's state folder, and to whoever started it; to that one alone where
 * Torpor came along with a bundle.
 */
import { appendFile, mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

export type Log = (sentence: string) => void;

export function openLog(env: NodeJS.ProcessEnv = process.env): Log {
  const folder = env.XDG_STATE_HOME || join(homedir(), '.local/state');
  const file = join(folder, 'torpor', 'audio.log');
  let written = Promise.resolve();
  return (sentence) => {
    console.error(sentence);
    if (env.TORPOR_PORTABLE) return;
    written = written
      .then(() => mkdir(dirname(file), { recursive: true, mode: 0o700 }))
      .then(() => appendFile(file, `${new Date().toISOString()} ${sentence}\n`, { mode: 0o600 }))
      // A home folder that cannot be written to must not keep anybody from hearing.
      .catch(() => {});
  };
}
