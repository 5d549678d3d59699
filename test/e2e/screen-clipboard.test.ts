/// <reference lib="dom" />
/** One clipboard for the desktop and the application. */
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { becomes, becomesLive, Scene } from './screen-scene.ts';

const unicode = 'Öl für 5 € – 日本 🙂\nsecond line';

let scene: Scene;
let editor: Workload;

beforeAll(async () => {
  scene = await Scene.create();
  editor = await scene.engine.start(['mousepad', join(scene.folder, 'pasted.txt')]);
});
afterAll(() => scene?.[Symbol.asyncDispose]());

async function show(asks = false): Promise<Page> {
  const page = await scene.open(editor, { asks });
  await becomesLive(page);
  await page.bringToFront();
  return page;
}

const saved = (page: Page) => async () => {
  await page.keyboard.press('Control+s');
  return (await scene.read('pasted.txt')).trimEnd();
};

describe('the clipboard', () => {
  it('of the desktop is the application’s when its window gets the focus', async () => {
    const page = await show();
    await page.evaluate(async (text) => {
      await navigator.clipboard.writeText(text);
      dispatchEvent(new Event('focus'));
    }, unicode);
    const found = await becomes(
      () => scene.inside(editor, 'timeout', '2', 'xclip', '-selection', 'clipboard', '-o'),
      (text) => text === unicode,
    );
    expect(found).toBe(unicode);
    await page.context().close();
  });

  it('of the application is the desktop’s', async () => {
    const page = await show();
    await page.keyboard.press('Control+a');
    await page.keyboard.press('Delete');
    await page.keyboard.type('from inside: ä');
    await page.keyboard.press('Control+a');
    await page.keyboard.press('Control+c');
    const found = await becomes(
      () => page.evaluate(() => navigator.clipboard.readText()),
      (text) => text === 'from inside: ä',
    );
    expect(found).toBe('from inside: ä');
    await page.context().close();
  });

  it('can be pasted by the keyboard without any permission', async () => {
    const elsewhere = await show();
    await elsewhere.evaluate((text) => navigator.clipboard.writeText(text), 'pasted €');
    await elsewhere.context().close();

    const page = await show(true);
    await page.keyboard.press('Control+a');
    await page.keyboard.press('Control+v');
    expect(await becomes(saved(page), (text) => text === 'pasted €')).toBe('pasted €');
    await page.context().close();
  });

  it('says so, and offers a button, where the browser has to be asked', async () => {
    const page = await show(true);
    await page.getByRole('button', { name: 'Share the clipboard' }).waitFor();
    await page.getByRole('button', { name: 'Dismiss' }).click();
    await page.getByRole('button', { name: 'Share the clipboard' }).waitFor({ state: 'detached' });
    await page.context().close();
  });
});
