/**
 * A program that ends its own helpers the moment it runs again, as one does that finds the connection to them closed:
 * CRIU, which lets its processes go one after the other, must not meet one that has ended already.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestEngine } from '../support/engine.ts';

/** Enough that CRIU is not done with them before the first of all has run. */
const helpers = 250;
const program = `
import os, signal, sys, time
folder = sys.argv[1]
children = []
for _ in range(${helpers}):
    child = os.fork()
    if child == 0:
        time.sleep(10000)
    children.append(child)
# Before anything else on a busy machine.
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
open(folder + '/ready', 'w').close()
last = time.time()
while True:
    now = time.time()
    # It has stood still, and the clock of the wall has not.
    if now - last > 2:
        break
    last = now
for child in reversed(children):
    os.kill(child, signal.SIGKILL)
with open(folder + '/ended', 'w') as told:
    told.write(str(len(children)))
time.sleep(10000)
`;

let engine: TestEngine;
let folder: string;
beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-helpers-');
  await writeFile(join(folder, 'program.py'), program);
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const written = (name: string) => readFile(join(folder, name), 'utf8').catch(() => undefined);

it('is resumed all the same', async () => {
  const { id } = await engine.start(['xterm', '-e', '/usr/bin/python3', join(folder, 'program.py'), folder]);
  await expect.poll(() => written('ready'), { timeout: 20_000 }).toBeDefined();
  await engine.json('suspend', id);
  expect(await written('ended')).toBeUndefined();
  await new Promise((resolve) => setTimeout(resolve, 2500));
  await engine.json('resume', id);
  await expect.poll(() => written('ended'), { timeout: 20_000 }).toBe(String(helpers));
  expect((await engine.workload(id)).state).toBe('running');
  await engine.json('suspend', id);
  await engine.json('resume', id);
  expect((await engine.workload(id)).state).toBe('running');
}, 120_000);
