/** The terminal of a job in a window of the app, in a real browser with a real engine. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import type { Snapshot, Workload } from '../../api/types.ts';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { TestEngine } from '../support/engine.ts';
import { childrenOf, TestTerminal } from '../support/terminal.ts';

const patient = { timeout: 30_000 };

let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;
let folder: string;
let id: string;

/** A shell that a user started in a terminal, suspended with its terminal closed, and resumed. */
beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-terminal-');
  const script = join(folder, 'ask.sh');
  await writeFile(
    script,
    'n=0; while read -p "Say something: " line; do n=$((n+1)); echo "$n: you said $line, in $(tput cols) columns"; done\n',
  );
  await using terminal = await TestTerminal.start(['bash', '--norc', '-i']);
  await terminal.until(/[$#] $/);
  terminal.type(`bash ${script}\n`);
  await terminal.until('Say something:');
  terminal.type('one\n');
  await terminal.until('1: you said one');
  const [job] = await childrenOf(terminal.pid);
  ({ workload: id } = await engine.json<Snapshot>('suspend', String(job)));
  await engine.json<Workload>('resume', id);
  app = await TestApp.start(engine);
  browser = await TestBrowser.start();
  page = await browser.open(app.address);
});
afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  await app?.[Symbol.asyncDispose]();
  await engine?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});
afterEach(() => {
  expect(browser.problems.splice(0)).toEqual([]);
});

/** What the rows of the terminal show. */
const shown = async () => (await page.locator('.xterm-rows').textContent()) ?? '';
const shows = (text: string | RegExp) =>
  vi.waitFor(async () => expect(await shown()).toMatch(text), { timeout: 30_000, interval: 100 });

it('is typed into from its window, and fills it', async () => {
  await page.evaluate(`location.hash = '#/screen/${id}'`);
  await page.locator('.xterm-rows').waitFor(patient);
  await vi.waitFor(async () => expect(await page.title()).toContain('ask.sh'), patient);
  await page.keyboard.type('two words\n');
  await shows(/2: you said two words, in \d+ columns/);
  const columns = Number(/in (\d+) columns/.exec(await shown())?.[1]);
  expect(columns).toBeGreaterThan(100);
  await page.setViewportSize({ width: 700, height: 500 });
  await page.keyboard.type('drei\n');
  await shows(/3: you said drei, in [5-9]\d columns/);
  expect(await accessibilityProblems(page)).toEqual([]);
});

it('shows what it showed when it is opened anew, and after a suspend', async () => {
  await page.reload();
  await shows('3: you said drei');
  await engine.json('suspend', id);
  await page.getByRole('button', { name: 'Resume' }).click(patient);
  await page.locator('main.terminal:not(.terminal-dim)').waitFor(patient);
  await shows('3: you said drei');
  await page.keyboard.type('vier\n');
  await shows('4: you said vier');
});

it('says how its job ended', async () => {
  await page.keyboard.press('Control+d');
  await page.getByText('ask.sh has ended').waitFor(patient);
  expect(await engine.workload(id)).toMatchObject({ state: 'ended' });
});

it('is taken out of a terminal by the app, which says what ties it before', async () => {
  const script = join(folder, 'untouched.sh');
  await writeFile(script, 'while :; do echo again; sleep 0.2; done\n');
  await using terminal = await TestTerminal.start(['bash', '--norc', '-i']);
  await terminal.until(/[$#] $/);
  terminal.type(`bash ${script}; cat | sort\n`);
  await terminal.until('again');
  const [job] = await childrenOf(terminal.pid);
  await page.evaluate(`location.hash = '#/home'`);
  const program = page.locator(`.program[data-pid="${job}"]`);
  await expect.poll(() => program.textContent(), patient).toContain(`bash ${script}`);
  expect(await accessibilityProblems(page)).toEqual([]);
  await program.getByRole('button', { name: 'Suspend untouched.sh' }).click();
  const card = page.getByRole('article', { name: 'untouched.sh' });
  await card.getByText('Suspended', { exact: true }).waitFor(patient);
  await expect.poll(() => program.count(), patient).toBe(0);
  await card.getByRole('button', { name: 'Resume untouched.sh' }).click();
  await card.getByText('Running', { exact: true }).waitFor(patient);
  const { id: resumed } =
    (await engine.json<Workload[]>('ps')).find(({ name }) => name === 'untouched.sh') ?? {};
  await engine.json('end', resumed ?? '');
  // One part of what is typed as one is tied to the other.
  const cat = page.locator('.program', { hasText: /^cat/ }).filter({ hasText: 'cat' });
  await cat.getByRole('button').click(patient);
  const dialog = page.getByRole('dialog', { name: 'cat cannot be suspended now' });
  await expect.poll(() => dialog.textContent(), patient).toMatch(/cat \(pid \d+\) has a pipe to sort/);
  await dialog.getByRole('button', { name: 'Close' }).click();
});
