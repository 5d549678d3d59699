/** CRIU or the engine is killed while it has connections in its hands: they go on, and nothing keeps their packets away. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import type { Phase, Workload } from '../../api/types.ts';
import { killIfThere, TestEngine } from '../support/engine.ts';
import { locks, OtherSide } from '../support/other-side.ts';
import { expectTidy, killCriu, removeSnapshots, strikeAt } from './scene.ts';

const program = new URL('../fixtures/connected.py', import.meta.url).pathname;

let engine: TestEngine;
let side: OtherSide;
let client: Workload;

beforeAll(async () => {
  engine = await TestEngine.create();
});
beforeEach(async () => {
  side = await OtherSide.listen();
  client = await engine.start(['python3', program, '127.0.0.1', String(side.port), '/dev/null']);
  await side.hears('hello\n');
});
afterEach(async () => {
  await engine.run(['end', client.id]);
  await removeSnapshots(engine);
  await side[Symbol.asyncDispose]();
});
afterAll(() => engine[Symbol.asyncDispose]());

const moments: [Phase, number][] = [
  ['freeze', 20],
  ['checkpoint', 0],
  ['checkpoint', 30],
  ['commit', 0],
];

async function killedCriu(pid: number, later: number): Promise<void> {
  await sleep(later);
  for (let tries = 0; tries < 200 && !(await killCriu(pid)); tries++) await sleep(1);
}

it.each([
  ...moments.map(([phase, later]) => ['CRIU', phase, later, killedCriu] as const),
  ...moments
    .filter(([, later]) => later === 0)
    .map(
      ([phase, later]) =>
        [
          'the engine',
          phase,
          later,
          async (pid: number) => {
            await sleep(later);
            killIfThere(pid);
          },
        ] as const,
    ),
])('%s is killed at %s and %i ms later', async (_whom, phase, later, kill) => {
  await strikeAt(engine, phase, ['suspend', client.id, '--connections', 'keep'], (pid) => kill(pid, later));
  side.say('1');
  const now = await vi.waitFor(
    async () => {
      const found = await engine.workload(client.id);
      expect(found?.state).toMatch(/running|suspended/);
      return found;
    },
    { timeout: 40_000, interval: 200 },
  );
  if (now?.state === 'suspended') await engine.json('resume', client.id);
  await side.hears('hello\necho 1\n');
  expect(side.closed).toBe(false);
  expect(await locks()).toEqual([]);
  await expectTidy(engine);
});
