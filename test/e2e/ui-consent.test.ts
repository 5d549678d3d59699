/** The app's question before it starts what gives something up in a capsule, in a real browser with the real engine. */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { TestApp } from '../support/app.ts';
import { accessibilityProblems, TestBrowser } from '../support/browser.ts';
import { TestEngine } from '../support/engine.ts';

const patient = { timeout: 30_000 };

let folder: string;
let engine: TestEngine;
let app: TestApp;
let browser: TestBrowser;
let page: Page;

beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/torpor-ui-');
  const profiles = join(folder, 'profiles');
  await mkdir(profiles);
  await mkdir(join(folder, 'data/applications'), { recursive: true });
  const program = join(folder, 'shielded');
  await writeFile(program, '#!/bin/sh\nexec xterm\n');
  await chmod(program, 0o755);
  await writeFile(
    join(folder, 'data/applications/shielded.desktop'),
    `[Desktop Entry]\nType=Application\nName=Shielded Thing\nExec=${program}\n`,
  );
  await writeFile(
    join(profiles, 'shielded.yaml'),
    'title: Shielded\nmatch: [{executable: shielded}]\nconsent: {id: shield, what: {en: It gives up its shield., de: Es gibt seinen Schild auf.}}\n',
  );
  engine = await TestEngine.create({ env: { TORPOR_PROFILES: profiles } });
  app = await TestApp.start(engine, {
    XDG_DATA_HOME: join(folder, 'data'),
    XDG_CONFIG_HOME: join(folder, 'config'),
    XDG_STATE_HOME: join(folder, 'state'),
  });
  browser = await TestBrowser.start();
  page = await browser.open(app.address);
});

afterAll(async () => {
  await browser[Symbol.asyncDispose]();
  await app[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

afterEach(() => {
  expect(browser.problems.splice(0)).toEqual([]);
});

const running = async () => (await engine.json<Workload[]>('ps')).length;

async function launch(): Promise<void> {
  await page.evaluate("location.hash = '#/home'");
  await page.evaluate("location.hash = '#/launch'");
  await page.getByRole('searchbox').fill('shielded');
  await page.getByRole('button', { name: /^Shielded Thing/ }).click(patient);
}

describe('the question', () => {
  it('says what is given up, and starts nothing where it is not agreed to', async () => {
    await launch();
    const question = page.getByRole('alertdialog', { name: 'Start Shielded Thing like this?' });
    await question.waitFor(patient);
    expect(await question.textContent()).toContain('It gives up its shield.');
    for (const colorScheme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme });
      expect(await accessibilityProblems(page)).toEqual([]);
    }
    await question.getByRole('button', { name: 'Cancel' }).click();
    await question.waitFor({ state: 'detached' });
    expect(await running()).toBe(0);
  });

  it('is asked once: then the application starts at once', async () => {
    await launch();
    await page.getByRole('button', { name: 'Agree and start' }).click(patient);
    await expect.poll(running, patient).toBe(1);
    await expect.poll(() => new URL(page.url()).hash, patient).toMatch(/^#\/screen\//);
    await launch();
    await expect.poll(running, patient).toBe(2);
    await expect.poll(() => new URL(page.url()).hash, patient).toMatch(/^#\/screen\//);
  });
});
