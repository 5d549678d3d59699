/** Files that are hashed while they are still being written. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { hashFile } from '../../engine/store/seal.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-seal-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const mib = 1024 * 1024;

it.each([
  ['none', 0],
  ['a part', 3 * mib],
  ['all', 5 * mib],
  ['more than all', 9 * mib],
])('is read in large parts where %s of it was expected', async (_name, expected) => {
  const path = join(folder, 'pages');
  const contents = Buffer.alloc(5 * mib, 'state');
  await writeFile(path, contents);
  let reads = 0;
  const hashed = await hashFile(path, expected, { count: () => reads++ });
  expect(hashed).toEqual({ sha256: createHash('sha256').update(contents).digest('hex'), bytes: 5 * mib });
  expect(reads).toBeLessThan(10);
});

it('has the hash of nothing where it is empty', async () => {
  const path = join(folder, 'empty');
  await writeFile(path, '');
  expect(await hashFile(path, 0)).toEqual({ sha256: createHash('sha256').digest('hex'), bytes: 0 });
});
