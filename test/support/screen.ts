/** Waiting for what a screen shows, through its RFB socket. */
import { setTimeout as sleep } from 'node:timers/promises';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import { type Box, comparePictures, type Picture } from '../../api/rfb/picture.ts';

const pollMs = 50;

/** The picture with these boxes painted over in black, so that what is in them does not count in a comparison. */
export function maskPicture(picture: Picture, boxes: readonly Box[]): Picture {
  if (boxes.length === 0) return picture;
  const rgb = picture.rgb.slice();
  for (const { x, y, width, height } of boxes) {
    for (let row = y; row < Math.min(y + height, picture.height); row++) {
      const end = Math.min(x + width, picture.width);
      rgb.fill(0, (row * picture.width + x) * 3, (row * picture.width + end) * 3);
    }
  }
  return { ...picture, rgb };
}

/**
 * The screen once nothing on it has changed for `settleMs` (500 by default), but for what is in the boxes `ignoring`.
 * @throws Error with the place that still changes when `timeoutMs` (20 s by default) have passed.
 */
export async function waitForStableScreen(
  rfbPath: string,
  {
    settleMs = 500,
    timeoutMs = 20_000,
    ignoring = [],
  }: { settleMs?: number; timeoutMs?: number; ignoring?: readonly Box[] } = {},
): Promise<Picture> {
  await using screen = await connectRfb(rfbPath, { timeoutMs });
  const deadline = performance.now() + timeoutMs;
  let picture = await screen.capture();
  let since = performance.now();
  let lastChange = 'nothing yet';
  while (performance.now() - since < settleMs) {
    if (performance.now() > deadline) {
      throw new Error(`the screen did not settle within ${timeoutMs} ms; last changed: ${lastChange}`);
    }
    await sleep(pollMs);
    const next = await screen.capture();
    const comparison = comparePictures(maskPicture(picture, ignoring), maskPicture(next, ignoring));
    if (!comparison.equal) {
      since = performance.now();
      lastChange = JSON.stringify(comparison);
    }
    picture = next;
  }
  return picture;
}

/**
 * The screen as soon as it differs from `before`.
 * @throws Error when it is still the same after `timeoutMs` (10 s by default).
 */
export async function waitForChange(
  rfbPath: string,
  before: Picture,
  { timeoutMs = 10_000 }: { timeoutMs?: number } = {},
): Promise<Picture> {
  await using screen = await connectRfb(rfbPath, { timeoutMs });
  return await waitUntilDifferent(screen, before, timeoutMs);
}

async function waitUntilDifferent(screen: RfbClient, before: Picture, timeoutMs: number): Promise<Picture> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const picture = await screen.capture();
    if (!comparePictures(before, picture).equal) return picture;
    if (performance.now() > deadline) throw new Error(`the screen did not change within ${timeoutMs} ms`);
    await sleep(pollMs);
  }
}
