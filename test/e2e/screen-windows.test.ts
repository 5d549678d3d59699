/** Several windows of one application in one window of Torpor's. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { becomes, becomesLive, Scene } from './screen-scene.ts';

let scene: Scene;

beforeAll(async () => {
  scene = await Scene.create();
});
afterAll(() => scene?.[Symbol.asyncDispose]());

describe('an application with two windows', () => {
  it('has both in the bar, goes to the one that is chosen, and gives the page its title', async () => {
    const workload = await scene.engine.start([
      ...['bash', '-c', 'xterm -T first -e cat & sleep 1; exec xterm -T second -e cat'],
    ]);
    const active = () => scene.inside(workload, 'xdotool', 'getactivewindow', 'getwindowname');
    const page = await scene.open(workload);
    await becomesLive(page);
    await becomes(active, (name) => name === 'second');
    await becomes(
      () => page.title(),
      (title) => title === 'second',
    );

    await page.keyboard.press('Control+Alt+Home');
    await page.getByRole('button', { name: 'Windows' }).click();
    await page.getByRole('menuitem', { name: 'first' }).click();
    expect(await becomes(active, (name) => name === 'first')).toBe('first');
    await becomes(
      () => page.title(),
      (title) => title === 'first',
    );
    expect(await page.locator('link[rel~="icon"]').getAttribute('href')).toMatch(/^\/icons\//);
    await page.close();
  });
});
