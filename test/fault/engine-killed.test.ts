/** The engine is killed at each step of a suspend and of a resume; the next one finds everything usable. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Phase, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';
import {
  Counter,
  enginePid,
  expectSentence,
  expectTidy,
  isRunning,
  removeSnapshots,
  strikeAt,
  traces,
} from './scene.ts';

let engine: TestEngine;
let counter: Counter;

beforeAll(async () => {
  engine = await TestEngine.create();
  counter = await Counter.start(engine, '--name', 'counter');
});
afterEach(() => removeSnapshots(engine));
afterAll(async () => {
  await counter[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
});

async function killAndWait(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  while (await isRunning(pid)) await sleep(2);
}

describe('the engine killed during a suspend', () => {
  const phases: Phase[] = ['inspect', 'detach', 'freeze', 'checkpoint', 'commit', 'release'];
  it.each(phases)('at %s', async (phase) => {
    const outcome = await strikeAt(engine, phase, ['suspend', 'counter'], killAndWait);
    expectSentence(
      outcome,
      1,
      /The engine ended while counter was being suspended\. It (runs on|is suspended in)/,
    );
    const state = await counter.expectUsable();
    expect(outcome.stderr).toContain(state === 'running' ? 'runs on' : 'is suspended');
    await expectTidy(engine);
  });

  it('at moments spread over its whole length', async () => {
    const startedAt = performance.now();
    await engine.json('suspend', 'counter');
    const length = performance.now() - startedAt;
    await engine.json('resume', 'counter');
    for (const part of [0.4, 0.55, 0.7, 0.85]) {
      const pid = await enginePid(engine);
      const suspend = engine.run(['suspend', 'counter']);
      await sleep(part * length);
      await killAndWait(pid);
      await suspend;
      await counter.expectUsable();
      await expectTidy(engine);
    }
  });
});

describe('the engine killed during a resume', () => {
  it.each<Phase>(['verify', 'prepare', 'restore', 'done'])('at %s', async (phase) => {
    await engine.json('suspend', 'counter');
    const outcome = await strikeAt(engine, phase, ['resume', 'counter'], killAndWait);
    if (outcome.code !== 0)
      expectSentence(
        outcome,
        1,
        /The engine ended while counter was being resumed\. It (runs|is suspended in)/,
      );
    const state = await counter.expectUsable();
    if (outcome.code !== 0)
      expect(outcome.stderr).toContain(state === 'running' ? 'It runs' : 'is suspended');
    await expectTidy(engine);
  });

  it('at moments spread over its whole length', async () => {
    await engine.json('suspend', 'counter');
    const startedAt = performance.now();
    await engine.json('resume', 'counter');
    const length = performance.now() - startedAt;
    for (const part of [0.5, 0.65, 0.8, 0.95]) {
      await engine.json('suspend', 'counter');
      const pid = await enginePid(engine);
      const resume = engine.run(['resume', 'counter']);
      await sleep(part * length);
      await killAndWait(pid);
      await resume;
      await counter.expectUsable();
      await expectTidy(engine);
    }
  });

  it('of a copy leaves the one beside it alone, and no third', async () => {
    const snapshot = await engine.json<{ id: string }>('suspend', '--leave-running', 'counter');
    await counter.expectCounting();
    await strikeAt(engine, 'restore', ['resume', '--copy', snapshot.id], killAndWait);
    const workloads = await engine.json<Workload[]>('ps');
    expect(workloads.map(({ id, state }) => [id, state])).toEqual([[counter.id, 'running']]);
    await counter.expectCounting();
    await expectTidy(engine);
  });
});

it('finds the capsules that run when it is killed with nothing under way', async () => {
  const before = await traces(engine);
  const { pids } = await engine.workload(counter.id);
  await engine.kill();
  expect((await engine.workload(counter.id)).pids[0]).toBe(pids[0]);
  await counter.expectCounting();
  expect(await traces(engine)).toEqual(before);
});

it('a subscriber hears that its engine has ended, and of what the next one does', async () => {
  await engine.json('ps');
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    await using client = await clientOf(engine);
    const lost = new Promise<void>((resolve) => client.onLost(resolve));
    await engine.kill(signal);
    await lost;
    await expect(client.list()).rejects.toThrow();
    await engine.json('ps');
    await using next = await clientOf(engine);
    const changes: string[] = [];
    next.on('snapshotsChanged', (workload) => changes.push(workload));
    await engine.json('suspend', '--leave-running', 'counter');
    await vi.waitFor(() => expect(changes).toEqual([counter.id]));
  }
});
