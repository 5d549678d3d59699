/**
 * Raw rectangles, drawn as many rows at a time as have come: noVNC's own decoder draws each row by itself, which costs
 * more than the rest of the path together.
 */
import type { Decoder, Display, ReceiveQueue } from '@novnc/novnc';

const bytesPerPixel = 4;

export class RawDecoder implements Decoder {
  #rowsLeft = 0;

  decodeRect(
    x: number,
    y: number,
    width: number,
    height: number,
    queue: ReceiveQueue,
    display: Display,
  ): boolean {
    if (width === 0 || height === 0) return true;
    if (this.#rowsLeft === 0) this.#rowsLeft = height;
    const bytesPerRow = width * bytesPerPixel;
    const rows = Math.min(this.#rowsLeft, Math.floor(queue.rQlen() / bytesPerRow));
    if (rows > 0) {
      const pixels = queue.rQshiftBytes(rows * bytesPerRow, false);
      makeOpaque(pixels);
      display.blitImage(x, y + height - this.#rowsLeft, width, rows, pixels, 0);
      this.#rowsLeft -= rows;
    }
    return this.#rowsLeft === 0;
  }
}

/** The server leaves the fourth byte of a pixel as it is. */
function makeOpaque(pixels: Uint8Array): void {
  for (let index = 3; index < pixels.length; index += bytesPerPixel) pixels[index] = 255;
}
