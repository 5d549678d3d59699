/** The Electron shell, where Electron's binary is: the same suite as for Chromium, and what only Electron has. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { _electron } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';
import { ShellScene, shellSuite } from '../support/shell-suite.ts';

const root = new URL('../..', import.meta.url).pathname;
const binary =
  process.env.TORPOR_ELECTRON ||
  join(dirname(createRequire(import.meta.url).resolve('electron/package.json')), 'dist/electron');
const isThere = existsSync(binary);
if (!isThere)
  console.warn(`skipped: Electron's binary is not here (${binary}); TORPOR_ELECTRON may name one.`);

describe.runIf(isThere)('the Electron shell', () => {
  shellSuite('electron', new ShellScene(), { TORPOR_ELECTRON: binary });

  it('shows pages that know nothing of Node and cannot leave', async () => {
    await using display = await TestDisplay.start();
    await using engine = await TestEngine.create();
    const app = await _electron.launch({
      executablePath: binary,
      args: [...(process.getuid?.() === 0 ? ['--no-sandbox'] : []), join(root, 'build/electron/main.mjs')],
      env: { ...(process.env as Record<string, string>), ...engine.env, DISPLAY: display.name },
    });
    try {
      const page = await app.firstWindow();
      await page.waitForSelector('h1');
      expect(page.url()).toMatch(/^torpor:\/\/app\/window\/main#\/home$/);
      expect(await page.evaluate('[typeof require, typeof process, Object.keys(torpor).sort()]')).toEqual([
        'undefined',
        'undefined',
        ['call', 'listen', 'openScreen'],
      ]);
      expect(await page.evaluate("open('file:///etc/passwd')")).toBeNull();
      await page.evaluate("location.href = 'file:///etc/passwd'");
      expect(page.url()).toMatch(/^torpor:/);
      const answer = await page.evaluate("torpor.call('state.get', [])");
      expect(answer).toMatchObject({ result: { shell: { kind: 'electron', globalShortcut: true } } });
    } finally {
      await app.close();
    }
  });
});

it.skipIf(isThere)('runs where Electron is: its suite is skipped here', (context) => {
  context.skip(`Electron's binary is not here: ${binary}`);
});
