/** The home page in a real browser, with the real engine and real applications. */
import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Locator, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { isThere, TestEngine } from '../support/engine.ts';

const patient = { timeout: 30_000 };
const ties = new URL('../fixtures/ties.py', import.meta.url).pathname;

let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;

beforeAll(async () => {
  engine = await TestEngine.create();
  app = await TestApp.start(engine);
  browser = await TestBrowser.start();
  page = await browser.open(app.address);
});

afterAll(async () => {
  await browser[Symbol.asyncDispose]();
  await app[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
});

afterEach(() => {
  expect(browser.problems.splice(0)).toEqual([]);
});

const card = (workload: Workload) => page.locator(`article[data-workload="${workload.id}"]`);

async function hasState(locator: Locator, state: string): Promise<void> {
  await locator.and(page.locator(`[data-state="${state}"]`)).waitFor(patient);
}

/** In light and dark. */
async function isAccessible(): Promise<void> {
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await accessibilityProblems(page)).toEqual([]);
  }
}

describe('home', () => {
  it('leads to what can be started where nothing runs', async () => {
    await page.getByRole('heading', { name: 'Nothing runs here yet' }).waitFor(patient);
    await isAccessible();
    await page.getByRole('link', { name: 'Launch an application' }).click();
    await page.getByRole('heading', { name: 'Launch', exact: true }).waitFor();
    expect(await page.title()).toBe('Launch – Torpor');
    await page.goBack();
  });

  it('paints within half a second', async () => {
    const paints: number[] = [];
    for (let round = 0; round < 5; round++) {
      await page.reload();
      await page.getByRole('heading', { name: 'Applications' }).waitFor(patient);
      paints.push(
        await page.evaluate<number>('performance.getEntriesByName("first-contentful-paint")[0].startTime'),
      );
    }
    const median = paints.sort((a, b) => a - b)[2];
    expect(median).toBeGreaterThan(0);
    expect(median).toBeLessThan(500);
  });

  it('suspends and resumes by the card, with a live picture', async () => {
    // By way of a shell, so that it has no desktop entry's name.
    const xterm = await engine.start(
      ['sh', '-c', "exec xterm -e 'echo first words; exec sleep 1000'"],
      '--name',
      'terminal',
    );
    const own = card(xterm);
    await hasState(own, 'running');
    await own.locator('.thumbnail img').waitFor(patient);
    // It is a picture of the screen, not of a broken address.
    await expect
      .poll(
        () =>
          own
            .locator('.thumbnail img')
            .evaluate((image) => (image as unknown as { naturalWidth: number }).naturalWidth),
        patient,
      )
      .toBeGreaterThan(100);
    await expect.poll(() => own.textContent(), patient).toMatch(/\d MB of memory/);
    await isAccessible();

    const { pids } = await engine.workload(xterm.id);
    await own.getByRole('button', { name: 'Suspend terminal' }).click();
    await hasState(own, 'suspended');
    expect(pids.length).toBeGreaterThan(1);
    expect(pids.filter(isThere)).toEqual([]);
    await expect.poll(() => own.textContent(), patient).toMatch(/\d MB freed · [\d.]+ [MK]B on disk/);
    await page.getByText(/terminal is suspended\. \d+ MB of memory are free\./).waitFor();
    await isAccessible();

    await own.getByRole('button', { name: 'Resume terminal' }).click();
    await hasState(own, 'running');
    expect((await engine.workload(xterm.id)).state).toBe('running');
  });

  it('does all of it by keyboard alone', async () => {
    const [terminal] = await engine.json<Workload[]>('ps');
    if (terminal === undefined) throw new Error('the test before left no terminal');
    const own = card(terminal);
    await tabTo('Suspend terminal');
    await page.keyboard.press('Enter');
    await hasState(own, 'suspended');
    await tabTo('Resume terminal');
    await page.keyboard.press('Space');
    await hasState(own, 'running');

    await tabTo('More for terminal');
    await page.keyboard.press('Enter');
    await page.getByRole('menu').waitFor();
    expect(await focused()).toBe('Open window');
    await isAccessible();
    await page.keyboard.press('End');
    expect(await focused()).toBe('End …');
    await page.keyboard.press('ArrowDown');
    expect(await focused()).toBe('Open window');
    await page.keyboard.press('Escape');
    expect(await focused()).toBe('More for terminal');

    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('End');
    await page.keyboard.press('Enter');
    await page.getByRole('alertdialog', { name: 'End terminal?' }).waitFor();
    await isAccessible();
    await page.keyboard.press('Escape');
    await page.getByRole('alertdialog').waitFor({ state: 'detached' });
    expect(await focused()).toBe('More for terminal');
    expect((await engine.workload(terminal.id)).state).toBe('running');

    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('End');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'End it' }).press('Enter');
    await hasState(own, 'ended');
  });

  it('gives up a suspend half-way, and the application runs on', async () => {
    // Random bytes, so that writing them takes long enough to be stopped.
    const hold =
      'import os,time; held=[os.urandom(1<<20) for _ in range(1500)]; print("held", flush=True); time.sleep(1000)';
    const big = await engine.start(['/usr/bin/python3', '-c', hold], '--name', 'big');
    await expect
      .poll(async () => (await engine.workload(big.id)).memoryBytes, patient)
      .toBeGreaterThan(1.4e9);
    const { pids } = await engine.workload(big.id);
    const own = card(big);
    await own.getByRole('button', { name: 'Suspend big' }).click();
    const bar = own.getByRole('progressbar', { name: 'Suspending big' });
    await bar.waitFor(patient);
    await own.getByRole('button', { name: 'Cancel suspending big; it runs on' }).click();
    await page.getByText('Cancelled. big runs on as before.').waitFor(patient);
    await hasState(own, 'running');
    expect((await engine.workload(big.id)).pids).toEqual(pids);
    expect(pids.every(isThere)).toBe(true);
    expect(await engine.snapshots().then((all) => all.filter(({ workload }) => workload === big.id))).toEqual(
      [],
    );
    await engine.json('suspend', big.id);
    await engine.json('resume', big.id);
  });

  it('explains what blocks a suspend, and suspends when that is gone', async () => {
    const folder = await mkdtemp('/var/tmp/torpor-ui-');
    // A capsule has a /tmp of its own, and this checkout may be there.
    const program = join(folder, 'ties.py');
    await copyFile(ties, program);
    const path = join(folder, 'socket');
    const server = createServer();
    server.listen(path);
    await once(server, 'listening');
    try {
      const connected = once(server, 'connection');
      const tied = await engine.start(
        ['sh', '-c', `(python3 ${program} unix-stream ${path} &); exec sleep 1000`],
        '--name',
        'tied',
      );
      await connected;
      const own = card(tied);
      await own.getByRole('button', { name: 'Suspend tied' }).click();
      const dialog = page.getByRole('dialog', { name: 'tied cannot be suspended now' });
      await dialog.waitFor(patient);
      expect(await dialog.textContent()).toMatch(/python3.*socket/);
      await isAccessible();
      expect((await engine.workload(tied.id)).state).toBe('running');

      await dialog.getByRole('button', { name: 'Try again' }).click();
      await dialog.getByRole('button', { name: 'Try again' }).waitFor(patient);
      for (const pid of (await engine.workload(tied.id)).pids) {
        if (/^\S*python3/.test(await readFile(`/proc/${pid}/cmdline`, 'utf8'))) {
          process.kill(pid);
          await expect.poll(() => isThere(pid), patient).toBe(false);
        }
      }
      await dialog.getByRole('button', { name: 'Try again' }).click();
      const free = page.getByRole('dialog', { name: 'tied can be suspended now' });
      await free.waitFor(patient);
      await free.getByRole('button', { name: 'Suspend' }).click();
      await hasState(own, 'suspended');
    } finally {
      server.close();
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('suspends all at once', async () => {
    await page.getByRole('button', { name: 'Suspend all' }).click();
    await page.getByText(/(One application is|\d+ applications are) suspended\./).waitFor(patient);
    await expect
      .poll(
        async () => (await engine.json<Workload[]>('ps')).filter(({ state }) => state === 'running'),
        patient,
      )
      .toEqual([]);
  });

  it('forgets what is not wanted any more, after asking', async () => {
    const own = page.locator('article', { has: page.getByRole('heading', { name: 'tied' }) });
    await own.getByRole('button', { name: 'More for tied' }).click();
    await page.getByRole('menuitem', { name: 'Forget' }).click();
    await page
      .getByRole('alertdialog')
      .getByText(/Its snapshot is deleted/)
      .waitFor();
    await page.getByRole('button', { name: 'Forget it' }).click();
    await own.waitFor({ state: 'detached', ...patient });
    expect((await engine.snapshots()).filter(({ name }) => name === 'tied')).toEqual([]);
  });

  it('comes back by itself when the engine is killed', async () => {
    await engine.kill();
    await expect.poll(() => engine.pid(), patient).toBeDefined();
    const own = page.locator('article', { has: page.getByRole('heading', { name: 'big' }) });
    await own.getByRole('button', { name: 'Resume big' }).click(patient);
    await hasState(own, 'running');
  });

  it('is usable on 360 pixels, without scrolling sideways', async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    for (const place of ['home', 'launch', 'settings']) {
      await page.evaluate(`location.hash = '#/${place}'`);
      await page.locator(`main.content-${place} h1`).waitFor();
      const [inside, outside] = await page.evaluate<[number, number]>(
        '[document.querySelector("main").scrollWidth, document.querySelector("main").clientWidth]',
      );
      expect(inside).toBeLessThanOrEqual(outside);
      await isAccessible();
    }
    await page.setViewportSize({ width: 1280, height: 860 });
  });
});

/** Presses Tab until what has this name has the focus. */
async function tabTo(name: string): Promise<void> {
  for (let presses = 0; presses < 60; presses++) {
    if ((await focused()) === name) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab does not reach ${name}`);
}

function focused(): Promise<string> {
  return page.evaluate<string>(
    'document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent.trim()',
  );
}
