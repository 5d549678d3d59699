/**
 * `torpor-pager` killed while an application's memory is still being brought: whoever of it dies, in whatever order, the
 * application reads what it had, or does not run any more. It looks at its pages all the time and says what is wrong.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isThere, killIfThere } from '../support/engine.ts';
import { buildPrograms, canPage, makeStore, PagerScene, type Scene } from '../support/pager.ts';

const scene: Scene = { seed: 5, processes: 2, mappings: 3, pages: 15_000, codec: 'zstd' };

/** Ended, though perhaps not reaped. */
function isDead(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) /, '').startsWith('Z');
  } catch {
    return true;
  }
}

const isMounted = (path: string) => readFileSync('/proc/self/mountinfo', 'utf8').includes(path);

describe.skipIf(!canPage)('torpor-pager, killed', { timeout: 120_000 }, () => {
  let programs: string;
  beforeAll(() => {
    programs = buildPrograms();
    makeStore(programs, scene, programs);
  });
  afterAll(() => {
    rmSync(programs, { recursive: true, force: true });
  });

  /** The supervisor, the worker, the holder of descriptors, the tracer. */
  const orders = [
    't',
    'k',
    'tk',
    's',
    'sw',
    'ws',
    'sk',
    'ks',
    'st',
    'ts',
    'swk',
    'wst',
    'swkt',
    'tkws',
    'stkw',
  ];
  it.each(orders)('ends the application where they are killed in this order: %s', async (order) => {
    await using pager = new PagerScene(programs, scene, programs);
    await pager.start();
    const init = await pager.run('slow');
    await pager.ask(`load ${init}`);
    const pids = { s: [pager.pid], w: pager.helpers('w'), k: pager.helpers('k'), t: pager.helpers('t') };
    await sleep((order.length * 37) % 90);
    expect(pager.hasEvent('complete')).toBe(false);
    for (const who of order) for (const pid of pids[who as keyof typeof pids]) killIfThere(pid);
    await pager.until(() => isDead(init));
    await pager.until(() => Object.values(pids).flat().every(isDead));
    expect(pager.out).not.toContain('wrong');
    // Who is to unmount it may have begun later than the supervisor.
    if (!order.includes('k')) await pager.until(() => !isMounted(pager.mount));
  });

  it('waits until a restore that was under way has been ended by the engine', async () => {
    await using pager = new PagerScene(programs, scene, programs);
    await pager.start();
    const init = await pager.run('slow');
    const [holder = -1] = pager.helpers('k');
    await sleep(30);
    killIfThere(pager.pid);
    await sleep(300);
    expect(isDead(init)).toBe(false);
    expect(isThere(holder)).toBe(true);
    killIfThere(init);
    await pager.until(() => isDead(holder));
    expect(pager.out).not.toContain('wrong');
  });

  it('replaces a worker that dies, again and again', async () => {
    await using pager = new PagerScene(programs, scene, programs);
    await pager.start();
    const init = await pager.run('slow');
    await pager.ask(`load ${init}`);
    let killed = 0;
    while (!pager.hasEnded() && killed < 15) {
      for (const pid of pager.helpers('w')) {
        killIfThere(pid);
        killed++;
      }
      await sleep((killed * 7) % 40);
    }
    await pager.until(() => pager.hasEnded());
    expect(killed).toBeGreaterThan(3);
    expect(pager.events.at(-1)).toEqual({ event: 'complete' });
    expect(pager.out).not.toContain('wrong');
    expect(existsSync(`/proc/${init}/exe`)).toBe(true);
  });

  it('goes on without the engine that started it, and ends when there is nobody left', async () => {
    await using pager = new PagerScene(programs, scene, programs);
    await pager.start();
    const init = await pager.run('slow');
    await sleep(100);
    for (const signal of ['SIGHUP', 'SIGTERM', 'SIGINT', 'SIGPIPE'] as const) killIfThere(pager.pid, signal);
    pager.stopListening();
    await pager.ask(`load ${init}`);
    await pager.ask('hold');
    await sleep(700);
    expect(pager.hasEnded()).toBe(false);
    expect(await pager.status()).toMatchObject({ state: 'held' });
    killIfThere(init);
    await pager.until(() => pager.hasEnded());
    expect(pager.out).not.toContain('wrong');
    expect(isMounted(pager.mount)).toBe(false);
  });
});
