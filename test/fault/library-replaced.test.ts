/** A library is upgraded under a suspended application: refused by its name, and resumed once it is as it was. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestEngine } from '../support/engine.ts';
import { expectSentence, expectTidy } from './scene.ts';

/** Asks the library for its version again and again, and appends it to a file. */
const program = `
import ctypes, sys, time
library = ctypes.CDLL(sys.argv[1])
with open(sys.argv[2], "a", buffering=1) as said:
    while True:
        said.write(f"{library.version()}\\n")
        time.sleep(0.05)
`;

let folder: string;
let library: string;
let said: string;
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-library-');
  library = join(folder, 'libversion.so.1');
  said = join(folder, 'said');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** As a package manager does it: a new file under the old name. */
async function install(version: number): Promise<void> {
  const source = `int version(void) { return ${version}; }`;
  const made = join(folder, 'new');
  execFileSync('gcc', ['-shared', '-fPIC', '-x', 'c', '-o', made, '-'], { input: source });
  await rename(made, library);
}

const lines = async () => (await readFile(said, 'utf8').catch(() => '')).split('\n').filter(Boolean);

async function goesOn(): Promise<boolean> {
  const before = (await lines()).length;
  for (let round = 0; round < 200; round++) {
    if ((await lines()).length > before) return true;
    await sleep(50);
  }
  return false;
}

it('refuses a replaced and a missing library, and resumes with the one that was mapped', async () => {
  await using engine = await TestEngine.create();
  await install(1);
  const { id } = await engine.start(['/usr/bin/python3', '-c', program, library, said], '--name', 'asker');
  expect(await goesOn()).toBe(true);
  await engine.json('suspend', id);
  await rename(library, join(folder, 'aside'));

  const missing = await engine.run(['resume', id]);
  expectSentence(missing, 3, new RegExp(`${library} was removed after asker was suspended`));
  await expectTidy(engine);

  await install(2);
  const replaced = await engine.run(['resume', id]);
  expectSentence(replaced, 3, new RegExp(`${library} was replaced after asker was suspended`));
  expect(replaced.stderr).toContain('is as it was');
  expect((await engine.workload(id)).state).toBe('suspended');
  await expectTidy(engine);

  await rename(join(folder, 'aside'), library);
  await engine.json('resume', id);
  expect(await goesOn()).toBe(true);
  expect(new Set(await lines())).toEqual(new Set(['1']));
});
