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

/**
 * Pixels of the device that an element covers. The browser knows them exactly, where a fraction was rounded; but not while
 * another ratio is emulated, as device tools and tests do.
 * @param box in CSS pixels @param exact what the browser says
 */
export function devicePixels(box: Size, exact: Size | undefined, ratio: number): Size {
  const computed = { width: box.width * ratio, height: box.height * ratio };
  const isBelievable =
    exact !== undefined &&
    Math.abs(exact.width - computed.width) <= 1 &&
    Math.abs(exact.height - computed.height) <= 1;
  return isBelievable ? exact : computed;
}

const clamp = (length: number) => Math.min(limits.most, Math.max(limits.least, length));
