/** Pictures of a screen: PNG files, smaller versions, parts, and what differs between two. Pure. */
import { promisify } from 'node:util';
import { deflate } from 'node:zlib';
import { convertIndexedToRgb, type DecodedPng, decode } from 'fast-png';
import { TorporError } from '../errors.ts';

/** Three bytes a pixel (red, green, blue), rows from the top without padding. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Comparison {
  readonly equal: boolean;
  readonly differentPixels: number;
  /** The smallest box around all that differs. */
  readonly box?: Box;
}

const bytesPerPixel = 3;
const largestSide = 16_384;
/** Of a framebuffer, at four bytes a pixel. */
const largestBytes = 512 * 1024 * 1024;
const deflateAsync = promisify(deflate);

/** Whether this is a size that a picture or a screen may have: 1x1 to 16384x16384, and at most 512 MiB of pixels. */
export function fitsLimits(width: number, height: number): boolean {
  const isSide = (side: number) => Number.isInteger(side) && side >= 1 && side <= largestSide;
  return isSide(width) && isSide(height) && width * height * 4 <= largestBytes;
}

/** CRC-32 of the PNG specification (ISO/IEC 15948, annex D), one table entry a byte value. */
const crcTable = Uint32Array.from({ length: 256 }, (_, value) => {
  let crc = value;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crcTable[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function pngChunk(type: string, data: Uint8Array): Buffer {
  const chunk = Buffer.alloc(12 + data.length);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write(type, 4, 'latin1');
  chunk.set(data, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + data.length)), 8 + data.length);
  return chunk;
}

/**
 * An 8-bit RGB PNG file. It is compressed on a thread of its own, quickly rather than tightly: 10 ms for 1280x800, where
 * fast-png holds the event loop for 100 ms, and a tenth of its 550 ms for 3840x2160 (measured on two cores).
 */
export async function encodePng({ width, height, rgb }: Picture): Promise<Uint8Array> {
  const stride = width * bytesPerPixel;
  // Each row begins with its filter type; 0 is none.
  const rows = Buffer.alloc(height * (stride + 1));
  for (let y = 0; y < height; y++) rows.set(rgb.subarray(y * stride, (y + 1) * stride), y * (stride + 1) + 1);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    pngChunk('IHDR', header),
    pngChunk('IDAT', await deflateAsync(rows, { level: 1 })),
    pngChunk('IEND', new Uint8Array()),
  ]);
}

/**
 * Reads a PNG file with a palette or 8 bits a channel; transparency is left out.
 * @throws TorporError `failed` where the bytes are no such file, or claim a size beyond the limits.
 */
export function decodePng(file: Uint8Array): Picture {
  // The header is looked at first: what it claims is what the decoder would allocate.
  const header = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 24 || !fitsLimits(header.getUint32(16), header.getUint32(20))) throw notPng();
  const png = decodeChecked(file);
  const { width, height, palette } = png;
  if (palette === undefined && png.depth !== 8) throw notPng();
  const data = palette === undefined ? png.data : convertIndexedToRgb(png);
  const channels = data.length / (width * height);
  const isGrey = channels < 3;
  const rgb = new Uint8Array(width * height * bytesPerPixel);
  for (let from = 0, to = 0; to < rgb.length; from += channels) {
    rgb[to++] = data[from] ?? 0;
    rgb[to++] = data[isGrey ? from : from + 1] ?? 0;
    rgb[to++] = data[isGrey ? from : from + 2] ?? 0;
  }
  return { width, height, rgb };
}

function decodeChecked(file: Uint8Array): DecodedPng {
  try {
    return decode(file, { checkCrc: true });
  } catch (error) {
    throw notPng(error);
  }
}

function notPng(cause?: unknown): TorporError {
  return new TorporError('failed', 'The picture is not a PNG file that can be read.', '', {}, { cause });
}

/** The part of a picture inside this box. @throws TorporError `usage` where the box is empty or reaches outside. */
export function cropPicture(picture: Picture, { x, y, width, height }: Box): Picture {
  const isInside =
    [x, y, width, height].every(Number.isInteger) &&
    Math.min(x, y) >= 0 &&
    Math.min(width, height) > 0 &&
    x + width <= picture.width &&
    y + height <= picture.height;
  if (!isInside) {
    throw new TorporError(
      'usage',
      `A box of ${width}x${height} at ${x},${y} is not inside a picture of ${picture.width}x${picture.height}.`,
    );
  }
  const stride = width * bytesPerPixel;
  const rgb = new Uint8Array(stride * height);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * picture.width + x) * bytesPerPixel;
    rgb.set(picture.rgb.subarray(from, from + stride), row * stride);
  }
  return { width, height, rgb };
}

/** The picture made to fit, each pixel the mean of those it stands for; one that fits already is returned as it is. */
export function scaleDown(picture: Picture, maxWidth: number, maxHeight: number): Picture {
  const factor = Math.max(picture.width / maxWidth, picture.height / maxHeight);
  if (factor <= 1) return picture;
  const width = Math.max(1, Math.floor(picture.width / factor));
  const height = Math.max(1, Math.floor(picture.height / factor));
  const rgb = new Uint8Array(width * height * bytesPerPixel);
  for (let y = 0; y < height; y++) {
    const top = Math.floor((y * picture.height) / height);
    const bottom = Math.max(top + 1, Math.floor(((y + 1) * picture.height) / height));
    for (let x = 0; x < width; x++) {
      const left = Math.floor((x * picture.width) / width);
      const right = Math.max(left + 1, Math.floor(((x + 1) * picture.width) / width));
      rgb.set(meanColour(picture, left, top, right, bottom), (y * width + x) * bytesPerPixel);
    }
  }
  return { width, height, rgb };
}

function meanColour(
  { width, rgb }: Picture,
  left: number,
  top: number,
  right: number,
  bottom: number,
): number[] {
  let red = 0;
  let green = 0;
  let blue = 0;
  for (let y = top; y < bottom; y++) {
    for (
      let at = (y * width + left) * bytesPerPixel;
      at < (y * width + right) * bytesPerPixel;
      at += bytesPerPixel
    ) {
      red += rgb[at] ?? 0;
      green += rgb[at + 1] ?? 0;
      blue += rgb[at + 2] ?? 0;
    }
  }
  const count = (right - left) * (bottom - top);
  return [red / count, green / count, blue / count].map(Math.round);
}

/** What differs between two pictures; of different sizes everything does. */
export function comparePictures(a: Picture, b: Picture): Comparison {
  if (a.width !== b.width || a.height !== b.height) {
    const differentPixels = Math.max(a.width * a.height, b.width * b.height);
    return { equal: false, differentPixels };
  }
  if (Buffer.compare(a.rgb, b.rgb) === 0) return { equal: true, differentPixels: 0 };
  let differentPixels = 0;
  let [left, top, right, bottom] = [a.width, a.height, 0, 0];
  const stride = a.width * bytesPerPixel;
  for (let y = 0; y < a.height; y++) {
    // Whole rows are compared first: most are equal, and that is much quicker.
    const rowOf = ({ rgb }: Picture) => rgb.subarray(y * stride, (y + 1) * stride);
    if (Buffer.compare(rowOf(a), rowOf(b)) === 0) continue;
    for (let x = 0; x < a.width; x++) {
      const at = (y * a.width + x) * bytesPerPixel;
      if (a.rgb[at] === b.rgb[at] && a.rgb[at + 1] === b.rgb[at + 1] && a.rgb[at + 2] === b.rgb[at + 2])
        continue;
      differentPixels++;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
    }
  }
  return {
    equal: false,
    differentPixels,
    box: { x: left, y: top, width: right - left, height: bottom - top },
  };
}
