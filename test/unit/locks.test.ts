/** One operation at a time on a workload; one that nobody waits for gives way. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, expect, it } from 'vitest';
import { Locks } from '../../engine/locks.ts';

let locks: Locks;
let events: string[];
beforeEach(() => {
  locks = new Locks();
  events = [];
});

const key = { key: '1', what: 'counter' };
const secondary = { givesWay: () => events.push('told') };

/** Goes on until it is told to stop, and then needs a moment. */
async function untilCancelled(signal: AbortSignal): Promise<void> {
  events.push('begins');
  if (!signal.aborted) await once(signal, 'abort');
  await sleep(20);
  events.push('has ended');
  signal.throwIfAborted();
}

it('refuses a second operation at once', async () => {
  const first = locks.hold('1', 'counter', 'suspended', untilCancelled);
  await expect(locks.hold('1', 'counter', 'ended', async () => {})).rejects.toThrow(
    'counter is just being suspended.',
  );
  expect(locks.cancel('1')).toBe(true);
  await expect(first).rejects.toThrow('It was cancelled');
  expect(locks.busy).toBe(false);
  expect(locks.cancel('1')).toBe(false);
});

it('has what nobody waits for give way, and waits until that has ended', async () => {
  const turn = locks.holdAll([{ key: '0', what: 'process 0' }, key], 'suspended', untilCancelled, secondary);
  turn.catch(() => {});
  const asked = locks.hold('1', 'counter', 'ended', async () => events.push('ends it'));
  await expect(turn).rejects.toThrow('It was cancelled');
  await asked;
  expect(events).toEqual(['begins', 'told', 'has ended', 'ends it']);
});

it('lets one operation only follow what gave way', async () => {
  const turn = locks.hold('1', 'counter', 'suspended', untilCancelled, secondary);
  turn.catch(() => {});
  const asked = ['resumed', 'ended'].map((operation) =>
    locks.hold('1', 'counter', operation, () => sleep(20)),
  );
  const outcomes = await Promise.allSettled(asked);
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
});

it('never has anything give way to what nobody waits for', async () => {
  const other = { givesWay: () => events.push('other') };
  const turn = locks.hold('1', 'counter', 'suspended', untilCancelled, secondary);
  turn.catch(() => {});
  await expect(locks.hold('1', 'counter', 'suspended', async () => {}, other)).rejects.toThrow(
    'just being suspended',
  );
  expect(events).toEqual(['begins']);
  locks.cancel('1');
  await turn.catch(() => {});
});
