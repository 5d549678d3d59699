/** Snapshots at intervals do not look at memory again that was not written meanwhile, and have all of it nevertheless. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Snapshot, Workload } from '../../api/types.ts';
import { removeSnapshots } from '../fault/scene.ts';
import { isThere, killIfThere, TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';
import { childrenOf, TestTerminal } from '../support/terminal.ts';
import { canCheckpoint } from './criu-fixture.ts';

const program = new URL('../../build/native/test/restless-memory', import.meta.url).pathname;
/** Of 2 MiB each, for each of its two threads. */
const slots = 24;
/** Of the pages many are written each second, and many are not. */
const least = (2 * slots * 512) / 10;
const limits = { timeout: 60_000, interval: 50 };

let engine: TestEngine;
let folder: string;
let command: string[];

beforeAll(async () => {
  engine = await TestEngine.create();
});
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-restless-');
  command = [program, folder, String(slots)];
});
afterEach(async () => {
  await removeSnapshots(engine);
  await rm(folder, { recursive: true, force: true });
});
afterAll(() => engine[Symbol.asyncDispose]());

/** What it writes there once, removing it for the next one that does. */
async function answer(number: number): Promise<string> {
  const file = join(folder, `answer-${number}`);
  await vi.waitFor(() => expect(existsSync(file)).toBe(true), limits);
  const text = await readFile(file, 'utf8');
  await rm(file);
  return text;
}

/** How many pages were taken from the snapshot before without CRIU handing them over. */
async function takenOver({ id }: Snapshot): Promise<number> {
  const line = (await engine.logTail(400))
    .split('\n')
    .find((each) => each.includes(`"snapshot":"${id}","standstill`));
  return Number(/"unfetchedPages":(\d+)/.exec(line ?? '')?.[1]);
}

const atInterval = async () => (await engine.snapshots()).filter((snapshot) => snapshot.atInterval);

/** The engine's programs that know what has been written. */
async function trackers(): Promise<number[]> {
  const children = await childrenOf((await engine.pid()) ?? 0);
  const commands = await Promise.all(
    children.map((pid) => readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')),
  );
  return children.filter((_, index) => commands[index]?.startsWith('torpor-unwritte'));
}

/** Takes some one after the other, and then no other one for long. */
async function takeSome(id: string): Promise<Snapshot[]> {
  const before = new Set((await atInterval()).map((snapshot) => snapshot.id));
  const taken = async () => (await atInterval()).filter((snapshot) => !before.has(snapshot.id));
  await engine.json('snapshots', '--every', '1s', '--keep-last', '100', id);
  await vi.waitFor(async () => expect((await taken()).length).toBeGreaterThan(3), limits);
  await engine.json('snapshots', '--every', '1h', '--keep-last', '100', id);
  const snapshots = await taken();
  const counts = await Promise.all(snapshots.map(takenOver));
  // Of the first one nothing is known, nor of one before which another was given up.
  expect(counts.filter((count) => count > least).length).toBeGreaterThanOrEqual(3);
  return snapshots;
}

/** Each of them has the memory of its instant: a copy looks. */
async function expectAllRight(snapshots: readonly Snapshot[]): Promise<void> {
  await writeFile(join(folder, 'ask-1'), '');
  for (const snapshot of snapshots) {
    const copy = await engine.json<Workload>('resume', '--copy', snapshot.id);
    expect(await answer(1), snapshot.id).toBe('right');
    await engine.json('end', copy.id);
    await engine.json('forget', copy.id);
  }
}

describe.runIf(canCheckpoint)('memory that was not written since the last snapshot at an interval', () => {
  it('of a job is not handed over again, where it was started and in its room', async () => {
    await using terminal = await TestTerminal.start(command);
    await answer(0);
    const { id } = await engine.json<Workload>('snapshots', '--every', '1h', String(terminal.pid));
    const inPlace = await takeSome(id);
    const last = await engine.json<Snapshot>('suspend', id);
    expect(await takenOver(last)).toBeGreaterThan(least);
    await engine.json('resume', id);
    const inRoom = await takeSome(id);
    await engine.json('end', id);
    expect((await engine.run(['verify', '--read-data'])).code).toBe(0);
    await expectAllRight([last, ...inPlace, ...inRoom]);
  });

  it('of an application in a capsule is not handed over again, nor where it is suspended in the end', async () => {
    const { id } = await engine.start(command, '--name', 'restless');
    await answer(0);
    const taken = await takeSome(id);
    const last = await engine.json<Snapshot>('suspend', id);
    expect(await takenOver(last)).toBeGreaterThan(least);
    await expectAllRight([last, ...taken]);
  });

  it('is handed over again where who knows of it is killed, and nobody knows of it where the engine is', async () => {
    const { id } = await engine.start(command, '--name', 'restless');
    await answer(0);
    await engine.json('snapshots', '--every', '1s', '--keep-last', '100', id);
    for (let round = 0; round < 3; round++) {
      const before = (await atInterval()).length;
      for (const pid of await trackers()) killIfThere(pid);
      await vi.waitFor(async () => expect((await atInterval()).length).toBeGreaterThan(before), limits);
    }
    await vi.waitFor(async () => expect(await trackers()).toHaveLength(1), limits);
    const left = await trackers();
    await engine.kill();
    await vi.waitFor(() => expect(left.some(isThere)).toBe(false), limits);
    await vi.waitFor(() => engine.json('end', id), limits);
    await expectAllRight(await atInterval());
  });

  it('is not looked for any more when the interval ends, in the middle of a turn too', async () => {
    const { id } = await engine.start(command, '--name', 'restless');
    await answer(0);
    await using client = await clientOf(engine);
    let phases = 0;
    client.on('progress', () => phases++);
    for (let round = 0; round < 3; round++) {
      await engine.json('snapshots', '--every', '1s', id);
      expect(await trackers()).toHaveLength(1);
      const before = phases;
      await vi.waitFor(() => expect(phases).toBeGreaterThan(before), { timeout: 20_000, interval: 1 });
      await engine.json('snapshots', '--every', 'off', id);
      // A turn that was under way comes to its end.
      await vi.waitFor(() => engine.json('suspend', '--leave-running', id), limits);
      await vi.waitFor(async () => expect(await trackers()).toEqual([]), limits);
    }
    await engine.json('end', id);
  });
});
