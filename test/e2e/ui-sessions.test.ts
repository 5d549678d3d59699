/** Sessions in a real browser, with the real engine and real applications. */
import { once } from 'node:events';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Session, Workload } from '../../api/types.ts';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { TestEngine } from '../support/engine.ts';

const patient = { timeout: 30_000 };
const ties = new URL('../fixtures/ties.py', import.meta.url).pathname;

let folder: string;
let server: Server;
let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;

beforeAll(async () => {
  // A capsule has a /tmp of its own, and this checkout may be there.
  folder = await mkdtemp('/var/tmp/torpor-ui-sessions-');
  await copyFile(ties, join(folder, 'ties.py'));
  server = createServer().listen(join(folder, 'socket'));
  await once(server, 'listening');
  engine = await TestEngine.create();
  app = await TestApp.start(engine);
  browser = await TestBrowser.start();
  page = await browser.open(`${app.address}#/sessions`);
});

afterAll(async () => {
  for (const each of [browser, app, engine]) await each?.[Symbol.asyncDispose]();
  server?.close();
  await rm(folder, { recursive: true, force: true });
});

afterEach(() => {
  expect(browser.problems.splice(0)).toEqual([]);
});

/** In light and dark. */
async function isAccessible(): Promise<void> {
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await accessibilityProblems(page)).toEqual([]);
  }
}

const sessions = () => engine.json<Session[]>('session', 'ls');
const states = async () =>
  Object.fromEntries((await engine.json<Workload[]>('ps')).map(({ name, state }) => [name, state]));
const terminal = (name: string, program = 'sleep 1000') =>
  engine.start(['sh', '-c', `exec xterm -e ${program}`], '--name', name);
/** Connected to what does not belong to Torpor, so that it cannot be suspended. */
async function tied(): Promise<Workload> {
  const connected = once(server, 'connection');
  const started = await engine.start(
    ['python3', join(folder, 'ties.py'), 'unix-stream', join(folder, 'socket')],
    '--name',
    'tied',
  );
  await connected;
  return started;
}

const card = (name: string) => page.getByRole('article', { name, exact: true });
const dialog = () => page.getByRole('dialog', { name: 'Save a session' });
const ending = () => page.getByRole('region', { name: 'How it ended' });
const focused = () =>
  page.evaluate<string>(
    'document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent.trim()',
  );

async function openDialog(): Promise<void> {
  await page.getByRole('button', { name: 'Save a session …' }).click(patient);
  await dialog().waitFor();
}

it('says what sessions are where there is none, and that something has to run for one', async () => {
  await page.getByRole('heading', { name: 'No session is saved' }).waitFor(patient);
  await page.getByText('Nothing is running that could be saved.').waitFor();
  expect(await page.getByRole('button', { name: 'Save a session …' }).isDisabled()).toBe(true);
  expect(await page.title()).toBe('Sessions – Torpor');
  await isAccessible();
});

it('saves what runs under a name, by keyboard alone', async () => {
  await terminal('one');
  await terminal('two');
  const save = page.getByRole('button', { name: 'Save a session …' });
  await expect.poll(() => save.isEnabled(), patient).toBe(true);
  await save.press('Enter');
  const name = dialog().getByLabel('Name', { exact: true });
  // The day and the time.
  expect(await name.inputValue()).toMatch(/\d{4}.*\d:\d\d/);
  for (const each of ['one', 'two'])
    expect(await dialog().getByRole('checkbox', { name: each }).isChecked()).toBe(true);
  await isAccessible();
  await name.fill('');
  await dialog().getByText('Give the session a name.').waitFor();
  expect(await dialog().getByRole('button', { name: 'Save' }).isDisabled()).toBe(true);
  await page.keyboard.type('evening');
  await page.keyboard.press('Enter');
  await ending().getByText('The session “evening” is saved: 2 applications are suspended.').waitFor(patient);
  expect(await states()).toEqual({ one: 'suspended', two: 'suspended' });
  const [session] = await sessions();
  expect(session).toMatchObject({ name: 'evening', reason: 'user' });
  await card('evening')
    .getByText(/^Saved just now by you · [\d.]+ MB of memory$/)
    .waitFor(patient);
  await expect.poll(() => card('evening').locator('.thumbnail img').count(), patient).toBe(2);
  expect(await card('evening').getByText('Suspended').count()).toBe(2);
  await isAccessible();
});

it('restores it, each as running, and keeps the session', async () => {
  await card('evening').getByRole('button', { name: 'Restore the session evening' }).press('Enter');
  await ending().getByText('The session “evening”: 2 applications are running again.').waitFor(patient);
  expect(await states()).toEqual({ one: 'running', two: 'running' });
  await expect.poll(() => card('evening').getByText('Running').count(), patient).toBe(2);
  expect(
    await card('evening')
      .getByRole('button', { name: /^Restore/ })
      .count(),
  ).toBe(0);
  await ending().getByRole('button', { name: 'Dismiss' }).click();
  await ending().waitFor({ state: 'detached' });
});

it('saves only what was chosen, and takes a name from another session when asked to', async () => {
  await openDialog();
  await dialog().getByLabel('Name', { exact: true }).fill('some');
  await dialog().getByRole('checkbox', { name: 'one' }).uncheck();
  await dialog().getByRole('checkbox', { name: 'two' }).uncheck();
  await dialog().getByText('Choose at least one application.').waitFor();
  await dialog().getByRole('checkbox', { name: 'one' }).check();
  await dialog().getByRole('button', { name: 'Save' }).click();
  await ending()
    .getByText(/“some” is saved: one application is suspended\./)
    .waitFor(patient);
  expect(await states()).toEqual({ one: 'suspended', two: 'running' });

  await openDialog();
  await dialog().getByLabel('Name', { exact: true }).fill('some');
  await dialog().getByText('There is a session of that name, of which one can still be restored.').waitFor();
  await isAccessible();
  await dialog().getByRole('button', { name: 'Replace' }).click();
  await expect
    .poll(async () => (await sessions()).find(({ name }) => name === 'some')?.members[0]?.name, patient)
    .toBe('two');
  expect(await states()).toEqual({ one: 'suspended', two: 'suspended' });
});

it('names what cannot be suspended, saves nothing then, and the others where that is wanted', async () => {
  for (const name of ['one', 'two']) await engine.json('resume', name);
  const { id } = await tied();
  await openDialog();
  await dialog().getByRole('checkbox', { name: 'tied' }).waitFor(patient);
  await dialog().getByLabel('Name', { exact: true }).fill('night');
  await dialog().getByRole('button', { name: 'Save' }).click();
  const refused = page.getByRole('dialog', { name: 'The session was not saved' });
  await refused.waitFor(patient);
  await refused.getByText(/^tied cannot be suspended/).waitFor();
  await refused.getByText(/^Close what connects them, or end node, and try again\./).waitFor();
  // Once is enough.
  expect(await refused.getByText(/python3.*socket/).count()).toBe(1);
  expect(await states()).toEqual({ one: 'running', two: 'running', tied: 'running' });
  await isAccessible();

  await refused.getByRole('button', { name: 'Save the others' }).click();
  await ending()
    .getByText(/“night” is saved: 2 applications are suspended\./)
    .waitFor(patient);
  await ending().getByText('Not suspended, and running on:').waitFor();
  await ending().getByRole('heading', { name: 'tied' }).waitFor();
  expect(await states()).toEqual({ one: 'suspended', two: 'suspended', tied: 'running' });
  await isAccessible();
  await engine.json('end', id);
});

it('brings back what can be, and names what cannot with its reason', async () => {
  const needed = join(folder, 'needed');
  await writeFile(needed, 'by the application');
  await terminal('reader', `tail -f ${needed}`);
  await engine.json('resume', 'one');
  await sleep(1000);
  await engine.json('session', 'save', 'both', 'one', 'reader');
  await rm(needed);
  await card('both').getByRole('button', { name: 'Restore the session both' }).click(patient);
  await ending().getByText('The session “both”: one application is running again.').waitFor(patient);
  await ending().getByText('Did not come back:').waitFor();
  await ending().getByRole('heading', { name: 'reader' }).waitFor();
  await ending().getByText(new RegExp(needed)).first().waitFor();
  expect(await states()).toMatchObject({ one: 'running', reader: 'suspended' });
  await card('both').getByText('Suspended').waitFor();
  await isAccessible();
});

it('shows how far each is, and is given up as a whole', async () => {
  // Random bytes, so that writing them takes long enough to be stopped.
  const hold =
    'import os,time; held=[os.urandom(1<<20) for _ in range(1000)]; print("held", flush=True); time.sleep(1000)';
  const big = await engine.start(['/usr/bin/python3', '-c', hold], '--name', 'big');
  await expect.poll(async () => (await engine.workload(big.id)).memoryBytes, patient).toBeGreaterThan(0.9e9);
  await openDialog();
  await dialog().getByLabel('Name', { exact: true }).fill('large');
  await dialog().getByRole('button', { name: 'Save' }).click();
  const underWay = page.getByRole('region', { name: 'Saving the session “large”' });
  await underWay.getByRole('progressbar', { name: 'Suspending big' }).waitFor(patient);
  await isAccessible();
  await underWay.getByRole('button', { name: 'Cancel suspending big; it runs on' }).click();
  await page.getByText('Cancelled. Everything runs on as before.').waitFor(patient);
  await underWay.waitFor({ state: 'detached' });
  expect(await states()).toMatchObject({ one: 'running', big: 'running' });
  expect((await sessions()).map(({ name }) => name)).not.toContain('large');
  await engine.json('end', big.id);
});

it('forgets a session, after asking, and not what it has', async () => {
  await card('both').getByRole('button', { name: 'More for the session both' }).click();
  await page.getByRole('menuitem', { name: 'Forget …' }).press('Enter');
  await page.getByRole('alertdialog', { name: 'Forget the session both?' }).waitFor();
  await isAccessible();
  await page.keyboard.press('Escape');
  expect(await focused()).toBe('More for the session both');
  await page.keyboard.press('Enter');
  await page.getByRole('menuitem', { name: 'Forget …' }).press('Enter');
  await page.getByRole('button', { name: 'Forget it' }).press('Enter');
  await card('both').waitFor({ state: 'detached', ...patient });
  expect((await sessions()).map(({ name }) => name)).not.toContain('both');
  expect(await states()).toMatchObject({ reader: 'suspended' });
});

it('sees what the command line does', async () => {
  await engine.json('session', 'save', 'typed', 'one');
  await card('typed').waitFor(patient);
  await engine.json('session', 'restore', 'typed');
  await card('typed').getByText('Running').waitFor(patient);
  await engine.json('session', 'rm', 'typed');
  await card('typed').waitFor({ state: 'detached', ...patient });
});

it('is usable on 360 pixels, without scrolling sideways', async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  const [inside, outside] = await page.evaluate<[number, number]>(
    '[document.querySelector("main").scrollWidth, document.querySelector("main").clientWidth]',
  );
  expect(inside).toBeLessThanOrEqual(outside);
  await isAccessible();
  await page.setViewportSize({ width: 1280, height: 860 });
});
