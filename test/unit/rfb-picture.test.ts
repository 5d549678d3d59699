import { encode } from 'fast-png';
import { describe, expect, it } from 'vitest';
import {
  comparePictures,
  cropPicture,
  decodePng,
  encodePng,
  fitsLimits,
  type Picture,
  scaleDown,
} from '../../api/rfb/picture.ts';

/** Red is x, green is y, blue is a checkerboard. */
function pattern(width: number, height: number): Picture {
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rgb.set([x & 255, y & 255, (x + y) % 2 ? 255 : 0], (y * width + x) * 3);
  }
  return { width, height, rgb };
}

function withPixel(picture: Picture, x: number, y: number): Picture {
  const rgb = picture.rgb.slice();
  rgb.set([1, 2, 3], (y * picture.width + x) * 3);
  return { ...picture, rgb };
}

describe('PNG', () => {
  it.each([
    [1, 1],
    [3, 7],
    [640, 480],
  ])('comes back as it was, %i x %i', async (width, height) => {
    const picture = pattern(width, height);
    expect(comparePictures(decodePng(await encodePng(picture)), picture).equal).toBe(true);
  });

  it('reads palettes, grey and transparency as another encoder writes them', () => {
    const size = { width: 2, height: 1 };
    const rgba = encode({ ...size, channels: 4, data: Uint8Array.of(1, 2, 3, 255, 4, 5, 6, 0) });
    const grey = encode({ ...size, channels: 1, data: Uint8Array.of(9, 200) });
    const indexed = encode({
      ...size,
      channels: 1,
      data: Uint8Array.of(1, 0),
      palette: [
        [10, 20, 30],
        [40, 50, 60],
      ],
    });
    expect([...decodePng(rgba).rgb]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...decodePng(grey).rgb]).toEqual([9, 9, 9, 200, 200, 200]);
    expect([...decodePng(indexed).rgb]).toEqual([40, 50, 60, 10, 20, 30]);
  });

  it('refuses what is no PNG, is damaged, or claims too much', async () => {
    const file = await encodePng(pattern(20, 20));
    const damaged = file.slice();
    damaged[50] = (damaged[50] ?? 0) ^ 1;
    const huge = file.slice();
    new DataView(huge.buffer).setUint32(16, 0x7fff_ffff);
    for (const bytes of [new Uint8Array(), new Uint8Array(100), file.subarray(0, 60), damaged, huge]) {
      expect(() => decodePng(bytes)).toThrow('not a PNG file');
    }
  });

  it('does not hold the event loop while it compresses', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await encodePng(pattern(2000, 2000));
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(0);
  });
});

describe('scaleDown', () => {
  it('returns what fits as it is', () => {
    const picture = pattern(10, 10);
    expect(scaleDown(picture, 10, 20)).toBe(picture);
  });

  it('keeps the proportions and means the colours', () => {
    const rgb = Uint8Array.of(0, 0, 0, 100, 0, 0, 0, 40, 8, 100, 40, 0);
    const small = scaleDown({ width: 2, height: 2, rgb }, 1, 1);
    expect([...small.rgb]).toEqual([50, 20, 2]);
    const wide = scaleDown(pattern(1280, 800), 320, 320);
    expect([wide.width, wide.height]).toEqual([320, 200]);
  });

  it('leaves at least a pixel of a narrow picture', () => {
    expect(scaleDown(pattern(1000, 1), 10, 10)).toMatchObject({ width: 10, height: 1 });
  });
});

describe('comparePictures', () => {
  it('counts what differs and boxes it', () => {
    const picture = pattern(50, 40);
    const other = withPixel(withPixel(picture, 3, 30), 20, 7);
    expect(comparePictures(picture, other)).toEqual({
      equal: false,
      differentPixels: 2,
      box: { x: 3, y: 7, width: 18, height: 24 },
    });
    expect(comparePictures(picture, pattern(50, 40))).toEqual({ equal: true, differentPixels: 0 });
  });

  it('takes pictures of different sizes as wholly different', () => {
    expect(comparePictures(pattern(2, 3), pattern(3, 2))).toEqual({ equal: false, differentPixels: 6 });
  });
});

describe('cropPicture', () => {
  it('cuts out a box', () => {
    const cut = cropPicture(pattern(10, 10), { x: 4, y: 5, width: 2, height: 2 });
    expect([...cut.rgb]).toEqual([4, 5, 255, 5, 5, 0, 4, 6, 0, 5, 6, 255]);
  });

  it.each([
    { x: -1, y: 0, width: 2, height: 2 },
    { x: 0, y: 9, width: 1, height: 2 },
    { x: 0, y: 0, width: 0, height: 1 },
    { x: 0.5, y: 0, width: 1, height: 1 },
  ])('refuses a box that is not inside: %o', (box) => {
    expect(() => cropPicture(pattern(10, 10), box)).toThrow('not inside');
  });
});

describe('fitsLimits', () => {
  it.each([
    [1, 1, true],
    [16_384, 8192, true],
    [16_384, 8193, false],
    [16_385, 1, false],
    [0, 5, false],
    [1.5, 5, false],
  ])('%d x %d: %s', (width, height, fits) => {
    expect(fitsLimits(width, height)).toBe(fits);
  });
});
