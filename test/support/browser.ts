/**
 * A real browser for tests of the windows, with what every test of a page asks: that it broke no rule of its own content
 * security policy, threw nothing, and is accessible.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';

const axePath = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

export interface PageOptions {
  width?: number;
  height?: number;
  locale?: string;
  colorScheme?: 'light' | 'dark';
  deviceScaleFactor?: number;
}

export class TestBrowser implements AsyncDisposable {
  readonly #browser: Browser;
  /** What pages threw or wrote as an error; for a test to look at, and to empty where it expects some. */
  readonly problems: string[] = [];

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  static async start(env: Record<string, string> = {}): Promise<TestBrowser> {
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: [
        ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
      env: { ...(process.env as Record<string, string>), ...env },
    });
    return new TestBrowser(browser);
  }

  /** A page with cookies of its own. */
  async open(address: string, options: PageOptions = {}): Promise<Page> {
    const {
      width = 1280,
      height = 860,
      locale = 'en-US',
      colorScheme = 'light',
      deviceScaleFactor = 1,
    } = options;
    const context: BrowserContext = await this.#browser.newContext({
      viewport: { width, height },
      locale,
      colorScheme,
      deviceScaleFactor,
    });
    const page = await context.newPage();
    page.on('pageerror', (error) => this.problems.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource'))
        this.problems.push(message.text());
    });
    await page.goto(address);
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
  }
}

/** What axe finds against WCAG 2.2 AA and its best practices, one line each: the rule and where. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  // Colours on their way to others would be measured half-way. What blinks goes on for ever.
  await page.evaluate(`Promise.all(document.getAnimations()
    .filter((each) => each.effect.getComputedTiming().endTime !== Infinity)
    .map((each) => each.finished.catch(() => {})))`);
  await page.evaluate(await readFile(axePath, 'utf8'));
  const { violations } = await page.evaluate<{
    violations: { id: string; help: string; nodes: { html: string }[] }[];
  }>('axe.run(document, { resultTypes: ["violations"] })');
  return violations.map(({ id, help, nodes }) => `${id}: ${help} ${nodes.map(({ html }) => html).join(' ')}`);
}
