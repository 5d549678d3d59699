/** By what an engine knows its own bundles again: a random number beside its snapshots. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurable } from '../durable.ts';

/** 32 hexadecimal digits, made where there are none. */
export async function machineId(stateDir: string): Promise<string> {
  const path = join(stateDir, 'machine-id');
  const known = (await readFile(path, 'utf8').catch(() => '')).trim();
  if (/^[0-9a-f]{32}$/.test(known)) return known;
  const made = randomBytes(16).toString('hex');
  await writeDurable(path, `${made}\n`);
  return made;
}
