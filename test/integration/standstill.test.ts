/** For how long an application stands still: not until a slow medium has everything, where it runs on anyway. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Phase, Snapshot } from '../../api/types.ts';
import { Counter, expectTidy, removeSnapshots } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';
import { canCheckpoint } from './criu-fixture.ts';

const slowSync = new URL('../../build/native/test/libslow-sync.so', import.meta.url).pathname;
/** Of each file of the engine's own. */
const syncMs = 200;

let engine: TestEngine;

beforeAll(async () => {
  engine = await TestEngine.create({ env: { LD_PRELOAD: slowSync, SLOW_SYNC_MS: String(syncMs) } });
});
afterEach(() => removeSnapshots(engine));
afterAll(() => engine[Symbol.asyncDispose]());

describe.runIf(canCheckpoint)('on a medium that is slow to make things durable', () => {
  it('what is left running counts on before its snapshot is there', async () => {
    await using counter = await Counter.start(engine);
    await using client = await clientOf(engine);
    const phases: Phase[] = [];
    client.on('progress', ({ phase }) => phases.push(phase));
    const suspend = engine.json<Snapshot>('suspend', '--leave-running', counter.id);
    await vi.waitFor(() => expect(phases).toContain('commit'), { timeout: 20_000, interval: 5 });
    await counter.expectCounting();
    expect(phases).not.toContain('release');
    expect(await engine.snapshots()).toEqual([]);
    const snapshot = await suspend;
    expect(snapshot.standstillMs).toBeLessThan(snapshot.durableMs - syncMs);
    await counter.expectCounting();
    expect((await engine.run(['verify', '--read-data'])).code).toBe(0);
    await engine.json('end', counter.id);
    await expectTidy(engine);
  });

  it('what is to be suspended stands still until then', async () => {
    await using counter = await Counter.start(engine);
    const snapshot = await engine.json<Snapshot>('suspend', counter.id);
    expect(snapshot.standstillMs).toBeGreaterThan(syncMs);
    await engine.json('resume', counter.id);
    await counter.expectCounting();
    await engine.json('end', counter.id);
    await expectTidy(engine);
  });
});
