/** What windows show of the machine's shutdowns: what is saved at them, and what did not come back under another kernel. */
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { SessionPolicyState } from '../../api/types.ts';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { depart } from '../support/departure.ts';
import { TestEngine } from '../support/engine.ts';

const patient = { timeout: 30_000 };

let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;

beforeAll(async () => {
  engine = await TestEngine.create();
  app = await TestApp.start(engine);
  browser = await TestBrowser.start();
  page = await browser.open(`${app.address}#/settings`);
});

afterAll(async () => {
  for (const each of [browser, app, engine]) await each?.[Symbol.asyncDispose]();
});

afterEach(() => {
  expect(browser.problems.splice(0)).toEqual([]);
});

const policy = () => engine.json<SessionPolicyState>('session', 'policy');
const settings = () => page.getByRole('region', { name: 'When the computer shuts down' });
const news = () => page.getByRole('region', { name: 'After the start of another kernel' });

it('changes what is saved by itself', async () => {
  const choice = (name: string) => settings().getByRole('switch', { name, exact: true });
  const reboot = choice('Save at a restart');
  await reboot.waitFor(patient);
  expect(await reboot.isChecked()).toBe(true);
  expect(await choice('Save when the battery is nearly empty').isChecked()).toBe(false);
  // There is no systemd for this engine.
  await settings()
    .getByText(/nothing tells Torpor of a shutdown/)
    .waitFor();
  await reboot.click();
  await choice('Save when the battery is nearly empty').press('Space');
  await choice('Restore when I log in').press('Space');
  await expect
    .poll(policy, patient)
    .toMatchObject({ saveAt: ['kexec', 'power-off', 'low-battery'], restoreAtLogin: true, jobs: false });
  await expect.poll(() => reboot.isChecked()).toBe(false);
  expect(await accessibilityProblems(page)).toEqual([]);
});

it('tells that a kernel does not restore, offers the one before, and goes when it is dismissed', async () => {
  const { id } = await engine.start(['sh', '-c', 'exec xterm -e sleep 1000'], '--name', 'window');
  await engine.json('session', 'save', 'kexec', id);
  // Without its canary, nothing is known to come back under this kernel.
  await depart(engine.paths.stateDir, 'kexec');
  await engine.kill('SIGTERM');
  await news()
    .getByText(/does not restore what was saved under 6\.1\.0-1.*Everything that was saved is kept/)
    .waitFor(patient);
  await news().getByText('torpor kexec --kernel 6.1.0-1').waitFor();
  expect(await accessibilityProblems(page)).toEqual([]);
  await news().scrollIntoViewIfNeeded();
  await page.screenshot({ path: 'test-results/arrival.png' });
  await news().getByRole('button', { name: 'Dismiss what is said of the other kernel' }).press('Enter');
  await news().waitFor({ state: 'detached' });
  await engine.json('session', 'restore', 'kexec');
});
