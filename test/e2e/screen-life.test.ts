/// <reference lib="dom" />
/** The window while its application is suspended and resumed, and when something dies under it. */
import { setTimeout as sleep } from 'node:timers/promises';
import axeCore from 'axe-core';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { becomes, becomesLive, pixelOf, Scene } from './screen-scene.ts';

let scene: Scene;

beforeAll(async () => {
  scene = await Scene.create();
});
afterAll(() => scene?.[Symbol.asyncDispose]());

const startTerminal = () =>
  scene.engine.start(['xterm', '-bg', '#c00000', '-fg', '#ffffff', '-b', '0', '+sb', '-e', 'bash', '--norc']);
const isRed = ([red, green]: [number, number, number]) => red > 180 && green < 20;

/** The rules that the page breaks, by axe. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axeCore.source);
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run();
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  });
}

/** Says of every picture that the window shows from now on whether the place is red. */
async function watchForFlashes(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const seen: string[] = [];
    (window as unknown as { seen: string[] }).seen = seen;
    const look = () => {
      const shown =
        document.querySelector<HTMLCanvasElement>('.screen-still canvas') ??
        document.querySelector<HTMLCanvasElement>('.screen-live canvas');
      const picture = document.querySelector('.screen-picture');
      const color = shown?.getContext('2d')?.getImageData(shown.width - 80, shown.height - 60, 1, 1).data;
      const size = shown === null ? '' : `${shown.width}x${shown.height}`;
      seen.push(
        color === undefined ? (picture ? 'picture' : 'nothing') : `${color.slice(0, 3).join()} ${size}`,
      );
      requestAnimationFrame(look);
    };
    look();
  });
  return () => page.evaluate(() => [...new Set((window as unknown as { seen: string[] }).seen)]);
}

async function runs(workload: Workload): Promise<void> {
  await becomes(
    () => scene.engine.workload(workload.id),
    ({ state }) => state === 'running',
  );
}

describe('a suspend and a resume while the window is open', () => {
  it('keeps the picture, comes back by itself, and shows nothing else in between', async () => {
    const terminal = await startTerminal();
    const page = await scene.open(terminal, { width: 800, height: 500 });
    await becomesLive(page);
    await becomes(() => pixelOf(page, 700, 400), isRed);
    const seen = await watchForFlashes(page);

    await scene.engine.json('suspend', terminal.id);
    const resume = page.getByRole('button', { name: 'Resume', exact: true });
    await resume.waitFor();
    expect(await violations(page)).toEqual([]);
    expect(await scene.engine.workload(terminal.id)).toMatchObject({ state: 'suspended', pids: [] });
    await resume.click();
    await runs(terminal);
    await becomesLive(page);
    await becomes(() => pixelOf(page, 700, 400), isRed);
    expect(await seen()).toEqual(['192,0,0 800x500']);

    await page.keyboard.type('echo typed > /dev/shm/typed\n');
    await becomes(
      () => scene.inside(terminal, 'cat', '/dev/shm/typed'),
      (text) => text === 'typed',
    );
    expect(await violations(page)).toEqual([]);
    await page.close();
  });

  it('shows the last picture at once in a window that is opened anew', async () => {
    const terminal = await startTerminal();
    await sleep(1000);
    await scene.engine.json('suspend', terminal.id);
    const page = await scene.open(terminal, { width: 800, height: 500 });
    const picture = page.getByRole('img', { name: /Last picture/ });
    await picture.waitFor();
    await becomes(
      () => picture.evaluate((image: HTMLImageElement) => image.complete && image.naturalWidth > 320),
      (isFull) => isFull,
    );
    await page.getByRole('button', { name: 'Resume', exact: true }).click();
    await becomesLive(page);
    await becomes(() => pixelOf(page, 700, 400), isRed);
    await page.close();
  });

  it('survives a snapshot that it only is interrupted by', async () => {
    const terminal = await startTerminal();
    const page = await scene.open(terminal, { width: 800, height: 500 });
    await becomesLive(page);
    const seen = await watchForFlashes(page);
    await scene.engine.json('suspend', terminal.id, '--leave-running');
    await becomesLive(page);
    await page.keyboard.type('echo here > /dev/shm/typed\n');
    await becomes(
      () => scene.inside(terminal, 'cat', '/dev/shm/typed'),
      (text) => text === 'here',
    );
    expect(await seen()).toEqual(['192,0,0 800x500']);
    await page.close();
  });
});

describe('what dies under the window', () => {
  it('may be the engine: the screen stays alive, and a resume works with the next one', async () => {
    const terminal = await startTerminal();
    const page = await scene.open(terminal, { width: 800, height: 500 });
    await becomesLive(page);
    await scene.engine.kill();
    await page.keyboard.type('echo alive > /dev/shm/typed\n');
    // Any command starts the next engine.
    await becomes(
      () => scene.inside(terminal, 'cat', '/dev/shm/typed'),
      (text) => text === 'alive',
    );
    await scene.engine.json('suspend', terminal.id);
    await page.getByRole('button', { name: 'Resume', exact: true }).waitFor();
    await scene.engine.kill();
    await scene.engine.json('resume', terminal.id);
    await becomesLive(page);
    await becomes(() => pixelOf(page, 700, 400), isRed);
    await page.close();
  });

  it('may be the application: a sentence says so, and what next', async () => {
    const terminal = await startTerminal();
    const page = await scene.open(terminal, { width: 800, height: 500 });
    await becomesLive(page);
    const { pids } = await scene.engine.workload(terminal.id);
    const [init] = pids;
    if (init === undefined) throw new Error('it has no process');
    process.kill(init, 'SIGKILL');
    await page.getByRole('heading', { name: /ended/ }).waitFor();
    await page.getByRole('button', { name: 'Open Torpor' }).waitFor();
    expect(await violations(page)).toEqual([]);
    await page.close();
  });

  it('may never have been there', async () => {
    const page = await scene.open({ id: 'nowhere' } as Workload);
    await page.getByRole('heading', { name: /no such application/ }).waitFor();
    expect(await violations(page)).toEqual([]);
    await page.close();
  });
});

describe('closing the window', () => {
  it('asks, and leaves it running, suspends it or ends it', async () => {
    const terminal = await startTerminal();
    for (const [answer, state] of [
      ['Leave it running', 'running'],
      ['Suspend to disk', 'suspended'],
    ] as const) {
      const page = await scene.open(terminal, { width: 800, height: 500 });
      await becomesLive(page);
      await page.keyboard.press('Control+Alt+Home');
      await page.getByRole('button', { name: 'Close', exact: true }).click();
      await page.getByRole('dialog').waitFor();
      expect(await violations(page)).toEqual([]);
      await page.getByRole('button', { name: answer }).click();
      await becomes(
        () => scene.engine.workload(terminal.id),
        (workload) => workload.state === state,
      );
      await page.context().close();
    }
    await scene.engine.json('resume', terminal.id);
    const page = await scene.open(terminal);
    await becomesLive(page);
    await page.keyboard.press('Control+Alt+Home');
    await page.getByRole('button', { name: 'Close', exact: true }).click();
    await page.getByRole('button', { name: /^Quit/ }).click();
    await becomes(
      () => scene.engine.workload(terminal.id),
      ({ state }) => state === 'ended',
    );
    await page.context().close();
  });

  it('asks also when the window itself is closed', async () => {
    const terminal = await startTerminal();
    const page = await scene.open(terminal);
    await becomesLive(page);
    await page.mouse.click(300, 300);
    page.on('dialog', (dialog) => void dialog.dismiss());
    await page.close({ runBeforeUnload: true });
    await page.getByRole('dialog').waitFor();
    await page.context().close();
  });
});
