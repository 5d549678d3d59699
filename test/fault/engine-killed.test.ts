/** The engine is killed at each step of a suspend and of a resume; the next one finds everything usable. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Phase, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';
import {
  type Counter,
  capsule,
  enginePid,
  expectSentence,
  expectTidy,
  isRunning,
  jobs,
  removeSnapshots,
  type Subject,
  strikeAt,
  traces,
} from './scene.ts';

let engine: TestEngine;
let counter: Counter;

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterEach(() => removeSnapshots(engine));
afterAll(() => engine[Symbol.asyncDispose]());

async function killAndWait(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  while (await isRunning(pid)) await sleep(2);
}

/** A capsule takes long to start, and serves all tests. */
function withCapsule(): void {
  beforeAll(async () => {
    counter = await capsule.start(engine);
  });
  afterAll(() => counter[Symbol.asyncDispose]());
}

function withSubject(subject: Subject): void {
  if (subject === capsule) {
    withCapsule();
    return;
  }
  beforeEach(async () => {
    counter = await subject.start(engine);
  });
  afterEach(() => counter[Symbol.asyncDispose]());
}

const suspends: Phase[] = ['inspect', 'detach', 'freeze', 'checkpoint', 'commit', 'release'];

describe.each([capsule, ...jobs])('the engine killed during a suspend of $what', (subject) => {
  withSubject(subject);

  it.each(suspends)('at %s', async (phase) => {
    const outcome = await strikeAt(engine, phase, ['suspend', counter.target], killAndWait);
    expectSentence(
      outcome,
      1,
      /The engine ended while (counter|perl|process \d+) was being suspended\. It (runs on|is suspended in)/,
    );
    const state = await counter.expectUsable();
    expect(outcome.stderr).toContain(state === 'running' ? 'runs on' : 'is suspended');
    await expectTidy(engine);
  });
});

describe.each([capsule, ...jobs])('the engine killed during a resume of $what', (subject) => {
  withSubject(subject);

  it.each<Phase>(['verify', 'prepare', 'restore', 'done'])('at %s', async (phase) => {
    counter.adopted((await engine.json<Snapshot>('suspend', counter.target)).workload);
    const outcome = await strikeAt(engine, phase, ['resume', counter.id], killAndWait);
    if (outcome.code !== 0)
      expectSentence(
        outcome,
        1,
        /The engine ended while (counter|perl) was being resumed\. It (runs|is suspended in)/,
      );
    const state = await counter.expectUsable();
    if (outcome.code !== 0)
      expect(outcome.stderr).toContain(state === 'running' ? 'It runs' : 'is suspended');
    await expectTidy(engine);
  });

  it('of a copy leaves the one beside it alone, and no third', async () => {
    const { id, workload } = await engine.json<Snapshot>('suspend', '--leave-running', counter.target);
    counter.adopted(workload);
    await counter.expectCounting();
    await strikeAt(engine, 'restore', ['resume', '--copy', id], killAndWait);
    const workloads = await engine.json<Workload[]>('ps');
    const living = workloads.filter(({ state }) => state !== 'ended');
    expect(living.map((each) => [each.id, each.state])).toEqual([[counter.id, 'running']]);
    await counter.expectCounting();
    await expectTidy(engine);
  });
});

describe('the engine killed at moments spread over the whole length', () => {
  withCapsule();

  it('of a suspend', async () => {
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

  it('of a resume', async () => {
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
});

describe('the engine killed with nothing under way', () => {
  withCapsule();

  it('finds the capsules that run', async () => {
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
      await vi.waitFor(() => expect(changes).toEqual([counter.id]), { timeout: 20_000 });
    }
  });
});
