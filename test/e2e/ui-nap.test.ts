/** Naps in a real browser, with the real engine and a real application. */
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Counter } from '../fault/scene.ts';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { TestEngine } from '../support/engine.ts';

const patient = { timeout: 30_000 };

let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;
let counter: Counter;

beforeAll(async () => {
  engine = await TestEngine.create();
  counter = await Counter.start(engine, '--name', 'counter');
  app = await TestApp.start(engine);
  browser = await TestBrowser.start();
  page = await browser.open(app.address);
});

afterAll(async () => {
  for (const each of [browser, app, counter, engine]) await each?.[Symbol.asyncDispose]();
});

afterEach(() => {
  expect(browser.problems.splice(0)).toEqual([]);
});

const card = () => page.locator(`article[data-workload="${counter.id}"]`);
const state = async () => (await engine.workload(counter.id)).state;

async function nap(): Promise<void> {
  await card()
    .getByRole('button', { name: /^More for / })
    .click(patient);
  await page.getByRole('menuitem', { name: 'Nap', exact: true }).click();
  await page.getByText(/ naps: .* of memory are free/).waitFor(patient);
  expect(await state()).toBe('napping');
}

it('puts an application to a nap by its menu, and wakes it by its card', async () => {
  await nap();
  await card().getByText('Napping', { exact: true }).waitFor(patient);
  expect(await accessibilityProblems(page)).toEqual([]);
  await page.screenshot({ path: 'test-results/nap.png' });
  await card()
    .getByRole('button', { name: /^Wake / })
    .click();
  await card().getByText('Running', { exact: true }).waitFor(patient);
  await counter.expectCounting();
});

it('wakes it when its user goes to its window', async () => {
  await nap();
  // Its user is in another window still.
  await page.evaluate(`document.hasFocus = () => false; location.hash = '#/screen/${counter.id}'`);
  await page.getByText('It goes on as soon as you are in this window.').waitFor(patient);
  expect(await accessibilityProblems(page)).toEqual([]);
  await page.evaluate(`window.dispatchEvent(new Event('focus'))`);
  await expect.poll(state, patient).toBe('running');
  await page.locator('main.screen:not(.screen-dim)').waitFor(patient);
  await counter.expectCounting();
});
