/** Memory pressure as the kernel tells it: a real process in a real limit has to wait for its memory. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { EngineClient } from '../../api/client.ts';
import type { Pressure } from '../../api/types.ts';
import { runCommand } from '../../engine/command.ts';
import { findInstallation } from '../../engine/installation.ts';
import { TestEngine } from '../support/engine.ts';
import { limitMemory, noMemoryLimit } from '../support/memory-limit.ts';
import { clientOf } from '../support/subscriber.ts';
import { noZram, zramSwap } from '../support/swap.ts';

const noPressure = existsSync('/proc/pressure/memory') ? undefined : 'this kernel has no PSI';
/** Goes through more memory than it may have, again and again. */
const needy =
  'held = bytearray(160 << 20)\nwhile True:\n  for at in range(0, len(held), 4096): held[at] += 1';

let engine: TestEngine;
let client: EngineClient;

beforeAll(async () => {
  engine = await TestEngine.create();
  await engine.json('ps');
  client = await clientOf(engine);
});
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
});

const cannot = noPressure ?? noMemoryLimit ?? noZram;
it.skipIf(cannot !== undefined)('is told to who subscribes, while a program waits for memory', async () => {
  await using _swap = await zramSwap(512);
  using limit = limitMemory('torpor-test-pressure', 96);
  const told: Pressure[] = [];
  expect(await client.watchPressure()).toEqual({});
  client.on('pressureRose', (pressure) => told.push(pressure));
  const program = spawn('sh', ['-c', `echo $$ >${limit.procs}; exec python3 -c '${needy}'`], {
    stdio: 'ignore',
  });
  try {
    await vi.waitFor(() => expect(told.length).toBeGreaterThan(1), { timeout: 30_000, interval: 100 });
    expect(Math.max(...told.map(({ some }) => some))).toBeGreaterThan(0);
  } finally {
    program.kill('SIGKILL');
    await once(program, 'exit');
  }
  expect(limit.kills()).toBe(0);
});

it('is refused where its trigger is not one that the kernel takes', async () => {
  const { status, stderr } = await runCommand(findInstallation().pressure, ['2000000', '1000000']);
  expect({ status, stderr }).toEqual({ status: 4, stderr: expect.stringMatching(/trigger/) });
});
