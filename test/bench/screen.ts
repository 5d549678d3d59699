/// <reference lib="dom" />
/**
 * The screen window beside TigerVNC's own viewer, on the same capsule in the same run, in turns: how long from a key press to
 * its echo drawn, and how many pictures a second of a text that scrolls. Writes docs/benchmark-screen.md.
 *
 * Window: a key press is given to the browser as from a keyboard, and its time is the browser's own time stamp of the event;
 * its echo is there when noVNC has copied it to the visible canvas. Viewer: it runs on an X server of its own; a key press is
 * given to that server by XTEST, and its echo is there when that server says by DAMAGE that something was drawn. Neither has a
 * real screen behind it, so what a display adds to both is in neither.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import type { Workload } from '../../api/types.ts';
import { TestApp } from '../support/app.ts';
import { TestBrowser } from '../support/browser.ts';
import { TestEngine } from '../support/engine.ts';
import { markdownTable, median } from './figures.ts';
import { XClient } from './x-client.ts';

const rounds = 3;
const keysARound = 60;
const scrollMs = 4000;
const width = 1280;
const height = 800;
/** What is drawn this soon after something else belongs to the same picture. */
const samePictureMs = 3;
const echoLimitMs = 2000;
const letterX = 0x78;
const results = new URL('../../docs/benchmark-screen.md', import.meta.url).pathname;

interface Figures {
  /** From each key press to its echo. */
  echoMs: number[];
  picturesASecond: number[];
}

/** Not in step with anything that is drawn at regular times. */
const pause = () => sleep(60 + Math.random() * 60);

function countPictures(times: readonly number[]): number {
  let last = Number.NEGATIVE_INFINITY;
  let count = 0;
  for (const time of times) {
    if (time - last > samePictureMs) count++;
    last = time;
  }
  return count;
}

// ---- the window ----

interface Probe {
  pressed: number[];
  drawn: number[];
}
type Probed = { probe: Probe };

/** Notes every key press and every drawing on the visible canvas. */
async function probe(page: Page): Promise<void> {
  await page.evaluate(() => {
    const probe: Probe = { pressed: [], drawn: [] };
    (window as unknown as Probed).probe = probe;
    const { drawImage } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.drawImage = function (
      this: CanvasRenderingContext2D,
      ...args: unknown[]
    ) {
      (drawImage as (...args: unknown[]) => void).apply(this, args);
      if (this.canvas.isConnected) probe.drawn.push(performance.now());
    } as typeof drawImage;
    document.addEventListener('keydown', (event) => probe.pressed.push(event.timeStamp), true);
  });
}

async function measureWindow(page: Page, figures: Figures, scroll: () => Promise<void>): Promise<void> {
  await page.locator('.screen:not(.screen-dim) .screen-live canvas').waitFor();
  await page.mouse.click(640, 400);
  await sleep(1000);
  await probe(page);
  for (let key = 0; key < keysARound; key++) {
    await pause();
    await page.evaluate(() => {
      const { probe } = window as unknown as Probed;
      probe.pressed.length = probe.drawn.length = 0;
    });
    await page.keyboard.press('x');
    const echo = await page.evaluate(async (limit) => {
      const { probe } = window as unknown as Probed;
      const [pressed = 0] = probe.pressed;
      for (const end = performance.now() + limit; performance.now() < end; ) {
        const drawn = probe.drawn.find((time) => time > pressed);
        if (drawn !== undefined) return drawn - pressed;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return undefined;
    }, echoLimitMs);
    if (echo === undefined) throw new Error('a key press had no echo in the window');
    figures.echoMs.push(echo);
  }
  await scroll();
  await sleep(1000);
  await page.evaluate(() => {
    (window as unknown as Probed).probe.drawn.length = 0;
  });
  await sleep(scrollMs);
  const times = await page.evaluate(() => (window as unknown as Probed).probe.drawn);
  figures.picturesASecond.push((countPictures(times) * 1000) / scrollMs);
}

// ---- TigerVNC's viewer ----

class Viewer implements AsyncDisposable {
  readonly #children: ChildProcess[] = [];
  readonly display: string;

  private constructor(display: string) {
    this.display = display;
  }

  static async start(folder: string, screen: string): Promise<Viewer> {
    const viewer = new Viewer(`:${7000 + Math.floor(Math.random() * 500)}`);
    viewer.#spawn('Xvnc', [
      viewer.display,
      ...['-nolisten', 'tcp', '-rfbport', '-1', '-rfbunixpath', join(folder, 'display')],
      ...['-SecurityTypes', 'None', '-depth', '24', '-geometry', `${width + 40}x${height + 80}`],
    ]);
    await sleep(1500);
    viewer.#spawn('openbox', ['--sm-disable']);
    await sleep(500);
    viewer.#spawn('xtigervncviewer', [
      ...['-geometry', `${width}x${height}+0+0`, '-Shared=1', '-AutoSelect=1'],
      screen,
    ]);
    await sleep(2500);
    return viewer;
  }

  #spawn(program: string, args: readonly string[]): void {
    const child = spawn(program, args, {
      env: { ...process.env, DISPLAY: this.display },
      stdio: 'ignore',
    });
    this.#children.push(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    }
  }
}

async function measureViewer(
  folder: string,
  screen: string,
  figures: Figures,
  scroll: () => Promise<void>,
): Promise<void> {
  await using viewer = await Viewer.start(folder, screen);
  using x = new XClient(viewer.display);
  for (let key = 0; key < keysARound; key++) {
    await pause();
    x.settle();
    const pressed = performance.now();
    x.press(letterX);
    const drawn = x.awaitDrawing(echoLimitMs);
    if (drawn === undefined) throw new Error('a key press had no echo in the viewer');
    figures.echoMs.push(drawn - pressed);
  }
  await scroll();
  await sleep(1000);
  x.settle();
  const times: number[] = [];
  for (const end = performance.now() + scrollMs; performance.now() < end; ) {
    const drawn = x.awaitDrawing(20);
    if (drawn !== undefined) times.push(drawn);
  }
  figures.picturesASecond.push((countPictures(times) * 1000) / scrollMs);
}

// ---- the run ----

/** A terminal that echoes what is typed, until it is told to scroll. */
const echoing = (flag: string) =>
  `(while [ ! -e ${flag} ]; do sleep 0.1; done; i=0; while [ -e ${flag} ]; do i=$((i+1)); echo "$i the quick brown fox jumps over the lazy dog, again and again, $i"; done) & exec cat`;

await using engine = await TestEngine.create();
const folder = await mkdtemp('/var/tmp/torpor-bench-screen-');
const ours: Figures = { echoMs: [], picturesASecond: [] };
const theirs: Figures = { echoMs: [], picturesASecond: [] };
try {
  await using app = await TestApp.start(engine);
  await using browser = await TestBrowser.start();
  const page = await browser.open(app.address, { width, height });
  for (let round = 0; round < rounds; round++) {
    for (const turn of ['window', 'viewer'] as const) {
      const flag = join(folder, `${turn}-${round}`);
      const workload: Workload = await engine.start([
        ...['xterm', '-b', '0', '+sb', '-e', 'bash', '--norc', '-c', echoing(flag)],
      ]);
      const scroll = () => writeFile(flag, '');
      try {
        if (turn === 'window') {
          await page.goto(new URL(`/#/screen/${workload.id}`, app.address).href);
          await measureWindow(page, ours, scroll);
          await page.goto('about:blank');
        } else await measureViewer(folder, workload.screen ?? '', theirs, scroll);
      } finally {
        await rm(flag, { force: true });
        await engine.run(['exec', workload.id, '--', 'pkill', 'xterm']);
      }
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

const milliseconds = (value: number) => `${value.toFixed(1)} ms`;
const ninetieth = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.9)] ?? 0;
const row = (what: string, read: (figures: Figures) => number, unit: (value: number) => string) => [
  what,
  unit(read(ours)),
  unit(read(theirs)),
  (read(ours) / read(theirs)).toFixed(2),
];
const table = markdownTable(
  ['', 'window of Torpor', 'xtigervncviewer', 'ratio'],
  [
    row('key press to echo, median', ({ echoMs }) => median(echoMs), milliseconds),
    row('key press to echo, 90th percentile', ({ echoMs }) => ninetieth(echoMs), milliseconds),
    row(
      'scrolling text, pictures a second, median',
      ({ picturesASecond }) => median(picturesASecond),
      (value) => value.toFixed(1),
    ),
  ],
);
const text = `# The screen window beside TigerVNC's viewer

\`npm run bench:screen\`, ${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), no GPU:
xterm at ${width} by ${height}, ${rounds} rounds in turns, ${keysARound} key presses a round, ${scrollMs / 1000} s of scrolling a round.

${table}

A key press is counted from the moment the browser, or the X server that the viewer is on, has it. An echo is there when the
visible canvas, or that X server's screen, has been drawn on (X's DAMAGE extension). What a display adds to either, such as
the browser's compositor, is in neither. The X server in the capsule sends at most 60 pictures a second to both.
`;
await writeFile(results, text);
console.log(text);
