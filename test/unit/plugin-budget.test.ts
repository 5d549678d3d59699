/** How long plugins may keep an operation waiting, by a clock that goes on when it is told to. */
import { describe, expect, it } from 'vitest';
import { PluginTime } from '../../engine/plugin-host/budget.ts';

const limitMs = 100;

class Scene {
  #at = 5000;
  readonly time = new PluginTime(limitMs, () => this.#at);

  pass(ms: number): void {
    this.#at += ms;
  }

  /** A call begins, and lasts until it is ended. */
  begin(name: string, budget = this.time.calls): { end: () => Promise<void> } {
    let resolve = () => {};
    const promise = new Promise<void>((done) => {
      resolve = done;
    });
    const spent = budget.spend(name, () => promise);
    return {
      end: () => {
        resolve();
        return spent;
      },
    };
  }

  async call(name: string, ms: number, budget = this.time.calls): Promise<void> {
    const running = this.begin(name, budget);
    this.pass(ms);
    await running.end();
  }
}

describe('the time of plugins', () => {
  it('is one limit for all calls of one, also for those that fail', async () => {
    const scene = new Scene();
    const { calls } = scene.time;
    await scene.call('a', 30);
    expect(calls.left('a')).toBe(70);
    await calls
      .spend('a', async () => {
        scene.pass(50);
        throw new Error('it went wrong');
      })
      .catch(() => {});
    expect(calls.left('a')).toBe(20);
    await scene.call('a', 25);
    expect(calls.left('a')).toBe(0);
    expect(calls.left('b')).toBe(limitMs);
  });

  it('is counted once where they are called at the same time', async () => {
    const scene = new Scene();
    const { calls } = scene.time;
    const running = ['a', 'b', 'c', 'd'].map((name) => scene.begin(name));
    scene.pass(90);
    await Promise.all(running.map(({ end }) => end()));
    for (const name of ['a', 'b', 'c', 'd']) expect(calls.left(name)).toBe(10);
    // Of the three limits of all together, 90 are gone and not 360.
    expect(calls.left('e')).toBe(limitMs);
  });

  it('is three limits for all together, however many there are', async () => {
    const scene = new Scene();
    const { calls } = scene.time;
    for (const name of ['a', 'b', 'c']) await scene.call(name, 80);
    expect(calls.left('d')).toBe(60);
    const running = scene.begin('d');
    scene.pass(40);
    // Also what a call has taken that has not come to its end.
    expect(calls.left('e')).toBe(20);
    scene.pass(30);
    await running.end();
    expect(calls.left('e')).toBe(0);
    expect(calls.left('a')).toBe(0);
  });

  it('to undo what was asked is apart from the time to do it', async () => {
    const scene = new Scene();
    await scene.call('a', limitMs);
    expect(scene.time.calls.left('a')).toBe(0);
    expect(scene.time.aborts.left('a')).toBe(limitMs);
    await scene.call('a', 40, scene.time.aborts);
    expect(scene.time.aborts.left('a')).toBe(60);
  });

  it('that the operation did nothing else in is told', async () => {
    const scene = new Scene();
    const running = scene.begin('a');
    scene.pass(30);
    const waited = scene.time.wait(running.end());
    scene.pass(12);
    await waited;
    expect(scene.time.waitedMs).toBe(12);
  });
});
