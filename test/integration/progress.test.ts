/** How far a suspend and a resume are, as a subscriber hears it: with an application large enough to take a while. */
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { EngineClient } from '../../api/client.ts';
import type { Phase, Progress, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';

const mib = 1024 * 1024;
const heldMib = 700;
/** Holds memory that nothing can leave out or compress, and says when it does. */
const holder = `import os, sys, time
memory = [os.urandom(${mib}) for _ in range(${heldMib})]
open(sys.argv[1], "w").close()
while True: time.sleep(1)
`;

let engine: TestEngine;
let client: EngineClient;
let id: string;
const told: Progress[] = [];

beforeAll(async () => {
  engine = await TestEngine.create();
  const [program, held] = [join(engine.paths.stateDir, 'holder.py'), join(engine.paths.stateDir, 'held')];
  await engine.json('ps');
  await writeFile(program, holder);
  ({ id } = await engine.start(['/usr/bin/python3', program, held]));
  await vi.waitFor(() => copyFile(held, join(engine.paths.stateDir, 'seen')), {
    timeout: 60_000,
    interval: 100,
  });
  client = await clientOf(engine);
  client.on('progress', (progress) => told.push(progress));
});
afterAll(() => engine[Symbol.asyncDispose]());
afterAll(() => client[Symbol.asyncDispose]());

const phasesTold = () => told.map(({ phase }) => phase).filter((phase, at, all) => phase !== all[at - 1]);
const ofPhase = (phase: Phase) => told.filter((progress) => progress.phase === phase);

/** Within each phase nothing goes back and nothing exceeds the whole. */
function expectSteady(): void {
  for (const [at, { phase, bytesDone, bytesTotal }] of told.entries()) {
    expect(bytesDone).toBeGreaterThanOrEqual(0);
    expect(bytesDone).toBeLessThanOrEqual(bytesTotal);
    const before = told[at - 1];
    if (before?.phase === phase) expect(bytesDone).toBeGreaterThanOrEqual(before.bytesDone);
  }
}

it('of a suspend is told in bytes', async () => {
  const taken = await engine.json<Snapshot>('suspend', id);
  expect(taken.bytesOnDisk).toBeGreaterThan(heldMib * mib);
  expect(phasesTold()).toEqual(['inspect', 'detach', 'freeze', 'checkpoint', 'commit', 'release', 'done']);
  expectSteady();
  const saving = ofPhase('checkpoint').filter(({ bytesTotal }) => bytesTotal > 0);
  expect(saving.length).toBeGreaterThan(0);
  for (const { bytesTotal } of saving) {
    // What inspection said is about what it took.
    expect(bytesTotal).toBeGreaterThan(heldMib * mib);
    expect(bytesTotal).toBeLessThan(taken.bytesOnDisk * 1.3);
  }
  expect(saving.at(-1)?.bytesDone).toBeGreaterThan(50 * mib);
  const committing = ofPhase('commit').filter(({ bytesTotal }) => bytesTotal > 0);
  for (const { bytesTotal } of committing) expect(bytesTotal).toBeGreaterThan(heldMib * mib);
});

it('of a resume too', async () => {
  told.length = 0;
  const resumed = await engine.json<Workload>('resume', id, '--eager');
  expect(resumed.state).toBe('running');
  expect(phasesTold()).toEqual(['verify', 'prepare', 'restore', 'done']);
  expectSteady();
  const restoring = ofPhase('restore').filter(({ bytesTotal }) => bytesTotal > 0);
  expect(restoring.length).toBeGreaterThan(0);
  for (const { bytesTotal } of restoring) expect(bytesTotal).toBeGreaterThan(heldMib * mib);
  expect(restoring.at(-1)?.bytesDone).toBeGreaterThan(50 * mib);
});

it('of one that is cancelled ends with it', async () => {
  told.length = 0;
  const suspended = client.suspend(id, { leaveRunning: false });
  await vi.waitFor(() => expect(phasesTold()).toContain('checkpoint'), { timeout: 20_000, interval: 5 });
  await client.cancel(id);
  await expect(suspended).rejects.toMatchObject({ message: expect.stringContaining('runs on as before') });
  const count = told.length;
  await new Promise((resolve) => setTimeout(resolve, 700));
  expect(told).toHaveLength(count);
});
