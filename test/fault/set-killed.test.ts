/** The engine, or one CRIU, is killed in the middle of the suspend of a set: all run on, or all are suspended. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Phase } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';
import { Counter, enginePid, expectTidy, isRunning, killCriu, removeSnapshots, strikeAt } from './scene.ts';

let engine: TestEngine;
const counters: Counter[] = [];
const names = ['one', 'two', 'three'];

beforeAll(async () => {
  engine = await TestEngine.create();
  for (const name of names) counters.push(await Counter.start(engine, '--name', name));
});
afterEach(() => removeSnapshots(engine));
afterAll(async () => {
  for (const counter of counters) await counter[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
});

async function killAndWait(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  while (await isRunning(pid)) await sleep(2);
}

/** All are in the same state, snapshots are those of suspended ones only, and all go on without a gap. */
async function expectAllOrNone(): Promise<string> {
  const states = await Promise.all(counters.map(async ({ id }) => (await engine.workload(id)).state));
  expect(new Set(states).size, states.join()).toBe(1);
  const state = states[0] ?? '';
  expect(['running', 'suspended']).toContain(state);
  expect(await engine.snapshots()).toHaveLength(state === 'suspended' ? names.length : 0);
  if (state === 'suspended') await engine.json('resume', ...names);
  for (const counter of counters) await counter.expectCounting();
  await expectTidy(engine);
  return state;
}

describe('the engine killed during the suspend of a set', () => {
  it.each<Phase>(['inspect', 'freeze', 'checkpoint', 'commit', 'release'])('at %s', async (phase) => {
    const outcome = await strikeAt(engine, phase, ['suspend', ...names], killAndWait);
    expect(outcome.code).toBe(1);
    await expectAllOrNone();
  });

  it('at moments spread over its end', async () => {
    const startedAt = performance.now();
    await engine.json('suspend', ...names);
    const length = performance.now() - startedAt;
    await engine.json('resume', ...names);
    await removeSnapshots(engine);
    for (const part of [0.6, 0.7, 0.8, 0.85, 0.9, 0.95]) {
      const pid = await enginePid(engine);
      const suspend = engine.run(['suspend', ...names]);
      await sleep(part * length);
      await killAndWait(pid);
      await suspend;
      await expectAllOrNone();
      await removeSnapshots(engine);
    }
  });
});

describe('one CRIU killed during the suspend of a set', () => {
  it.each<Phase>(['freeze', 'checkpoint', 'commit'])('at %s', async (phase) => {
    const outcome = await strikeAt(engine, phase, ['suspend', ...names], killCriu);
    // Where it is killed when the session exists already, what it did not end is ended by the engine.
    expect([0, 1]).toContain(outcome.code);
    expect(await expectAllOrNone()).toBe(outcome.code === 0 ? 'suspended' : 'running');
  });
});

describe('the suspend of a set that is cancelled', () => {
  it('leaves all running', async () => {
    const outcome = await strikeAt(engine, 'checkpoint', ['suspend', ...names], async () => {
      await using client = await clientOf(engine);
      await client.cancel('two');
    });
    expect([0, 1]).toContain(outcome.code);
    expect(await expectAllOrNone()).toBe(outcome.code === 0 ? 'suspended' : 'running');
  });
});
