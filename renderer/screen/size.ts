/** What size the application's screen is to have, for a window. Pure. */

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** An X server refuses less than 32 and RFB has 16 bits, but so much memory as that would be nobody's wish. */
export const limits = { least: 64, most: 8192 } as const;

/** In pixels of the device, which are pixels of the application; undefined for a window that shows nothing. */
export function screenSizeFor(box: Size): Size | undefined {
  const [width, height] = [Math.round(box.width), Math.round(box.height)];
  if (!(width > 0 && height > 0)) return undefined;
  return { width: clamp(width), height: clamp(height) };
}

const clamp = (length: number) => Math.min(limits.most, Math.max(limits.least, length));
