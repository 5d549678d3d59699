/** What is noted on a snapshot after it was made: that it was resumed from, and that it is to be kept. */
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeDurable } from '../durable.ts';

const usedFile = 'used';
/** Not `kept`: that is the folder of what a snapshot keeps of memory file systems. */
const keepFile = 'keep';

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
