/**
 * Makes `docs/screenshots/`: every window of the app, light and dark, with the real engine and real applications. Needs
 * `npm run build`, a Chromium and the applications below.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import type { Workload } from '../api/types.ts';
import { TestApp } from '../test/support/app.ts';
import { TestBrowser } from '../test/support/browser.ts';
import { TestEngine } from '../test/support/engine.ts';
import { TestTerminal } from '../test/support/terminal.ts';
import { makeUser } from '../test/support/users.ts';

const run = promisify(execFile);
const out = new URL('../docs/screenshots/', import.meta.url).pathname;
const patient = { timeout: 60_000 };

/** The font of the interface, which a desktop would say and a bare machine does not. */
const fonts = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include>/etc/fonts/fonts.conf</include>
  ${['system-ui', 'sans-serif', 'sans']
    .map(
      (name) =>
        `<match target="pattern"><test name="family"><string>${name}</string></test><edit name="family" mode="prepend" binding="strong"><string>Adwaita Sans</string><string>Inter</string><string>Cantarell</string></edit></match>`,
    )
    .join('\n  ')}
</fontconfig>
`;

const folder = await mkdtemp('/var/tmp/torpor-screenshots-');
try {
  await mkdir(out, { recursive: true });
  const fontFile = join(folder, 'fonts.conf');
  await writeFile(fontFile, fonts);
  await using engine = await TestEngine.create();
  await using app = await TestApp.start(engine, {
    XDG_CONFIG_HOME: join(folder, 'config'),
    XDG_DATA_HOME: join(folder, 'data'),
    LANG: 'en_GB.UTF-8',
  });
  await using browser = await TestBrowser.start({ FONTCONFIG_FILE: fontFile });
  const page = await browser.open(app.address, {
    locale: 'en-GB',
    deviceScaleFactor: 2,
    width: 1240,
    height: 800,
  });
  await make(engine, page);
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function make(engine: TestEngine, page: Page): Promise<void> {
  await page.getByRole('heading', { name: 'Nothing runs here yet' }).waitFor(patient);
  await shoot(page, 'home-empty');

  const inkscape = await engine.start(['inkscape', await drawing()]);
  const writer = await engine.start(['geany', await visible('main/ipc/schema.ts')]);
  const calculator = await engine.start(['gnome-calculator']);
  const mousepad = await engine.start(['mousepad', await visible('README.md')]);
  const terminal = await engine.start(['xterm', '-fa', 'Monospace', '-fs', '11', '-e', 'htop']);
  await Promise.all([writer, mousepad, terminal].map((each) => hasPicture(page, each)));
  await sleep(6000);
  await engine.json('suspend', calculator.id);
  await engine.json('suspend', inkscape.id);
  await page.locator(`article[data-workload="${inkscape.id}"][data-state="suspended"]`).waitFor(patient);
  await sleep(1500);
  await shoot(page, 'home');
  await shoot(page, 'home-narrow', { width: 400, height: 800 });

  await page
    .locator(`article[data-workload="${mousepad.id}"]`)
    .getByRole('button', { name: /^More for/ })
    .click();
  await page.getByRole('menu').waitFor();
  await shoot(page, 'home-menu');
  await page.keyboard.press('Escape');

  await progress(engine, page);
  await findings(engine, page);

  await page.evaluate("location.hash = '#/launch'");
  await page.locator('.tile').first().waitFor(patient);
  await sleep(800);
  await shoot(page, 'launch');
  await page.getByRole('searchbox').fill('text');
  await shoot(page, 'launch-search');

  for (let round = 0; round < 2; round++) {
    await engine.json('suspend', mousepad.id, '--leave-running');
    await sleep(1000);
  }
  await page.evaluate(`location.hash = '#/snapshots/${mousepad.id}'`);
  await page.locator('[data-snapshot]').nth(1).waitFor(patient);
  await sleep(1000);
  await shoot(page, 'snapshots');

  await sessions(engine, page, [writer, mousepad]);
  await bundles(engine, page);
  await screens(engine, page);
  await terminals(engine, page);
  await consent(page);

  await page.evaluate("location.hash = '#/settings'");
  await page.getByRole('heading', { name: 'Settings' }).waitFor(patient);
  await shoot(page, 'settings', { width: 1240, height: 1240 });
  await page.getByRole('combobox', { name: 'Language' }).selectOption('Deutsch');
  await page.evaluate("location.hash = '#/home'");
  await page.getByRole('heading', { name: 'Anwendungen' }).waitFor(patient);
  await shoot(page, 'home-german');
}

/** What is saved together, the question what that is to be, and what is told of one that cannot be suspended. */
async function sessions(engine: TestEngine, page: Page, thesis: readonly Workload[]): Promise<void> {
  const path = join(folder, 'session-socket');
  const server = createServer().listen(path);
  const tie = `exec python3 ${await visible('test/fixtures/ties.py')} unix-stream ${path}`;
  const tied = await engine.start(['sh', '-c', tie], '--name', 'Synchroniser');
  await engine.json('session', 'save', 'Thesis', ...thesis.map(({ id }) => id));
  await page.evaluate("location.hash = '#/sessions'");
  await page.getByRole('article', { name: 'Thesis' }).waitFor(patient);
  await page.getByRole('button', { name: 'Save a session …' }).click();
  await page.getByRole('dialog').getByText('Synchroniser').waitFor(patient);
  await page.getByLabel('Name', { exact: true }).fill('Friday evening');
  await shoot(page, 'sessions-save');
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByRole('dialog', { name: 'The session was not saved' }).waitFor(patient);
  await shoot(page, 'sessions-refused');
  await page.getByRole('button', { name: 'Save the others' }).click();
  await page.getByRole('region', { name: 'How it ended' }).waitFor(patient);
  await page.getByRole('button', { name: 'Dismiss' }).click();
  await page.getByRole('article', { name: 'Friday evening' }).locator('img').first().waitFor(patient);
  await sleep(1000);
  await shoot(page, 'sessions');
  await engine.json('end', tied.id);
  server.close();
  for (const name of ['Thesis', 'Friday evening']) {
    await engine.run(['session', 'restore', name]);
    await engine.json('session', 'rm', name);
  }
}

/** What is taken along on a drive, and what is said of that drive then. */
async function bundles(engine: TestEngine, page: Page): Promise<void> {
  // Nothing of root's goes along.
  await using user = await makeUser('torpor-anna', 21510);
  const owner = ['--user', user.name, '--env', `HOME=${user.home}`];
  const notes = await engine.start(['mousepad'], ...owner);
  await sleep(3000);
  const image = join(folder, 'drive');
  const mountPoint = '/media/Blue key';
  const toTop = "document.querySelector('#content').scrollTo(0, 0)";
  await writeFile(image, '');
  await truncate(image, 4e9);
  await run('mkfs.ext4', ['-q', '-m', '0', image]);
  await mkdir(mountPoint, { recursive: true });
  await run('mount', ['-o', 'loop', image, mountPoint]);
  try {
    await page.evaluate("location.hash = '#/bundles'");
    const form = page.getByRole('form', { name: 'Take applications along' });
    await form.getByRole('radio', { name: /Blue key/ }).check(patient);
    // The one that was started last is the first.
    await form
      .getByRole('checkbox', { name: /Mousepad/ })
      .first()
      .check();
    for (const label of ['Passphrase', 'The same once more'])
      await form.getByLabel(label, { exact: true }).fill('correct horse battery staple');
    await page.evaluate(toTop);
    await shoot(page, 'bundles', { width: 1240, height: 1100 });
    await form.getByRole('button', { name: 'Write' }).click();
    await page.getByText('It is safe to remove Blue key now.').waitFor(patient);
    await page.evaluate(toTop);
    await shoot(page, 'bundles-done');
  } finally {
    await run('umount', [mountPoint]);
    await rm(mountPoint, { recursive: true });
    await engine.json('forget', notes.id);
  }
}

/** The window of an application: while it runs and while it is suspended. */
async function screens(engine: TestEngine, page: Page): Promise<void> {
  const file = await visible('docs/architecture.md');
  const editor = await engine.start(['mousepad', file], '--env', 'GDK_SCALE=2');
  await page.evaluate(`location.hash = '#/screen/${editor.id}'`);
  await page.locator('canvas').waitFor(patient);
  await sleep(4000);
  await shoot(page, 'screen');
  await engine.json('suspend', editor.id);
  await page.getByRole('button', { name: 'Resume' }).first().waitFor(patient);
  await sleep(1000);
  await shoot(page, 'screen-suspended');
}

/** A job in a terminal, before Torpor has it, and in a window of its own. */
async function terminals(engine: TestEngine, page: Page): Promise<void> {
  const script = join(folder, 'build.sh');
  await writeFile(
    script,
    `for i in $(seq 1 400); do printf '\\033[32m[%3d/400]\\033[0m compiling module \\033[1m%s\\033[0m\\n' $i "part-$i.c"; sleep 0.15; done\n`,
  );
  const terminal = await TestTerminal.start(['bash', '--norc', '-i'], { columns: 110, rows: 30 });
  try {
    await terminal.until(/[$#] $/);
    terminal.type(`bash ${script}\n`);
    await terminal.until('part-3.c');
    await page.evaluate("location.hash = '#/home'");
    const program = page.locator('.program', { hasText: 'build.sh' });
    await program.waitFor(patient);
    await program.scrollIntoViewIfNeeded();
    await shoot(page, 'programs');
    await program.getByRole('button').click();
    await page.getByRole('button', { name: 'Resume build.sh' }).click(patient);
  } finally {
    await terminal.close();
  }
  await page
    .getByRole('article', { name: 'build.sh' })
    .getByText('Running', { exact: true })
    .waitFor(patient);
  const job = (await engine.json<Workload[]>('ps')).find(({ name }) => name === 'build.sh');
  await page.evaluate(`location.hash = '#/screen/${job?.id}'`);
  await page.locator('.xterm-rows').getByText('part-60.c').waitFor(patient);
  await shoot(page, 'terminal');
  await engine.json('end', job?.id ?? '');
}

/** What is asked before an application gives something up. */
async function consent(page: Page): Promise<void> {
  await page.evaluate("location.hash = '#/launch'");
  await page.getByRole('searchbox').fill('chromium');
  await page.locator('.tile', { hasText: 'Chromium' }).click(patient);
  await page.getByRole('dialog').waitFor(patient);
  await shoot(page, 'consent');
  await page.getByRole('button', { name: 'Cancel' }).click();
}

/** A card while its application is being suspended: enough memory that it can be caught. */
async function progress(engine: TestEngine, page: Page): Promise<void> {
  const hold = 'import os,time; held=[os.urandom(1<<20) for _ in range(1500)]; time.sleep(1000)';
  const big = await engine.start(['/usr/bin/python3', '-c', hold], '--name', 'Simulation');
  while ((await engine.workload(big.id)).memoryBytes < 1.4e9) await sleep(300);
  // What is still filling its memory waits for the kernel at times, and could not be stopped just then.
  await sleep(5000);
  const card = page.locator(`article[data-workload="${big.id}"]`);
  await card.getByRole('button', { name: 'Suspend Simulation' }).click();
  await card.getByRole('progressbar').waitFor(patient);
  await sleep(1000);
  await card.scrollIntoViewIfNeeded();
  await shoot(page, 'home-suspending');
  await page.locator(`article[data-workload="${big.id}"][data-state="suspended"]`).waitFor(patient);
  await engine.json('rm', (await engine.workload(big.id)).snapshot ?? '');
}

async function findings(engine: TestEngine, page: Page): Promise<void> {
  const program = await visible('test/fixtures/ties.py');
  const path = join(folder, 'socket');
  const server = createServer().listen(path);
  const tied = await engine.start(
    ['sh', '-c', `exec python3 ${program} unix-stream ${path}`],
    '--name',
    'Synchroniser',
  );
  await sleep(1000);
  await page.getByRole('button', { name: 'Suspend Synchroniser' }).click();
  await page.getByRole('dialog').waitFor(patient);
  await shoot(page, 'findings');
  await page.getByRole('button', { name: 'Close' }).click();
  await page
    .locator(`article[data-workload="${tied.id}"]`)
    .getByRole('button', { name: /^More for/ })
    .click();
  await page.getByRole('menuitem', { name: 'End' }).click();
  await page.getByRole('button', { name: 'End it' }).click();
  server.close();
}

async function shoot(page: Page, name: string, size = { width: 1240, height: 800 }): Promise<void> {
  await page.setViewportSize(size);
  // The pointer is not to hover over anything.
  await page.mouse.move(0, 0);
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await sleep(250);
    await page.screenshot({ path: join(out, `${name}-${colorScheme}.png`) });
  }
  await page.setViewportSize({ width: 1240, height: 800 });
}

async function hasPicture(page: Page, { id }: Workload): Promise<void> {
  await page.locator(`article[data-workload="${id}"] .thumbnail img`).waitFor(patient);
}

/** A copy where a capsule sees it: its /tmp is its own, and this checkout may be there. */
async function visible(path: string): Promise<string> {
  const copy = join(folder, basename(path));
  await copyFile(new URL(`../${path}`, import.meta.url).pathname, copy);
  return copy;
}

async function drawing(): Promise<string> {
  const circles = Array.from({ length: 40 }, (_, index) => {
    const angle = index * 2.4;
    const radius = 18 * Math.sqrt(index);
    const hue = 220 + index * 3;
    return `<circle cx="${250 + radius * Math.cos(angle)}" cy="${180 + radius * Math.sin(angle)}" r="${6 + index / 5}" fill="hsl(${hue} 60% 60%)"/>`;
  });
  const path = join(folder, 'sunflower.svg');
  await writeFile(
    path,
    `<svg xmlns="http://www.w3.org/2000/svg" width="500" height="360" viewBox="0 0 500 360">${circles.join('')}</svg>`,
  );
  return path;
}
