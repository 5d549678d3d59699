/**
 * Which memory an application needed first after a resume: numbers of chunks in a snapshot's list, in the order of their
 * use, as its pager has noted them. A later snapshot of the same run has most of these chunks too, by other numbers. All
 * of it is a hint: where it is missing or wrong, memory is fetched in another order.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export const workingSetFile = 'working-set';
const idBytes = 32;
const numberBytes = 4;

/** The same chunks by their numbers in another list. Pure part of {@link carryWorkingSet}. */
export function translateWorkingSet(numbers: Buffer, from: Buffer, to: Buffer): Buffer {
  const places = new Map<string, number>();
  for (let at = 0; at + idBytes <= to.length; at += idBytes)
    places.set(to.toString('latin1', at, at + idBytes), at / idBytes);
  const translated: number[] = [];
  for (let at = 0; at + numberBytes <= numbers.length; at += numberBytes) {
    const start = numbers.readUInt32LE(at) * idBytes;
    const place = places.get(from.toString('latin1', start, start + idBytes));
    if (place !== undefined) translated.push(place);
  }
  const result = Buffer.alloc(translated.length * numberBytes);
  translated.forEach((place, index) => {
    result.writeUInt32LE(place, index * numberBytes);
  });
  return result;
}

/** Notes with a new snapshot what is known from the one that it came out of. Both are folders of snapshots. */
export async function carryWorkingSet(from: string, to: string): Promise<void> {
  const [numbers, before, after] = await Promise.all([
    readFile(join(from, workingSetFile)),
    readFile(join(from, 'pages', 'chunks')),
    readFile(join(to, 'pages', 'chunks')),
  ]);
  await writeFile(join(to, workingSetFile), translateWorkingSet(numbers, before, after), { mode: 0o600 });
}
