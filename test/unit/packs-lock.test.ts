/** Suspends count on the packs, upkeep changes them: never both, and a suspend goes first. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { GivenUp, PacksLock } from '../../engine/store/packs-lock.ts';
import { lockFolder } from '../../native/folder-lock.ts';

let folder: string;
let lock: PacksLock;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-packs-'));
  lock = new PacksLock(folder);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Upkeep that goes on until it is told to stop, and then needs a moment. */
function untilGivenUp(events: string[]) {
  return async (signal: AbortSignal) => {
    events.push('upkeep begins');
    if (!signal.aborted) await once(signal, 'abort');
    await sleep(20);
    events.push('upkeep has ended');
    signal.throwIfAborted();
  };
}

it('is shared by suspends', async () => {
  const [one, other] = await Promise.all([lock.share(), lock.share()]);
  one();
  other();
  expect(await lock.alone(async () => 'done')).toBe('done');
});

it('gives upkeep up for a suspend, which waits until that has ended', async () => {
  const events: string[] = [];
  const upkeep = lock.alone(untilGivenUp(events));
  upkeep.catch(() => {});
  while (events.length === 0) await sleep(1);
  const release = await lock.share();
  events.push('suspend');
  await expect(upkeep).rejects.toBeInstanceOf(GivenUp);
  release();
  expect(events).toEqual(['upkeep begins', 'upkeep has ended', 'suspend']);
});

it('lets upkeep wait for the last suspend', async () => {
  const [one, other] = [await lock.share(), await lock.share()];
  const events: string[] = [];
  const upkeep = lock.alone(async () => events.push('upkeep'));
  events.push('one ends');
  one();
  one();
  await sleep(20);
  events.push('the other ends');
  other();
  await upkeep;
  expect(events).toEqual(['one ends', 'the other ends', 'upkeep']);
});

it('does upkeep one after the other', async () => {
  let atWork = 0;
  const most: number[] = [];
  const work = async () => {
    most.push(++atWork);
    await sleep(5);
    atWork--;
  };
  await Promise.all([lock.alone(work), lock.alone(work), lock.alone(work)]);
  expect(most).toEqual([1, 1, 1]);
});

it('stops waiting when nobody wants it any more', async () => {
  const release = await lock.share();
  const stop = new AbortController();
  const waiting = lock.alone(async () => 'done', stop.signal);
  stop.abort(new Error('the engine stops'));
  await expect(waiting).rejects.toThrow('the engine stops');
  release();
});

it('waits for a program that an engine which was killed has left at work', async () => {
  const child = spawn('flock', [folder, 'sleep', '1000'], { stdio: 'ignore', detached: true });
  await once(child, 'spawn');
  const isLocked = () => {
    const own = lockFolder(folder);
    own?.[Symbol.dispose]();
    return own === undefined;
  };
  while (!isLocked()) await sleep(5);
  const end = () => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
      process.kill(-child.pid, 'SIGKILL');
  };
  try {
    const events: string[] = [];
    const next = new PacksLock(folder);
    const suspend = next.share().then(() => events.push('suspend'));
    await sleep(60);
    events.push('it ends');
    end();
    await suspend;
    expect(events).toEqual(['it ends', 'suspend']);
  } finally {
    end();
  }
});
