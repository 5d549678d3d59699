/** Memory that an application has marked free is saved, or left out where a setting says so, and nothing else ever is. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Snapshot } from '../../api/types.ts';
import { runCommand } from '../../engine/command.ts';
import { findInstallation } from '../../engine/installation.ts';
import { expectTidy, removeSnapshots } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { canCheckpoint } from './criu-fixture.ts';

const mib = 1024 ** 2;
/** Of 80 MiB of noise 72 are marked free, of which one byte a page is written again in the first 8. */
const [rewrittenPages, freedPages, keptPages] = [2048, 16_384, 2048];
const program = `import hashlib, mmap, os, sys, time
folder = sys.argv[1]
page, rewritten, freed, kept = 4096, ${rewrittenPages}, ${freedPages}, ${keptPages}
memory = mmap.mmap(-1, (rewritten + freed + kept) * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(rewritten + freed + kept): memory[at * page:(at + 1) * page] = os.urandom(page)
sums = [hashlib.sha256(memory[at * page:(at + 1) * page]).digest() for at in range(rewritten + freed + kept)]
memory.madvise(mmap.MADV_FREE, 0, (rewritten + freed) * page)
for at in range(rewritten): memory[at * page] = 77
def look():
    same = lambda at: hashlib.sha256(memory[at * page:(at + 1) * page]).digest() == sums[at]
    empty = lambda at: memory[at * page:(at + 1) * page] == bytes(page)
    last = range(rewritten + freed, rewritten + freed + kept)
    middle = range(rewritten, rewritten + freed)
    return "%d %d %d %d" % (sum(memory[at * page] == 77 for at in range(rewritten)), sum(map(same, middle)),
        sum(map(empty, middle)), sum(map(same, last)))
def answer(text):
    with open(folder + "/answer.new", "w") as file: file.write(text)
    os.rename(folder + "/answer.new", folder + "/answer")
answer("ready")
while True:
    if os.path.exists(folder + "/ask"):
        os.remove(folder + "/ask")
        answer(look())
    time.sleep(0.02)
`;

class Application implements AsyncDisposable {
  readonly folder: string;
  private constructor(folder: string) {
    this.folder = folder;
  }

  static async start(): Promise<{ application: Application; id: string }> {
    const application = new Application(await mkdtemp('/var/tmp/torpor-freed-'));
    await writeFile(join(application.folder, 'program.py'), program);
    const command = ['/usr/bin/python3', join(application.folder, 'program.py'), application.folder];
    const { id } = await engine.start(command);
    await application.answer();
    return { application, id };
  }

  async answer(): Promise<string> {
    const file = join(this.folder, 'answer');
    await expect.poll(() => existsSync(file), { timeout: 60_000 }).toBe(true);
    const text = await readFile(file, 'utf8');
    await rm(file);
    return text;
  }

  /** @returns how many pages are as they must be: written again, marked free and whole or empty, kept. */
  async look(): Promise<{ rewritten: number; whole: number; empty: number; kept: number }> {
    await writeFile(join(this.folder, 'ask.new'), '');
    await rename(join(this.folder, 'ask.new'), join(this.folder, 'ask'));
    const [rewritten = 0, whole = 0, empty = 0, kept = 0] = (await this.answer()).split(' ').map(Number);
    return { rewritten, whole, empty, kept };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

let engine: TestEngine;
beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());

describe.runIf(canCheckpoint)('memory that is marked free', () => {
  it.each([false, true])('comes back as the setting says: left out %s', async (isLeftOut) => {
    await engine.json('settings', 'leaveOutFreed', isLeftOut ? 'yes' : 'no');
    const { application, id } = await Application.start();
    await using _application = application;
    const { bytesOnDisk } = await engine.json<Snapshot>('suspend', id);
    // The rest of the capsule's memory, some 25 MiB, is written as it is or compressed, as the disk's speed says.
    if (isLeftOut) expect(bytesOnDisk).toBeLessThan(64 * mib);
    else expect(bytesOnDisk).toBeGreaterThan(80 * mib);
    await engine.json('resume', id);
    const { rewritten, whole, empty, kept } = await application.look();
    expect({ rewritten, kept }).toEqual({ rewritten: rewrittenPages, kept: keptPages });
    expect(whole + empty).toBe(freedPages);
    // The kernel keeps what it has on its way between its lists.
    if (isLeftOut) expect(empty).toBeGreaterThan(freedPages * 0.9);
    else expect(whole).toBe(freedPages);
    await engine.json('end', id);
    await removeSnapshots(engine);
    await expectTidy(engine);
  });
});

describe('torpor-freed', () => {
  const { freed } = findInstallation();

  it('counts a process that has ended for nothing', async () => {
    expect(await runCommand(freed, ['4194303'])).toMatchObject({ status: 0, stdout: '{"bytes":0}\n' });
  });

  it.each(['', '-1', 'self', '1x'])('refuses "%s"', async (pid) => {
    const { status, stderr } = await runCommand(freed, [pid]);
    expect(status).toBe(1);
    expect(stderr).toContain('is no pid');
  });
});
