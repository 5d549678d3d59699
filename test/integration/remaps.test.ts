/** Files that were open under a name that is gone: a snapshot with such files can be resumed more than once. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';

/** Opens a file, gives it another name, takes away the first, and goes on appending a line ten times a second. */
const program = `
import os, sys, time
os.chdir(sys.argv[1])
linked = open("linked", "a", buffering=1)
os.link("linked", "other")
os.unlink("linked")
ghost = open("ghost", "a", buffering=1)
os.unlink("ghost")
while True:
    linked.write("line\\n")
    ghost.write("line\\n")
    time.sleep(0.1)
`;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-remaps-');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function grows(path: string): Promise<boolean> {
  const before = (await readFile(path)).length;
  for (let round = 0; round < 100; round++) {
    if ((await readFile(path)).length > before) return true;
    await sleep(50);
  }
  return false;
}

it('resumes again and again, and tidies up with the snapshot', async () => {
  await using engine = await TestEngine.create();
  const started = await engine.start(['/usr/bin/python3', '-c', program, folder]);
  const other = join(folder, 'other');
  expect(await grows(other)).toBe(true);
  const snapshot = await engine.json<Snapshot>('suspend', started.id);

  for (const options of [[], ['--copy'], ['--copy']]) {
    const resumed = await engine.json<Workload>('resume', snapshot.id, ...options);
    expect(await grows(other), `resumed ${options}`).toBe(true);
    await engine.json('end', resumed.id);
  }
  await engine.json('rm', snapshot.id);
  expect(await readdir(folder)).toEqual(['other']);
});
