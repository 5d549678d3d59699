/** Launching what is installed on this machine from the list, by keyboard, in a real browser with the real engine. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { TestEngine } from '../support/engine.ts';

const patient = { timeout: 30_000 };

let folder: string;
let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;

beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/torpor-ui-');
  await mkdir(join(folder, 'data/applications'), { recursive: true });
  await writeFile(
    join(folder, 'data/applications/broken.desktop'),
    '[Desktop Entry]\nType=Application\nName=Broken Thing\n',
  );
  engine = await TestEngine.create();
  app = await TestApp.start(engine, {
    XDG_DATA_HOME: join(folder, 'data'),
    XDG_CONFIG_HOME: join(folder, 'config'),
    XDG_STATE_HOME: join(folder, 'state'),
  });
  browser = await TestBrowser.start();
  page = await browser.open(app.address);
});

afterAll(async () => {
  await browser[Symbol.asyncDispose]();
  await app[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

afterEach(() => {
  expect(browser.problems.splice(0)).toEqual([]);
});

const place = (hash: string) => page.evaluate(`location.hash = '#/${hash}'`);
/** In a browser the page itself goes to what was started; not before that may a test go elsewhere. */
const screenIsShown = () => expect.poll(() => new URL(page.url()).hash, patient).toMatch(/^#\/screen\//);
const focused = () => page.evaluate<string>('document.activeElement.textContent.trim()');

async function isAccessible(): Promise<void> {
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await accessibilityProblems(page)).toEqual([]);
  }
}

describe('launch', () => {
  it('shows what is installed, with icons, and what is broken with its problem at the end', async () => {
    await place('launch');
    const tiles = page.locator('.tile');
    await tiles.first().waitFor(patient);
    await isAccessible();
    expect(await tiles.count()).toBeGreaterThan(5);
    expect(await page.evaluate('document.activeElement.type')).toBe('search');
    const icon = page.locator('.tile', { hasText: 'Mousepad' }).first().locator('img');
    await expect
      .poll(
        () => icon.evaluate((image) => (image as unknown as { naturalWidth: number }).naturalWidth),
        patient,
      )
      .toBeGreaterThan(0);
    const last = (await tiles.last().textContent()) ?? '';
    expect(await page.locator('.tile-broken', { hasText: 'Broken Thing' }).textContent()).toMatch(
      /cannot be used/,
    );
    expect(
      await page
        .locator('.tile-broken')
        .filter({ hasText: last.slice(0, 8) })
        .count(),
    ).toBeGreaterThan(0);
  });

  it('starts the first that matches by typing and Enter, and its card appears with a picture', async () => {
    await page.keyboard.type('mousep');
    await expect.poll(() => page.locator('.tile').count(), patient).toBeLessThan(4);
    await isAccessible();
    await page.keyboard.press('Enter');
    await expect.poll(async () => (await engine.json<Workload[]>('ps')).length, patient).toBe(1);
    await screenIsShown();
    await place('home');
    const card = page.locator('article', { has: page.getByRole('heading', { name: 'Mousepad' }) });
    await card.locator('.thumbnail img').waitFor(patient);
    await isAccessible();
  });

  it('shows it first the next time', async () => {
    await place('launch');
    const recent = page.locator('section', { has: page.getByRole('heading', { name: 'Recently used' }) });
    await recent.getByRole('button', { name: /^Mousepad/ }).waitFor(patient);
  });

  it('goes through the results by arrow keys, and back to the field by typing', async () => {
    await page.getByRole('searchbox').fill('');
    await page.getByRole('searchbox').focus();
    await page.keyboard.press('ArrowDown');
    expect(await focused()).toMatch(/^Mousepad/);
    await page.keyboard.press('ArrowDown');
    const next = await focused();
    expect(next).not.toMatch(/^Mousepad/);
    await page.keyboard.press('ArrowUp');
    expect(await focused()).toMatch(/^Mousepad/);
    await page.keyboard.press('ArrowUp');
    expect(await page.evaluate('document.activeElement.type')).toBe('search');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.type('xterm');
    expect(await page.getByRole('searchbox').inputValue()).toBe('xterm');
    await page.keyboard.press('Escape');
    expect(await page.getByRole('searchbox').inputValue()).toBe('');
  });

  it('runs a command, in a terminal too, and offers it where nothing matches', async () => {
    await page.getByRole('searchbox').fill('sleep 4321');
    await page.getByText('No application matches “sleep 4321”.').waitFor();
    await isAccessible();
    await page.getByRole('button', { name: 'Run it as a command' }).click();
    const field = page.getByRole('textbox', { name: 'Command' });
    expect(await field.inputValue()).toBe('sleep 4321');
    await page.getByRole('checkbox', { name: 'In a terminal window' }).check();
    await field.press('Enter');
    await expect
      .poll(
        async () => (await engine.json<Workload[]>('ps')).map(({ command }) => command.join(' ')),
        patient,
      )
      .toContainEqual(expect.stringMatching(/(xterm|terminal).*sleep 4321/));
    await screenIsShown();
  });

  it('says why what cannot be launched cannot', async () => {
    await place('launch');
    await page.getByRole('textbox', { name: 'Command' }).fill('exec /no/such/program');
    await page.getByRole('checkbox', { name: 'In a terminal window' }).uncheck();
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page
      .getByRole('alert')
      .filter({ hasText: /ended at once/ })
      .waitFor(patient);
  });
});
