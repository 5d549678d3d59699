/** Taking an application along on a drive and bringing it in again, in a real browser, on a real exFAT drive. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { TestEngine } from '../support/engine.ts';
import { ExfatKey } from '../support/exfat-key.ts';
import { makeUser, type TestUser } from '../support/users.ts';

const patient = { timeout: 30_000 };
const passphrase = 'correct horse battery staple';

let folder: string;
let mountPoint: string;
let key: ExfatKey;
let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;
let user: TestUser;

beforeAll(async () => {
  folder = await mkdtemp('/mnt/torpor-drive-');
  // Without udev a drive has no label, as in a container; desktops name the mount point by it.
  mountPoint = join(folder, 'RED KEY');
  await mkdir(mountPoint);
  key = ExfatKey.make(join(folder, 'image'), { bytes: 512 * 1024 * 1024, mountPoint });
  await key.plugIn();
  user = await makeUser('torpor-dora', 21504);
  engine = await TestEngine.create();
  app = await TestApp.start(engine);
  browser = await TestBrowser.start();
  page = await browser.open(`${app.address}#/bundles`);
});

afterAll(async () => {
  const problems = browser?.problems.splice(0) ?? [];
  for (const each of [browser, app, engine, user]) await each?.[Symbol.asyncDispose]();
  await key?.pullOut('torn');
  await rm(folder, { recursive: true, force: true });
  expect(problems).toEqual([]);
});

async function isAccessible(): Promise<void> {
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await accessibilityProblems(page)).toEqual([]);
  }
}

const out = () => page.getByRole('form', { name: 'Take applications along' });
const into = () => page.getByRole('form', { name: 'Bring applications in' });

it('finds the drive, and says what is missing before anything is written', async () => {
  const env = ['--env', `HOME=${user.home}`];
  const options = ['--name', 'terminal', '--user', user.name, ...env];
  await engine.start(['sh', '-c', 'exec xterm -e sleep 1000'], ...options);
  await out().getByText('RED KEY', { exact: true }).waitFor(patient);
  await out()
    .getByRole('radio', { name: /RED KEY/ })
    .check();
  const write = out().getByRole('button', { name: 'Write' });
  await out()
    .getByRole('checkbox', { name: /terminal/ })
    .check();
  expect(await write.isDisabled()).toBe(true);
  await out().getByLabel('Passphrase', { exact: true }).fill(passphrase);
  await out().getByLabel('The same once more').fill('another');
  await out().getByText('These two are not the same.').waitFor();
  expect(await write.isDisabled()).toBe(true);
  await isAccessible();
  await out().getByLabel('The same once more').fill(passphrase);
  expect(await write.isEnabled()).toBe(true);
});

it('writes it, and says that the drive can be removed only when all of it is there', async () => {
  const early = page.getByText('It is safe to remove RED KEY now.');
  await out().getByRole('button', { name: 'Write' }).click();
  await page.getByText('Do not remove RED KEY yet.').waitFor(patient);
  expect(await early.isVisible()).toBe(false);
  await page.getByRole('progressbar', { name: /torpor-session/ }).waitFor(patient);
  await early.waitFor({ timeout: 60_000 });
  expect(await readdir(join(mountPoint, 'torpor-session'))).toContain('header.torpor');
  expect((await engine.json<{ state: string }[]>('ps')).map(({ state }) => state)).toEqual(['suspended']);
  expect(await out().getByLabel('Passphrase', { exact: true }).inputValue()).toBe('');
  await isAccessible();
});

it('says what is wrong with a passphrase, and updates under the right one', async () => {
  await out().getByText('There is a bundle of that name.').waitFor(patient);
  await out().getByLabel('Passphrase', { exact: true }).fill('wrong');
  await out().getByRole('button', { name: 'Update' }).click();
  await page
    .getByRole('alert')
    .getByText(/passphrase/)
    .waitFor(patient);
  await out().getByLabel('Passphrase', { exact: true }).fill(passphrase);
  await out().getByRole('button', { name: 'Update' }).click();
  await page.getByText(/synced and read back: .+ of .+ had to be written/).waitFor(patient);
});

it('brings it in from the drive, after a wrong passphrase too', async () => {
  await into()
    .getByRole('radio', { name: /torpor-session/ })
    .check(patient);
  await into().getByLabel('Passphrase', { exact: true }).fill('wrong');
  await into().getByRole('button', { name: 'Bring in' }).click();
  await page
    .getByRole('alert')
    .getByText(/passphrase/)
    .waitFor(patient);
  await into().getByLabel('Passphrase', { exact: true }).fill(passphrase);
  await into().getByRole('button', { name: 'Bring in' }).click();
  await page.getByText('One application was brought in.').waitFor(patient);
  await page.getByText('They are at home here.').waitFor();
  expect((await engine.json<{ state: string }[]>('ps')).map(({ state }) => state)).toEqual(['running']);
  await isAccessible();
});

it('names what is wrong with a place that is typed, and gives up when asked to', async () => {
  await out().getByRole('radio', { name: 'Somewhere else' }).check();
  await out()
    .getByRole('checkbox', { name: /terminal/ })
    .check();
  await out().getByLabel('File or folder', { exact: true }).fill('session');
  for (const label of ['Passphrase', 'The same once more'])
    await out().getByLabel(label, { exact: true }).fill(passphrase);
  await out().getByRole('button', { name: 'Write' }).click();
  await page
    .getByRole('alert')
    .getByText(/no whole path/)
    .waitFor(patient);
  await out().getByLabel('File or folder', { exact: true }).fill(join(mountPoint, 'other'));
  await out().getByRole('button', { name: 'Write' }).click();
  await page.getByRole('button', { name: 'Cancel' }).click(patient);
  await page
    .getByRole('alert')
    .getByText(/cancelled|given up/)
    .waitFor(patient);
  expect(await readdir(mountPoint)).not.toContain('other');
});
