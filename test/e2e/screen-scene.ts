/// <reference lib="dom" />
/**
 * What the tests of the screen window share: an engine, the app, a real Chromium, and an application shown in it. What the
 * application was told is read inside its capsule, never from the page.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import type { Workload } from '../../api/types.ts';
import { TestApp } from '../support/app.ts';
import { TestEngine } from '../support/engine.ts';

const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export interface View {
  width?: number;
  height?: number;
  scale?: number;
  /** The browser asks before it lets a page read the clipboard, as it does for everybody at first. */
  asks?: boolean;
}

export class Scene implements AsyncDisposable {
  readonly engine: TestEngine;
  readonly app: TestApp;
  readonly browser: Browser;
  /** A folder that host and capsules share. */
  readonly folder: string;

  private constructor(engine: TestEngine, app: TestApp, browser: Browser, folder: string) {
    this.engine = engine;
    this.app = app;
    this.browser = browser;
    this.folder = folder;
  }

  static async create(): Promise<Scene> {
    const folder = await mkdtemp('/var/tmp/torpor-screen-');
    const engine = await TestEngine.create({ env: { LANG: 'C.UTF-8' } });
    const app = await TestApp.start(engine);
    const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: flags });
    return new Scene(engine, app, browser, folder);
  }

  /** The address is good for one browser context: its token is exchanged for a cookie. */
  async #signIn(view: View): Promise<BrowserContext> {
    const context = await this.browser.newContext({
      viewport: { width: view.width ?? 900, height: view.height ?? 600 },
      deviceScaleFactor: view.scale ?? 1,
      ...(view.asks === true ? {} : { permissions: ['clipboard-read', 'clipboard-write'] }),
    });
    context.setDefaultTimeout(20_000);
    if (this.#cookies === undefined) {
      const page = await context.newPage();
      await page.goto(this.app.address);
      await page.close();
      this.#cookies = await context.cookies();
    } else await context.addCookies(this.#cookies);
    return context;
  }
  #cookies: Awaited<ReturnType<BrowserContext['cookies']>> | undefined;

  /** A window of the application, live. */
  async open(workload: Workload, view: View = {}): Promise<Page> {
    const context = await this.#signIn(view);
    const page = await context.newPage();
    await page.goto(new URL(`/#/screen/${workload.id}`, this.app.address).href);
    return page;
  }

  /** Runs a command in the capsule. @returns what it wrote */
  async inside(workload: Workload, ...command: string[]): Promise<string> {
    const outcome = await this.engine.run(['exec', workload.id, '--', ...command]);
    return outcome.stdout.trim();
  }

  /** What a file in the shared folder holds; nothing where it is not there. */
  read(name: string): Promise<string> {
    return readFile(join(this.folder, name), 'utf8').catch(() => '');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.browser.close();
    await this.app[Symbol.asyncDispose]();
    await this.engine[Symbol.asyncDispose]();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** The live screen, drawn in the window's size. */
export async function becomesLive(page: Page): Promise<void> {
  await page.locator('.screen-live canvas').waitFor();
  await page.waitForFunction(
    () =>
      document.querySelector('.screen-live canvas') !== null &&
      document.querySelector('.screen-dim') === null,
  );
}

/** Asks until it is so. @throws Error with what it was last */
export async function becomes<T>(
  ask: () => Promise<T>,
  isSo: (value: T) => boolean,
  limitMs = 15_000,
): Promise<T> {
  let value = await ask();
  for (const end = Date.now() + limitMs; !isSo(value); value = await ask()) {
    if (Date.now() > end) throw new Error(`it did not become so; last: ${JSON.stringify(value)}`);
    await sleep(100);
  }
  return value;
}

/** Colour of a pixel of what the page shows, counted in pixels of the device. */
export async function pixelOf(page: Page, x: number, y: number): Promise<[number, number, number]> {
  const picture = await page.screenshot({ type: 'png', scale: 'device' });
  const { decode } = await import('fast-png');
  const { data, width, channels } = decode(picture);
  const at = (y * width + x) * channels;
  return [data[at] ?? 0, data[at + 1] ?? 0, data[at + 2] ?? 0];
}
