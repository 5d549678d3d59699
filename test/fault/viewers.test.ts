/** Viewers of a screen that come back in the very moment of a suspend: it works all the same. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { connectRfb } from '../../api/rfb/client.ts';
import type { Snapshot } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { Counter, expectTidy } from './scene.ts';

it('suspends what a viewer connects to again and again', async () => {
  await using engine = await TestEngine.create();
  await using counter = await Counter.start(engine);
  const { screen = '' } = await engine.workload(counter.id);
  const looking = new AbortController();
  let looks = 0;
  const viewer = (async () => {
    while (!looking.signal.aborted) {
      try {
        await using client = await connectRfb(screen, { timeoutMs: 2000 });
        await client.capture();
        looks++;
      } catch {
        // Cut off, or it does not run just now.
      }
      await sleep(150);
    }
  })();
  try {
    for (let round = 0; round < 12; round++) {
      const snapshot = await engine.json<Snapshot>('suspend', counter.id, '--leave-running');
      await engine.json('rm', snapshot.id);
    }
  } finally {
    looking.abort();
    await viewer;
  }
  expect(looks).toBeGreaterThan(12);
  await counter.expectCounting();
  await expectTidy(engine);
});
