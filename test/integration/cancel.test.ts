/**
 * Giving up a suspend, at its phases and at moments in between, by Ctrl+C and over the bus: the application runs on, with
 * the memory that it had, and nothing of the snapshot is left.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { EngineClient } from '../../api/client.ts';
import type { Phase, Workload } from '../../api/types.ts';
import { expectTidy, removeSnapshots } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { numbers } from '../support/numbers.ts';
import { clientOf } from '../support/subscriber.ts';
import { canCheckpoint } from './criu-fixture.ts';

const torpor = new URL('../../bin/torpor', import.meta.url).pathname;
const limits = { timeout: 60_000, interval: 20 };
const heldMib = 1024;
/** Five of them, each with all memory hashed afterwards. */
const manyMs = 300_000;
/** Holds memory that nothing can leave out or compress, and writes down its hash whenever it is asked by a file. */
const holder = `import hashlib, os, sys, time
folder = sys.argv[1]
memory = [os.urandom(1 << 20) for _ in range(${heldMib})]
def answer():
    whole = hashlib.blake2b()
    for part in memory: whole.update(part)
    with open(folder + "/answer.new", "w") as file: file.write(whole.hexdigest())
    os.rename(folder + "/answer.new", folder + "/answer")
answer()
while True:
    if os.path.exists(folder + "/ask"):
        os.remove(folder + "/ask")
        answer()
    time.sleep(0.02)
`;

let engine: TestEngine;
let client: EngineClient;
let application: Workload;
let hash: string;

const file = (name: string) => join(engine.paths.stateDir, name);
const answer = () => vi.waitFor(() => readFile(file('answer'), 'utf8'), limits);

beforeAll(async () => {
  engine = await TestEngine.create();
  await engine.json('ps');
  await writeFile(file('holder.py'), holder);
  application = await engine.start(['/usr/bin/python3', file('holder.py'), engine.paths.stateDir]);
  hash = await answer();
  client = await clientOf(engine);
});
afterEach(() => removeSnapshots(engine));
afterAll(() => engine[Symbol.asyncDispose]());
afterAll(() => client[Symbol.asyncDispose]());

/** What the store of pages has: what is removed goes later, by and by. */
const packs = () => readdir(file('packs'));

/** The application is as it was, and was never another; the packs are at most those that there were. */
async function expectUntouched(before: readonly string[]): Promise<void> {
  const now = await engine.workload(application.id);
  expect(now).toMatchObject({ state: 'running', pids: application.pids });
  await rm(file('answer'));
  await writeFile(file('ask'), '');
  expect(await answer()).toBe(hash);
  expect(await readdir(file('staging'))).toEqual([]);
  expect(await readdir(file('snapshots'))).toEqual([]);
  expect((await packs()).filter((name) => !before.includes(name))).toEqual([]);
  await expectTidy(engine);
}

/** Resolves when a suspend reports this phase. */
function reached(phase: Phase): Promise<void> {
  return new Promise((resolve) => {
    const stop = client.on('progress', (progress) => {
      if (progress.phase !== phase || progress.operation !== 'suspend') return;
      stop();
      resolve();
    });
  });
}

function suspending(): { child: ChildProcess; ended: Promise<{ code: number | null; stderr: string }> } {
  const child = spawn(torpor, ['suspend', application.id], {
    env: { ...process.env, ...engine.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return { child, ended: once(child, 'close').then(([code]) => ({ code, stderr })) };
}

describe.runIf(canCheckpoint)('a suspend that is given up', () => {
  it.each<Phase>(['inspect', 'detach', 'freeze', 'checkpoint', 'commit'])(
    'at %s by Ctrl+C leaves the application as it was',
    async (phase) => {
      const before = await packs();
      const at = reached(phase);
      const { child, ended } = suspending();
      await at;
      child.kill('SIGINT');
      const { code, stderr } = await ended;
      expect(stderr).toContain('giving it up');
      expect(stderr).toContain('It was cancelled');
      expect(stderr).toContain('It runs on as before.');
      expect(code).toBe(1);
      await expectUntouched(before);
    },
  );

  it('at any moment leaves it as it was, or came too late', { timeout: manyMs }, async () => {
    const startedAt = performance.now();
    await engine.json('suspend', '--leave-running', application.id);
    const takes = performance.now() - startedAt;
    await removeSnapshots(engine);
    const random = numbers(6);
    for (let round = 0; round < 5; round++) {
      const before = await packs();
      const done = client.suspend(application.id, { leaveRunning: true });
      const outcome = done.then(
        () => 'too late',
        (error: Error) => error.message,
      );
      await sleep((random.next().value / 2 ** 32) * takes);
      await client.cancel(application.id).catch(() => {});
      const said = await outcome;
      if (said === 'too late') await removeSnapshots(engine);
      else expect(said).toContain('It was cancelled');
      await expectUntouched(said === 'too late' ? await packs() : before);
    }
  });

  it('is suspended all the same once its snapshot is durable, and the command says so', async () => {
    const at = reached('release');
    const { child, ended } = suspending();
    await at;
    child.kill('SIGINT');
    await ended;
    expect((await engine.workload(application.id)).state).toBe('suspended');
    await rm(file('answer'));
    const resumed = await engine.json<Workload>('resume', application.id);
    await writeFile(file('ask'), '');
    expect(await answer()).toBe(hash);
    application = { ...application, pids: resumed.pids };
  });
});
