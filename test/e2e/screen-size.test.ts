/// <reference lib="dom" />
/** The window's size is the application's, to the pixel of the device, and so is what the pointer points at. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { becomes, becomesLive, pixelOf, Scene } from './screen-scene.ts';

let scene: Scene;
let terminal: Workload;

beforeAll(async () => {
  scene = await Scene.create();
  // All of it is red, so that what is not its is seen.
  terminal = await scene.engine.start(['xterm', '-bg', '#c00000', '-fg', '#ffffff', '-b', '0', '+sb']);
});
afterAll(() => scene?.[Symbol.asyncDispose]());

const screenSize = async () =>
  /current (\d+) x (\d+)/
    .exec(await scene.inside(terminal, 'xrandr'))
    ?.slice(1)
    .map(Number);
const applicationSize = async () =>
  /Geometry: (\d+)x(\d+)/
    .exec(await scene.inside(terminal, 'sh', '-c', 'xdotool getwindowgeometry $(xdotool getactivewindow)'))
    ?.slice(1)
    .map(Number);
const pointer = async () =>
  /x:(\d+) y:(\d+)/
    .exec(await scene.inside(terminal, 'xdotool', 'getmouselocation'))
    ?.slice(1)
    .map(Number);
const sizes = async () => ({ screen: await screenSize(), application: await applicationSize() });

function is(width: number, height: number) {
  return (found: Awaited<ReturnType<typeof sizes>>) =>
    found.screen?.join() === [width, height].join() &&
    // A terminal is as many whole characters as fit.
    Math.abs((found.application?.[0] ?? 0) - width) < 20 &&
    Math.abs((found.application?.[1] ?? 0) - height) < 40;
}

describe('the size of the window', () => {
  it('is that of the application, also after it has changed', async () => {
    const page = await scene.open(terminal, { width: 800, height: 500 });
    await becomesLive(page);
    await becomes(sizes, is(800, 500));
    await page.setViewportSize({ width: 1013, height: 641 });
    await becomes(sizes, is(1013, 641));
    await becomes(
      () => pixelOf(page, 990, 600),
      ([red, green]) => red > 180 && green < 20,
    );
    expect(
      await page.evaluate(() => {
        const { scrollWidth, scrollHeight } = document.documentElement;
        return [scrollWidth, scrollHeight];
      }),
    ).toEqual([1013, 641]);
    await page.close();
  });

  it('follows many changes to the last', async () => {
    const page = await scene.open(terminal, { width: 800, height: 500 });
    await becomesLive(page);
    for (let step = 0; step < 25; step++)
      await page.setViewportSize({ width: 700 + step * 9, height: 400 + step * 7 });
    await becomes(sizes, is(916, 568));
    await page.close();
  });

  it('never asks for a size that the server refuses', async () => {
    const page = await scene.open(terminal, { width: 40, height: 20 });
    await becomes(sizes, (found) => found.screen?.join() === '64,64');
    await page.setViewportSize({ width: 640, height: 480 });
    await becomes(sizes, is(640, 480));
    await page.close();
  });
});

describe('on a screen of two pixels a pixel', () => {
  it('has one pixel of the application a pixel of the device, and the pointer on each', async () => {
    const page = await scene.open(terminal, { width: 600, height: 400, scale: 2 });
    await becomesLive(page);
    await becomes(sizes, is(1200, 800));
    const box = await page.locator('.screen-live canvas').evaluate((canvas: HTMLCanvasElement) => ({
      pixels: [canvas.width, canvas.height],
      shown: [canvas.getBoundingClientRect().width, canvas.getBoundingClientRect().height],
    }));
    expect(box).toEqual({ pixels: [1200, 800], shown: [600, 400] });

    for (const [x, y] of [
      [100, 200],
      [599, 399],
      [0, 120],
    ] as const) {
      await page.mouse.move(x, y);
      await becomes(pointer, (at) => at?.join() === [x * 2, y * 2].join());
    }
    // Between two CSS pixels.
    await page.mouse.move(300.5, 150.5);
    await becomes(pointer, (at) => at?.join() === '601,301');
    await page.close();
  });

  it('is sharp: what is drawn is what the application drew', async () => {
    const page = await scene.open(terminal, { width: 600, height: 400, scale: 2 });
    await becomesLive(page);
    await becomes(sizes, is(1200, 800));
    await page.mouse.move(10, 390);
    const { decode } = await import('fast-png');
    const same = async () => {
      const shown = decode(await page.screenshot({ scale: 'device' }));
      const drawn = await page.locator('.screen-live canvas').evaluate((canvas: HTMLCanvasElement) => {
        const context = canvas.getContext('2d');
        return [...(context?.getImageData(0, 40, canvas.width, 60).data ?? [])];
      });
      let different = 0;
      for (let y = 0; y < 60; y++)
        for (let x = 0; x < 1200; x++)
          for (let channel = 0; channel < 3; channel++) {
            const a = shown.data[((y + 40) * shown.width + x) * shown.channels + channel] ?? 0;
            const b = drawn[(y * 1200 + x) * 4 + channel] ?? 0;
            if (Math.abs(a - b) > 1) different++;
          }
      return different;
    };
    await page.keyboard.type('sharp sharp sharp');
    expect(await becomes(same, (different) => different === 0)).toBe(0);
    await page.close();
  });

  it('follows the window to a screen of another kind', async () => {
    const page = await scene.open(terminal, { width: 600, height: 400, scale: 1 });
    await becomesLive(page);
    await becomes(sizes, is(600, 400));
    const devtools = await page.context().newCDPSession(page);
    // Another size too: emulation tells nobody of another ratio alone.
    await devtools.send('Emulation.setDeviceMetricsOverride', {
      width: 640,
      height: 400,
      deviceScaleFactor: 1.5,
      mobile: false,
    });
    await becomes(sizes, is(960, 600));
    await page.mouse.move(400, 200);
    await becomes(pointer, (at) => at?.join() === '600,300');
    await page.close();
  });
});
