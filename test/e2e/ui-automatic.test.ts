/** The page of the policy in a real browser, with the real app and engine, and a real window on a display beside it. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { MemoryPolicy } from '../../main/ipc/policy-view.ts';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';
import { end } from '../support/programs.ts';

const patient = { timeout: 30_000 };

let engine: TestEngine;
let display: TestDisplay;
let app: TestApp;
let browser: TestBrowser;
let page: Page;
let folder: string;
let editor: ChildProcess;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-automatic-');
  display = await TestDisplay.start();
  const env = { DISPLAY: display.name, HOME: folder, DBUS_SESSION_BUS_ADDRESS: 'disabled:' };
  editor = spawn('mousepad', ['--disable-server'], { env: { ...process.env, ...env }, stdio: 'ignore' });
  app = await TestApp.start(engine, { ...env, XDG_STATE_HOME: join(folder, 'state') });
  browser = await TestBrowser.start();
  page = await browser.open(app.address);
  await page.evaluate(`location.hash = '#/automatic'`);
}, 60_000);

afterAll(async () => {
  for (const each of [browser, app]) await each?.[Symbol.asyncDispose]();
  if (editor !== undefined) await end(editor, 'SIGKILL');
  for (const each of [display, engine]) await each?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

afterEach(() => {
  expect(browser.problems.splice(0)).toEqual([]);
});

/** As it is written down. */
async function policy(): Promise<MemoryPolicy> {
  const text = await readFile(join(engine.paths.stateDir, 'config/torpor/app.json'), 'utf8');
  return (JSON.parse(text) as { settings: { memoryPolicy: MemoryPolicy } }).settings.memoryPolicy;
}

it('says first what it would have gained, and does nothing by itself', async () => {
  await page.getByRole('heading', { name: 'What it would have gained today' }).waitFor(patient);
  await page.getByText('Nothing yet: no application was left alone for long enough.').waitFor(patient);
  await page.getByText('Nothing happens by itself.').waitFor(patient);
  await page.getByText('Mousepad', { exact: true }).waitFor(patient);
  expect(await accessibilityProblems(page)).toEqual([]);
  await page.screenshot({ path: 'test-results/automatic.png', fullPage: true });
});

it('is turned on, and has rules by application', async () => {
  await page.getByLabel('Put applications aside').selectOption({ label: 'Yes' });
  await page.getByLabel('When all its windows are minimised').click();
  await page.getByLabel('Mousepad', { exact: true }).selectOption({ label: 'Never' });
  await expect
    .poll(policy, patient)
    .toMatchObject({ mode: 'on', onMinimise: true, rules: { 'org.xfce.mousepad.desktop': 'never' } });
  // What cannot be suspended is not offered that.
  expect(await page.getByLabel('Mousepad', { exact: true }).locator('option').allTextContents()).toEqual([
    'Never',
    'Nap',
  ]);
  await page.getByLabel('Mousepad', { exact: true }).selectOption({ label: 'Nap' });
  await expect.poll(async () => (await policy()).rules, patient).toEqual({});
});

it('shows what was done, why, and what it gained', async () => {
  const [shown] = await display.windows('Mousepad');
  execFileSync('xdotool', ['windowminimize', '--sync', shown?.id ?? ''], {
    env: { ...process.env, DISPLAY: display.name },
  });
  await page.getByText('Mousepad was put to a nap').waitFor(patient);
  await page.getByText('Naps', { exact: true }).waitFor(patient);
  await page.screenshot({ path: 'test-results/automatic-history.png', fullPage: true });
  execFileSync('xdotool', ['windowactivate', '--sync', shown?.id ?? ''], {
    env: { ...process.env, DISPLAY: display.name },
  });
  await page.getByText('Mousepad was woken').waitFor(patient);
  expect(await accessibilityProblems(page)).toEqual([]);
});
