/** Taking an application along on a drive and bringing it in again, in a real browser, on a real exFAT drive. */
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Locator, Page } from 'playwright-core';
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

const goTo = (place: string) => page.evaluate(`location.hash = '#/${place}'`);
const out = () => page.getByRole('form', { name: 'Take applications along' });
const into = () => page.getByRole('form', { name: 'Bring applications in' });

/** The field that a passphrase is typed into, once or twice. */
const field = (form: Locator, name = 'Passphrase') => form.getByLabel(name, { exact: true });

const state = async () => (await engine.json<{ state: string }[]>('ps')).map((each) => each.state);

/** Says what is wrong beside the field, which is empty again and has the keyboard. */
async function isRefusedAtField(form: Locator): Promise<void> {
  await form
    .getByRole('alert')
    .getByText(/^That is not a passphrase of the bundle/)
    .waitFor(patient);
  expect(await field(form).getAttribute('aria-invalid')).toBe('true');
  expect(await field(form).inputValue()).toBe('');
  const id = await field(form).getAttribute('id');
  await expect.poll(() => page.evaluate('document.activeElement.id'), patient).toBe(id);
}

it('finds the drive, and says what is missing before anything is written', async () => {
  const env = ['--env', `HOME=${user.home}`];
  const options = ['--name', 'terminal', '--user', user.name, ...env];
  await engine.start(['sh', '-c', 'exec xterm -e sleep 1000'], ...options);
  await goTo('home');
  await page.getByRole('button', { name: 'More for terminal' }).click(patient);
  await page.getByRole('menuitem', { name: 'Take along …' }).click();
  await out().getByText('RED KEY', { exact: true }).waitFor(patient);
  await out()
    .getByRole('radio', { name: /RED KEY/ })
    .check();
  const write = out().getByRole('button', { name: 'Write' });
  const terminal = out().getByRole('checkbox', { name: /terminal Running · \d+ MB/ });
  expect(await terminal.isChecked()).toBe(true);
  const lacks = async (what: string) => {
    await out().getByText(what).waitFor();
    expect(await write.isDisabled()).toBe(true);
  };
  await terminal.uncheck();
  await lacks('Choose what is to be taken along.');
  await terminal.check();
  await out().getByLabel('Name of the bundle', { exact: true }).fill('a/b');
  await lacks('Give the bundle a name, without a slash.');
  await out().getByLabel('Name of the bundle', { exact: true }).fill('torpor-session');
  await lacks('Enter the passphrase.');
  await field(out()).fill('battery');
  await lacks('The passphrase needs at least 8 characters.');
  await field(out()).fill(passphrase);
  await field(out(), 'The same once more').fill('another');
  await lacks('These two are not the same.');
  await isAccessible();
  await field(out(), 'The same once more').fill(passphrase);
  expect(await write.isEnabled()).toBe(true);
  expect(await field(out()).getAttribute('type')).toBe('password');
  await out().getByRole('checkbox', { name: 'Show it' }).check();
  expect(await field(out()).getAttribute('type')).toBe('text');
});

it('writes it, and says that the drive can be removed only when all of it is there', async () => {
  const safe = page.getByText('It is safe to remove RED KEY now.');
  await out().getByRole('button', { name: 'Write' }).click();
  await page.getByText('Do not remove RED KEY yet.').waitFor(patient);
  expect(await safe.isVisible()).toBe(false);
  await page.getByRole('progressbar', { name: /torpor-session/ }).waitFor(patient);
  await isAccessible();
  // It is told wherever one looks meanwhile.
  await goTo('home');
  await page.getByText('Do not remove RED KEY yet.').waitFor(patient);
  await isAccessible();
  await safe.waitFor({ timeout: 60_000 });
  expect(await readdir(join(mountPoint, 'torpor-session'))).toContain('header.torpor');
  expect(await state()).toEqual(['suspended']);

  await page.reload();
  await page.getByRole('link', { name: 'See more' }).click(patient);
  await page.getByText(/has all of it, [\d.]+ MB, synced and read back\./).waitFor(patient);
  await isAccessible();
});

it('updates it under its passphrase, and says at the field when that is wrong', async () => {
  await out()
    .getByRole('checkbox', { name: /terminal/ })
    .check();
  await out().getByText('There is a bundle of that name.').waitFor(patient);
  await field(out()).fill('wrong');
  await out().getByRole('button', { name: 'Update' }).click();
  await isRefusedAtField(out());
  await isAccessible();
  await field(out()).fill(passphrase);
  await out().getByRole('button', { name: 'Update' }).click();
  await page.getByText(/synced and read back: .+ of .+ had to be written/).waitFor(patient);
});

it('sees drives go and come', async () => {
  await key.pullOut('ejected');
  await out().getByText('No drive is plugged in that can be taken away.').waitFor(patient);
  await into().getByText('No drive that is plugged in has a bundle.').waitFor();
  // It has been removed.
  await page.getByText('It is safe to remove RED KEY now.').waitFor({ state: 'detached', ...patient });
  await isAccessible();
  await key.plugIn();
  await out().getByText('RED KEY', { exact: true }).waitFor(patient);
});

it('brings it in from the drive, after a wrong passphrase too', async () => {
  await into()
    .getByRole('radio', { name: /torpor-session/ })
    .check(patient);
  await field(into()).fill('wrong');
  await into().getByRole('button', { name: 'Bring in' }).click();
  await isRefusedAtField(into());
  expect(await out().getByRole('alert').allTextContents()).toEqual(['']);
  await field(into()).fill(passphrase);
  await into().getByRole('button', { name: 'Bring in' }).click();
  const end = page.getByRole('region', { name: 'How it ended' });
  await end.getByText('One application was brought in.').waitFor(patient);
  await end.getByText('They are at home here.').waitFor();
  await end.getByText('terminal · Running').waitFor(patient);
  expect(await state()).toEqual(['running']);
  await isAccessible();
  await end.getByRole('button', { name: 'Dismiss' }).click();
  await end.waitFor({ state: 'detached' });
  expect(await field(into()).inputValue()).toBe('');
});

/** Fills the form, begins, and gives the account of how it ended. */
async function fails(name: string, why: RegExp): Promise<Locator> {
  await out()
    .getByRole('checkbox', { name: /terminal/ })
    .check(patient);
  await out().getByLabel('Name of the bundle', { exact: true }).fill(name);
  for (const each of ['Passphrase', 'The same once more']) await field(out(), each).fill(passphrase);
  await out().getByRole('button', { name: 'Write' }).click();
  const end = page.getByRole('region', { name: 'How it ended' });
  await end.getByRole('heading', { name: 'Nothing was taken along' }).waitFor(patient);
  await end.getByRole('alert').getByText(why).waitFor();
  expect(await page.getByText(/safe to remove/).count()).toBe(0);
  return end;
}

it('suspends nothing where nothing could be written', async () => {
  await mkdir(join(mountPoint, 'photos/summer'), { recursive: true });
  const end = await fails('photos', /is not empty, and is no bundle/);
  expect(await end.getByText('This was suspended for it').count()).toBe(0);
  expect(await state()).toEqual(['running']);
  expect(await readdir(join(mountPoint, 'photos'))).toEqual(['summer']);
  await isAccessible();
});

it('says why it failed in the middle, and what it has suspended for that', async () => {
  const ballast = join(mountPoint, 'film');
  const { bavail, bsize } = await statfs(mountPoint);
  await writeFile(ballast, Buffer.alloc(bavail * bsize - 2 ** 20));
  const end = await fails('films', /no room left|has room for/);
  await end.getByText('This was suspended for it, and can be resumed:').waitFor();
  await end.getByText('terminal · Suspended').waitFor();
  expect(await readdir(mountPoint)).not.toContain('films');
  await isAccessible();
  await rm(ballast);
  await engine.json('resume', 'terminal');
  await out()
    .getByRole('checkbox', { name: /terminal Running/ })
    .waitFor(patient);
});

it('gives up when asked to, and says how things are then', async () => {
  await out().getByRole('radio', { name: 'Somewhere else' }).check();
  await out()
    .getByRole('checkbox', { name: /terminal/ })
    .check();
  await out().getByLabel('File or folder', { exact: true }).fill('session');
  await out().getByText('a whole path, which begins with a slash.').waitFor();
  await out().getByLabel('File or folder', { exact: true }).fill(join(mountPoint, 'other'));
  for (const name of ['Passphrase', 'The same once more']) await field(out(), name).fill(passphrase);
  await out().getByRole('button', { name: 'Write' }).click();
  await page.getByRole('button', { name: 'Cancel' }).click(patient);
  await page.getByRole('heading', { name: /^Cancelled\./ }).waitFor(patient);
  await expect.poll(() => readdir(mountPoint), patient).not.toContain('other');
  // Before it came to be suspended, or after that.
  const told = page.getByText('This was suspended for it, and can be resumed:');
  const isTold = await told.isVisible();
  await expect.poll(state, patient).toEqual([isTold ? 'suspended' : 'running']);
  // Who has seen it is not told again.
  await goTo('home');
  await page.getByRole('heading', { name: 'Applications' }).waitFor();
  await page.getByText(/^Cancelled\./).waitFor({ state: 'detached', ...patient });
});

it('says that the engine has ended, and is as usable as before when it is back', async () => {
  await goTo('bundles');
  await out()
    .getByRole('checkbox', { name: /terminal/ })
    .check(patient);
  await out().getByLabel('Name of the bundle', { exact: true }).fill('other');
  for (const name of ['Passphrase', 'The same once more']) await field(out(), name).fill(passphrase);
  await out().getByRole('button', { name: 'Write' }).click();
  await page.getByText('Do not remove RED KEY yet.').waitFor(patient);
  await engine.kill();
  const end = page.getByRole('region', { name: 'How it ended' });
  await end
    .getByRole('alert')
    .getByText(/^The engine ended while .* was being written\./)
    .waitFor(patient);
  expect(await page.getByText(/safe to remove/).count()).toBe(0);
  await out()
    .getByRole('checkbox', { name: /terminal/ })
    .waitFor(patient);
});

it('refuses what is no request, and nothing of a passphrase is kept', async () => {
  // The app that runs gives another address.
  await using asked = await TestApp.start(engine);
  using window = await asked.connect();
  await window.until(({ engine: { kind } }) => kind === 'ready');
  const good = { workloads: ['1'], path: '/mnt/x', passphrase, leaveRunning: false, withEngine: false };
  for (const bad of [{ ...good, workloads: [] }, { ...good, path: '' }, { ...good, leaveRunning: 'no' }, {}])
    expect(await window.ask('bundle.export', [bad])).toMatchObject({ error: { code: 'usage' } });
  const said = await window.ask('bundle.export', [{ ...good, path: 'here' }]);
  expect(said).toMatchObject({ error: { message: '“here” is no whole path.' } });
  const nothing = await window.ask('bundle.import', [{ path: '/mnt/nothing', passphrase, resume: true }]);
  expect(nothing).toMatchObject({ result: { kind: 'failed', message: 'There is no bundle /mnt/nothing.' } });

  expect(JSON.stringify([said, nothing])).not.toContain(passphrase);
  expect(await page.evaluate('JSON.stringify([localStorage, sessionStorage])')).toBe('[{},{}]');
  await goTo('settings');
  await goTo('bundles');
  expect(await field(out()).inputValue()).toBe('');
  expect(await engine.logTail()).not.toContain(passphrase);
  const found = spawnSync('grep', ['-rlF', passphrase, engine.paths.stateDir], { encoding: 'utf8' });
  expect(found.stdout).toBe('');
});
