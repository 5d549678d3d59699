/** Buttons and wheel, as an X program inside the capsule is told of them. */
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { becomes, becomesLive, Scene } from './screen-scene.ts';

let scene: Scene;
let teller: Workload;
let page: Page;
let before = 0;

beforeAll(async () => {
  scene = await Scene.create();
  const log = join(scene.folder, 'events.txt');
  teller = await scene.engine.start(['sh', '-c', `exec stdbuf -oL xev -event button > ${log}`]);
  page = await scene.open(teller);
  await becomesLive(page);
});
afterAll(() => scene?.[Symbol.asyncDispose]());
beforeEach(async () => {
  before = (await scene.read('events.txt')).length;
});

/** Buttons that were pressed since the test began; 4 to 7 are the wheel: up, down, left, right. */
async function pressed(): Promise<number[]> {
  const text = (await scene.read('events.txt')).slice(before);
  return [...text.matchAll(/ButtonPress event[\s\S]*?button (\d+)/g)].map(([, button]) => Number(button));
}
const released = async () =>
  [...(await scene.read('events.txt')).slice(before).matchAll(/ButtonRelease/g)].length;

describe('the pointer', () => {
  it('has its three buttons', async () => {
    await page.mouse.move(300, 300);
    for (const button of ['left', 'middle', 'right'] as const) await page.mouse.click(300, 300, { button });
    expect(await becomes(pressed, ({ length }) => length >= 3)).toEqual([1, 2, 3]);
    await becomes(released, (count) => count === 3);
  });

  it('is followed outside of the window while a button is held', async () => {
    await page.mouse.move(300, 300);
    await page.mouse.down();
    await page.mouse.move(300, 1200);
    await becomes(
      () => scene.inside(teller, 'xdotool', 'getmouselocation'),
      (at) => at.includes('x:300 y:599'),
    );
    await page.mouse.up();
    await becomes(released, (count) => count === 1);
  });

  it('turns the wheel by notches, and gathers small turns', async () => {
    await page.mouse.move(300, 300);
    await page.mouse.wheel(0, 120);
    await page.mouse.wheel(0, -120);
    expect(await becomes(pressed, ({ length }) => length >= 2)).toEqual([5, 4]);
    before = (await scene.read('events.txt')).length;
    for (let turn = 0; turn < 24; turn++) await page.mouse.wheel(0, 10);
    expect(await becomes(pressed, ({ length }) => length >= 2)).toEqual([5, 5]);
    before = (await scene.read('events.txt')).length;
    await page.mouse.wheel(120, 0);
    expect(await becomes(pressed, ({ length }) => length >= 1)).toEqual([7]);
  });

  it('has the shape that the application gives it', async () => {
    const shape = () => page.locator('.screen-live canvas').evaluate(({ style }) => style.cursor);
    await becomes(shape, (cursor) => cursor.startsWith('url('));
    const first = await shape();
    const terminal = await scene.engine.start(['xterm']);
    const other = await scene.open(terminal);
    await becomesLive(other);
    await other.mouse.move(200, 200);
    await becomes(
      () => other.locator('.screen-live canvas').evaluate(({ style }) => style.cursor),
      (cursor) => cursor.startsWith('url(') && cursor !== first,
    );
    await other.close();
  });
});
