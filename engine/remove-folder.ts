/** Removing a folder in which users have folders of their own. */
import { existsSync } from 'node:fs';
import { runCommand } from './command.ts';

/**
 * Removes a folder with all that is in it; one that is not there is fine. By rm(1), which goes from folder to folder by
 * descriptors: a user who puts a link in the place of a folder meanwhile must not have root remove what it leads to.
 * @throws Error where something could not be removed.
 */
export async function removeFolder(path: string): Promise<void> {
  // As for most records that a new engine comes to.
  if (!existsSync(path)) return;
  const { status, stderr } = await runCommand('rm', ['-rf', '--one-file-system', '--', path]);
  if (status !== 0) throw new Error(`removing ${path}: ${stderr.trim()}`);
}
