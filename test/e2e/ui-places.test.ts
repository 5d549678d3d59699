/** Settings, snapshots, languages and what goes wrong, in a real browser with the real app and engine. */
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { TestEngine } from '../support/engine.ts';
import { TestPlugins } from '../support/plugins.ts';

const patient = { timeout: 30_000 };

let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;

beforeEach(async () => {
  engine = await TestEngine.create();
  app = await TestApp.start(engine);
  browser = await TestBrowser.start();
  page = await browser.open(app.address);
});

afterEach(async () => {
  const problems = browser.problems.splice(0);
  await browser[Symbol.asyncDispose]();
  await app[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
  expect(problems).toEqual([]);
});

async function isAccessible(): Promise<void> {
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await accessibilityProblems(page)).toEqual([]);
  }
}

const goTo = (place: string) => page.evaluate(`location.hash = '#/${place}'`);

describe('settings', () => {
  it('are saved as they are changed, and wrong ones are not', async () => {
    await goTo('settings');
    await page.getByRole('heading', { name: 'Settings' }).waitFor(patient);
    await isAccessible();
    await page.getByText(engine.paths.stateDir).waitFor();

    await page.getByRole('switch', { name: 'Limit what they take' }).click();
    const limit = page.getByRole('spinbutton', { name: 'Limit in gigabytes' });
    await limit.fill('0');
    await page.getByText('Please enter a number of gigabytes').waitFor();
    await isAccessible();
    await limit.fill('35');
    await limit.press('Enter');
    await page.getByText(/of 35 GB used by snapshots/).waitFor(patient);
    await page.getByRole('combobox', { name: 'What goes first' }).selectOption('The largest');
    await page.getByRole('switch', { name: 'Fetch all memory before an application runs' }).click();
    const keepLast = page.getByRole('spinbutton', { name: 'Of those taken at an interval, keep the last' });
    await keepLast.fill('0');
    await page.getByText('Please enter a whole number from 1 to 1000.').waitFor();
    await keepLast.fill('7');
    await keepLast.press('Enter');
    await page.getByRole('combobox', { name: 'When you log out' }).selectOption('Suspend them to disk');
    await page.getByRole('combobox', { name: 'When memory runs short' }).selectOption('Do nothing');
    await page.getByText('Short means less than').waitFor({ state: 'detached', ...patient });

    await page.reload();
    expect(await limit.inputValue()).toBe('35');
    expect(await keepLast.inputValue()).toBe('7');
    expect(await page.getByRole('switch', { name: /^Fetch all memory/ }).isChecked()).toBe(true);
    expect(await page.getByRole('combobox', { name: 'What goes first' }).inputValue()).toBe('largest');
    expect(await page.getByRole('combobox', { name: 'When you log out' }).inputValue()).toBe('suspend');
  });

  it('show the plugins, and what is wrong with one', async () => {
    await using plugins = await TestPlugins.create();
    await plugins.add('org.example.Well', { description: { title: 'Keeps a tune', policy: 'required' } });
    await plugins.add('org.example.Ill', { description: { version: 9 } });
    await using other = await TestEngine.create({ env: plugins.env });
    await using otherApp = await TestApp.start(other);
    const settings = await browser.open(`${otherApp.address}#/settings`);
    await settings.getByText('Keeps a tune').waitFor(patient);
    await settings.getByText('Where it fails, nothing is suspended.').waitFor();
    await settings.getByText(/It is not called: it speaks version 9/).waitFor();
    expect(await accessibilityProblems(settings)).toEqual([]);
    await settings.close();
  });

  it('turn everything into German, and back', async () => {
    await goTo('settings');
    await page.getByRole('combobox', { name: 'Language' }).selectOption('Deutsch');
    await page.getByRole('heading', { name: 'Einstellungen', level: 1 }).waitFor(patient);
    expect(await page.evaluate('document.documentElement.lang')).toBe('de');
    expect(await page.title()).toBe('Einstellungen – Torpor');
    await isAccessible();
    await goTo('home');
    await page.getByRole('heading', { name: 'Hier läuft noch nichts' }).waitFor();
    await goTo('settings');
    await page.getByRole('combobox', { name: 'Sprache' }).selectOption('English');
    await page.getByRole('heading', { name: 'Settings', level: 1 }).waitFor(patient);
    expect(await page.evaluate('document.documentElement.lang')).toBe('en');
  });
});

describe('snapshots', () => {
  it('are taken by itself at the interval that is chosen, which the card tells of', async () => {
    const { id } = await engine.start(['sh', '-c', 'exec xterm'], '--name', 'terminal');
    await goTo(`snapshots/${id}`);
    const choice = page.getByRole('combobox', { name: 'Take snapshots of terminal by itself' });
    expect(await choice.inputValue({ timeout: patient.timeout })).toBe('');
    await choice.selectOption('Every 10 min');
    await page
      .getByText('Snapshots of terminal are taken every 10 min. The first one is there.')
      .first()
      .waitFor(patient);
    await page.locator('[data-snapshot]').getByText('By itself').waitFor(patient);
    await page.getByText(/^next in (10|9) min · the last 3 stay$/).waitFor(patient);
    await isAccessible();
    expect((await engine.workload(id)).interval).toMatchObject({ everySeconds: 600, keepLast: 3 });

    await goTo('home');
    const card = page.locator(`article[data-workload="${id}"]`);
    await card.getByText(/^Snapshot every 10 min · next in (10|9) min$/).waitFor(patient);
    await isAccessible();

    // As it was set on the command line, and waits.
    await engine.json('snapshots', '--every', '45m', id);
    await card.getByText('Snapshot every 45 min').waitFor(patient);
    await engine.json('suspend', id);
    await card.getByText('Snapshot every 45 min · when it runs again').waitFor(patient);
    await goTo(`snapshots/${id}`);
    expect(await choice.locator('option:checked').textContent()).toBe('Every 45 min');
    await choice.selectOption('Never');
    await page.getByText('No more snapshots of terminal are taken by itself.').first().waitFor(patient);
    expect((await engine.workload(id)).interval).toBeUndefined();
  });

  it('that are to be taken by itself and fail again and again are told of', async () => {
    const { id } = await engine.start(['sh', '-c', 'exec xterm'], '--name', 'terminal');
    await engine.json('snapshots', '--every', '1s', id);
    const staging = join(engine.paths.stateDir, 'staging');
    await expect
      .poll(() => rename(staging, `${staging}.away`).then(() => writeFile(staging, 'no folder')), patient)
      .toBeUndefined();
    await page.getByText(/^The last \d+ snapshots of terminal could not be taken/).waitFor(patient);
    const card = page.locator(`article[data-workload="${id}"]`);
    await card.getByText(/^The last \d+ turns failed: /).waitFor(patient);
    await isAccessible();
    await rm(staging);
    await rename(`${staging}.away`, staging);
    await card.getByText(/turns? failed/).waitFor({ state: 'detached', ...patient });
    await engine.json('snapshots', '--every', 'off', id);
  });

  it('are a time machine: back, and forward again', async () => {
    const folder = await mkdtemp('/var/tmp/torpor-ui-');
    try {
      // Counts in its memory and writes it where the test can read it.
      const file = join(folder, 'count');
      const count = async () => Number(await readFile(file, 'utf8').catch(() => '0'));
      const line = `n=0; while sleep 0.1; do n=$((n+1)); echo $n > ${file}.new; mv ${file}.new ${file}; done`;
      const { id } = await engine.start(['sh', '-c', line], '--name', 'counter');
      await expect.poll(count, patient).toBeGreaterThan(20);

      await goTo(`snapshots/${id}`);
      await page.getByRole('heading', { name: 'Snapshots of counter' }).waitFor(patient);
      await page.getByRole('heading', { name: 'There is no snapshot yet' }).waitFor(patient);
      await isAccessible();
      await page.getByRole('button', { name: 'Take a snapshot' }).click();
      const points = page.locator('[data-snapshot]');
      await expect.poll(() => points.count(), patient).toBe(1);
      const atSnapshot = await count();
      await isAccessible();

      await expect.poll(count, patient).toBeGreaterThan(atSnapshot + 130);
      const machine = page.getByRole('region', { name: 'Time machine' });
      await machine.getByRole('button', { name: /^Back/ }).click(patient);
      await page
        .getByText(/^counter is back at/)
        .first()
        .waitFor(patient);
      await sleep(300);
      expect(await count()).toBeLessThan(atSnapshot + 60);
      await expect.poll(() => points.count(), patient).toBe(2);

      await machine.getByRole('button', { name: /^Forward/ }).click(patient);
      await expect.poll(count, patient).toBeGreaterThan(atSnapshot + 130);

      await points
        .last()
        .getByRole('button', { name: /^More for the snapshot/ })
        .click();
      await page.getByRole('menuitem', { name: 'Delete' }).click();
      const before = (await engine.snapshots()).length;
      await page.getByRole('alertdialog').getByRole('button', { name: 'Delete' }).click();
      await expect.poll(async () => (await engine.snapshots()).length, patient).toBe(before - 1);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('of what there is not are a sentence', async () => {
    await goTo('snapshots/nothing');
    await page.getByRole('heading', { name: 'There is no such application any more.' }).waitFor(patient);
    await isAccessible();
  });
});

describe('what goes wrong', () => {
  it('is a sentence where a command cannot be started, and it stays until it is dismissed', async () => {
    await goTo('launch');
    await page.getByRole('textbox', { name: 'Command' }).fill('exec /no/such/program');
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    const alert = page.getByRole('alert').filter({ hasText: /could not be started|ended/ });
    await alert.waitFor(patient);
    await sleep(8000);
    await isAccessible();
    await page.getByRole('button', { name: /^Dismiss:/ }).click();
    await alert.waitFor({ state: 'detached' });
  });

  it('is a sentence where the app has ended', async () => {
    await page.getByRole('heading', { name: 'Applications' }).waitFor(patient);
    await app[Symbol.asyncDispose]();
    await page.getByRole('heading', { name: 'Torpor is not running.' }).waitFor(patient);
    await isAccessible();
    browser.problems.length = 0;
  });

  it('is a sentence where the token is wrong', async () => {
    const wrong = await browser.open(app.address.replace(/token=\w{6}/, 'token=000000'));
    expect((await wrong.locator('body').textContent())?.trim()).toMatch(/^[A-Z][^.]{10,}\./);
    expect(await wrong.locator('#root').count()).toBe(0);
    browser.problems.length = 0;
  });
});
