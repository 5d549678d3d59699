/// <reference lib="dom" />
/** Typing into an application through its window, as it arrives inside the capsule. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { becomes, becomesLive, Scene } from './screen-scene.ts';

let scene: Scene;
let editor: Workload;
let page: Page;

beforeAll(async () => {
  scene = await Scene.create();
  await writeFile(join(scene.folder, 'text.txt'), 'not typed yet\n');
  editor = await scene.engine.start(['mousepad', join(scene.folder, 'text.txt')]);
  page = await scene.open(editor);
  await becomesLive(page);
  await becomes(
    () => scene.inside(editor, 'xdotool', 'getwindowfocus', 'getwindowname'),
    (name) => name.includes('text.txt'),
  );
});
afterAll(() => scene?.[Symbol.asyncDispose]());

/** Empties the editor, does it, saves, and says what the file holds. */
async function typed(type: () => Promise<void>, isSo: (text: string) => boolean): Promise<string> {
  await page.keyboard.press('Control+a');
  await page.keyboard.press('Delete');
  await type();
  return becomes(async () => {
    await page.keyboard.press('Control+s');
    return (await scene.read('text.txt')).trimEnd();
  }, isSo);
}

describe('typing into mousepad', () => {
  it('brings letters, umlauts, the euro sign and what other layouts have', async () => {
    const text = 'Grüße: 12 € für Ärger? {[\\|~]} «naïve» Ж';
    const found = await typed(
      () => page.keyboard.type(text),
      (value) => value === text,
    );
    expect(found).toBe(text);
  });

  it('brings what an input method has composed, once', async () => {
    const devtools = await page.context().newCDPSession(page);
    const found = await typed(
      async () => {
        await devtools.send('Input.imeSetComposition', { selectionStart: 1, selectionEnd: 1, text: 'に' });
        await devtools.send('Input.imeSetComposition', { selectionStart: 2, selectionEnd: 2, text: 'にほ' });
        await devtools.send('Input.insertText', { text: '日本' });
        await page.keyboard.type('!');
      },
      (value) => value.endsWith('!'),
    );
    expect(found).toBe('日本!');
  });

  it('does not send the parts of a composed character', async () => {
    const devtools = await page.context().newCDPSession(page);
    const dead = { key: 'Dead', code: 'Equal', windowsVirtualKeyCode: 229 };
    const found = await typed(
      async () => {
        await devtools.send('Input.dispatchKeyEvent', { type: 'rawKeyDown', ...dead });
        await devtools.send('Input.dispatchKeyEvent', { type: 'keyUp', ...dead });
        await devtools.send('Input.insertText', { text: 'é' });
        await page.keyboard.type('c');
      },
      (value) => value.endsWith('c'),
    );
    expect(found).toBe('éc');
  });

  it('repeats a key that is held', async () => {
    const found = await typed(
      async () => {
        for (let count = 0; count < 4; count++) await page.keyboard.down('x');
        await page.keyboard.up('x');
        await page.keyboard.type('.');
      },
      (value) => value.endsWith('.'),
    );
    expect(found).toBe('xxxx.');
  });

  it('lets held keys go when the focus leaves', async () => {
    const found = await typed(
      async () => {
        await page.keyboard.type('a');
        await page.keyboard.down('Shift');
        await page.evaluate(() => (document.activeElement as HTMLElement).blur());
        await page.locator('.screen-keys').focus();
        // As if Shift had been let go while another window had the focus.
        await page.keyboard.type('b1');
      },
      (value) => /^ab?.$|^ab../.test(value),
    );
    await page.keyboard.up('Shift');
    expect(found).toBe('ab1');
  });

  it('sends a combination that the browser would take, from the menu', async () => {
    await page.keyboard.press('Control+Alt+Home');
    await page.getByRole('button', { name: 'Send keys' }).click();
    await page.getByRole('menuitem', { name: 'Ctrl+N', exact: true }).click();
    // It opens another text in it.
    const title = await becomes(
      () => scene.inside(editor, 'xdotool', 'getactivewindow', 'getwindowname'),
      (name) => name.includes('Untitled'),
    );
    expect(title).toContain('Untitled');
  });
});
