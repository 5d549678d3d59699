/** What is noted on a snapshot after it was made: that it was resumed from, that it is to be kept, what starts begin with it. */
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeDurable } from '../durable.ts';

const usedFile = 'used';
/** Not `kept`: that is the folder of what a snapshot keeps of memory file systems. */
const keepFile = 'keep';
const warmFile = 'warm';

export async function markUsed(folder: string): Promise<void> {
  await writeDurable(join(folder, usedFile), new Date().toISOString());
}

/** When it was last resumed from, ISO 8601. */
export function usedAt(folder: string): Promise<string | undefined> {
  return readFile(join(folder, usedFile), 'utf8').catch(() => undefined);
}

export async function setKept(folder: string, keep: boolean): Promise<void> {
  const path = join(folder, keepFile);
  if (keep) return writeDurable(path, new Date().toISOString());
  await rm(path, { force: true });
  await syncFolder(folder);
}

export async function isKept(folder: string): Promise<boolean> {
  return (await stat(join(folder, keepFile)).catch(() => undefined)) !== undefined;
}

/** Has later starts begin with it. @param text says which, and how long; undefined has none of them do so any more. */
export async function setWarm(folder: string, text: string | undefined): Promise<void> {
  const path = join(folder, warmFile);
  if (text !== undefined) return writeDurable(path, text);
  await rm(path, { force: true });
  await syncFolder(folder);
}

export function warmOf(folder: string): Promise<string | undefined> {
  return readFile(join(folder, warmFile), 'utf8').catch(() => undefined);
}
