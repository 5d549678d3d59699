/** The tray's icon: that it can be told apart and read, at the sizes of panels. */
import { describe, expect, it } from 'vitest';
import { arcSteps, drawTrayIcon, type TrayLook, trayLook } from '../../main/tray/icon.ts';

const sizes = [16, 22, 24, 32, 48, 64];
const looks: TrayLook[] = [
  { status: 'idle' },
  { status: 'busy', step: 0 },
  { status: 'busy', step: 6 },
  { status: 'busy', step: arcSteps },
  { status: 'paused' },
  { status: 'attention' },
];
const model = { title: '', tooltip: '', items: [] };

type Rgb = [number, number, number];
const pixelsOf = (rgba: Uint8Array) =>
  Array.from(
    { length: rgba.length / 4 },
    (_, at) => [...rgba.subarray(at * 4, at * 4 + 4)] as [...Rgb, number],
  );

/** Contrast ratio of two colours, as WCAG 2 defines it. */
function contrast(a: Rgb, b: Rgb): number {
  const luminance = (colour: Rgb) => {
    const [red, green, blue] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    }) as Rgb;
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

describe('the icon of the tray', () => {
  it.each(sizes)('has smooth edges, clear corners and a full middle at %i pixels', (size) => {
    for (const look of looks) {
      const rgba = drawTrayIcon(look, size);
      expect(rgba).toHaveLength(size * size * 4);
      const pixels = pixelsOf(rgba);
      for (const corner of [0, size - 1, size * (size - 1), size * size - 1])
        expect(pixels[corner]?.[3]).toBe(0);
      expect(pixels[Math.floor(size * 0.45) * (size + 1)]?.[3]).toBe(255);
      const opacities = new Set(pixels.map(([, , , opacity]) => opacity));
      expect(opacities.size).toBeGreaterThan(8);
      const filled = pixels.filter(([, , , opacity]) => opacity > 127).length / pixels.length;
      expect(filled).toBeGreaterThan(0.5);
      expect(filled).toBeLessThan(0.85);
    }
  });

  it('differs clearly between any two statuses at 22 pixels', () => {
    const drawn = looks.map((look) => drawTrayIcon(look, 22));
    for (const [index, one] of drawn.entries()) {
      for (const other of drawn.slice(index + 1)) {
        const different = pixelsOf(one).filter((pixel, at) =>
          pixel.some((value, part) => Math.abs(value - (other[at * 4 + part] ?? 0)) > 60),
        );
        expect(different.length).toBeGreaterThan(22);
      }
    }
  });

  it('can be seen on light and on dark panels', () => {
    for (const look of looks) {
      const opaque = pixelsOf(drawTrayIcon(look, 22)).filter(([, , , opacity]) => opacity > 200);
      for (const panel of [
        [245, 245, 244],
        [36, 36, 40],
      ] as Rgb[]) {
        const visible = opaque.filter(([red, green, blue]) => contrast([red, green, blue], panel) >= 2);
        expect(visible.length / opaque.length).toBeGreaterThan(0.35);
      }
    }
  });

  it('fills its arc clockwise from the top, step by step', () => {
    const amber = (look: TrayLook, from: number, to: number) => {
      const size = 64;
      return pixelsOf(drawTrayIcon(look, size)).filter(([red, , blue], at) => {
        const [x, y] = [(at % size) - 31.5, 31.5 - Math.floor(at / size)];
        const turn = (Math.atan2(x, y) / (2 * Math.PI) + 1) % 1;
        return red > 200 && blue < 60 && turn >= from && turn < to;
      }).length;
    };
    let before = -1;
    for (let step = 0; step <= arcSteps; step++) {
      const now = amber({ status: 'busy', step }, 0, 1);
      expect(now).toBeGreaterThan(before);
      before = now;
    }
    expect(amber({ status: 'busy', step: 3 }, 0, 0.25)).toBeGreaterThan(100);
    expect(amber({ status: 'busy', step: 3 }, 0.27, 0.98)).toBe(0);
  });

  it.each([
    [undefined, 0],
    [-1, 0],
    [0.5, arcSteps / 2],
    [0.999, arcSteps - 1],
    [1, arcSteps],
    [7, arcSteps],
  ])('shows progress %s as step %i', (progress, step) => {
    const of = { ...model, status: 'busy' as const, ...(progress !== undefined && { progress }) };
    expect(trayLook(of)).toEqual({ status: 'busy', step });
  });
});
