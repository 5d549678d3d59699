/** The picture of an application that a snapshot keeps: as it was, and small for lists. */
import { sentenceOf } from '../../api/errors.ts';
import { connectRfb } from '../../api/rfb/client.ts';
import { encodePng, type Picture, scaleDown } from '../../api/rfb/picture.ts';
import type { Logger } from '../log.ts';

export interface ScreenPicture {
  /** PNG files. */
  readonly full: Uint8Array;
  readonly thumbnail: Uint8Array;
}

const thumbnailWidth = 320;
const thumbnailHeight = 200;
const captureLimitMs = 2000;

/**
 * The screen as it is now, or undefined where it cannot be had: a missing picture is no reason to lose a suspend.
 */
export async function captureScreen(socket: string, log: Logger): Promise<Picture | undefined> {
  try {
    await using screen = await connectRfb(socket, { timeoutMs: captureLimitMs });
    return await screen.capture();
  } catch (error) {
    log.warn({ reason: sentenceOf(error), socket }, 'no picture of the screen');
    return undefined;
  }
}

export async function encodeScreen(picture: Picture): Promise<ScreenPicture> {
  const [full, thumbnail] = await Promise.all([
    encodePng(picture),
    encodePng(scaleDown(picture, thumbnailWidth, thumbnailHeight)),
  ]);
  return { full, thumbnail };
}
