/** The page of memory in a real browser, with the real app and engine: a capsule, and an editor that Torpor did not start. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
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
let inside: Workload;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-memory-');
  display = await TestDisplay.start();
  const env = { DISPLAY: display.name, HOME: folder, DBUS_SESSION_BUS_ADDRESS: 'disabled:' };
  editor = spawn('mousepad', ['--disable-server'], { env: { ...process.env, ...env }, stdio: 'ignore' });
  inside = await engine.start(['xterm', '-e', 'cat'], '--name', 'inside');
  app = await TestApp.start(engine, { ...env, XDG_STATE_HOME: join(folder, 'state') });
  browser = await TestBrowser.start();
  page = await browser.open(app.address);
  await page.evaluate(`location.hash = '#/memory'`);
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

const states = async () =>
  (await engine.json<Workload[]>('ps')).map(({ name, state }) => `${name} ${state}`).sort();
const button = (name: string) => page.getByRole('button', { name, exact: true });

it('shows what has memory, started here or not', async () => {
  await page.getByRole('heading', { name: 'Memory', exact: true }).waitFor(patient);
  await page.getByText(/^Mousepad · \d/).waitFor(patient);
  await page.getByText(/^inside · \d/).waitFor(patient);
  expect(await button('Suspend inside').count()).toBe(1);
  expect(await button('Suspend Mousepad').count()).toBe(0);
  expect(await accessibilityProblems(page)).toEqual([]);
  await page.screenshot({ path: 'test-results/memory.png', fullPage: true });
});

it('says why something is not put to a nap, and does it where its user wants that all the same', async () => {
  // They are in it.
  const [shown] = await display.windows('Mousepad');
  execFileSync('xdotool', ['windowactivate', '--sync', shown?.id ?? ''], {
    env: { ...process.env, DISPLAY: display.name },
  });
  await button('Let Mousepad nap').click();
  await page.getByRole('listitem').filter({ hasText: 'You are in a window of mousepad.' }).waitFor(patient);
  expect(await states()).toEqual(['inside running']);
  await button('Let Mousepad nap all the same').click();
  await button('Wake Mousepad').waitFor(patient);
  expect(await states()).toEqual(['inside running', 'mousepad napping']);
  await button('Wake Mousepad').click();
  await button('Let Mousepad nap').waitFor(patient);
  expect(await states()).toEqual(['inside running']);
});

it('suspends what runs in a capsule, and shows what that gained when it is back', async () => {
  await button('Suspend inside').click();
  await expect.poll(states, patient).toEqual(['inside suspended']);
  await expect.poll(() => page.getByText(/^inside · \d/).count(), patient).toBe(0);
  await engine.json('resume', inside.id);
  await page.getByText(/^inside · \d/).waitFor(patient);
  await page.getByText(/a suspend freed .* back after [\d.]+ s/).waitFor(patient);
  await page.screenshot({ path: 'test-results/memory-measured.png', fullPage: true });
  expect(await accessibilityProblems(page)).toEqual([]);
});
