/**
 * The tray's icon as pixels, for each thing it tells: a moon on a disc, with an arc around it while something is in
 * progress. It is drawn here and not kept as files because hosts want it in their own sizes and the arc has many
 * states. Light on a coloured disc can be read on light and on dark panels.
 */
import type { TrayModel } from '../shells/shell.ts';

/** All that decides how the icon looks. */
export type TrayLook =
  | { status: 'idle' | 'paused' | 'attention' }
  /** `step` of `arcSteps`; 0 is shown where nothing is known or done yet. */
  | { status: 'busy'; step: number };

/** The arc grows in so many steps: more cannot be told apart at 22 pixels, and hosts fetch the icon with each. */
export const arcSteps = 12;

type Colour = readonly [red: number, green: number, blue: number];
type Shape = (x: number, y: number) => boolean;
/** A colour where its shape is; the last one that is there covers what is below. `undefined` cuts a hole. */
type Layer = readonly [shape: Shape, colour: Colour | undefined];

const indigo: Colour = [84, 82, 205];
const slate: Colour = [112, 117, 131];
const white: Colour = [255, 255, 255];
/** Of the moon in the app's own icon. */
const gold: Colour = [255, 228, 165];
const track: Colour = [178, 180, 226];
const amber: Colour = [245, 158, 11];
const red: Colour = [214, 40, 57];

/** Points along one side of a pixel at which an edge is looked at. */
const samples = 8;

const circle =
  (centreX: number, centreY: number, radius: number): Shape =>
  (x, y) =>
    (x - centreX) ** 2 + (y - centreY) ** 2 <= radius ** 2;
const box =
  (left: number, top: number, right: number, bottom: number): Shape =>
  (x, y) =>
    x >= left && x < right && y >= top && y < bottom;
const without =
  (shape: Shape, hole: Shape): Shape =>
  (x, y) =>
    shape(x, y) && !hole(x, y);

/** A part of a ring around the middle, clockwise from the top; `share` of a whole turn. */
const arc =
  (inner: number, outer: number, share: number): Shape =>
  (x, y) => {
    const square = (x - 0.5) ** 2 + (y - 0.5) ** 2;
    if (square < inner ** 2 || square > outer ** 2) return false;
    const turn = Math.atan2(x - 0.5, 0.5 - y) / (2 * Math.PI);
    return (turn < 0 ? turn + 1 : turn) < share;
  };

/** A waning moon of that radius, open to the upper right. */
const moon = (radius: number): Shape =>
  without(
    circle(0.5 - radius * 0.08, 0.5 + radius * 0.08, radius),
    circle(0.5 + radius * 0.42, 0.5 - radius * 0.42, radius * 0.86),
  );

/** What a look is made of, in a square from 0 to 1, at that many pixels. */
function layersOf(look: TrayLook, size: number): Layer[] {
  switch (look.status) {
    case 'idle':
      return [
        [circle(0.5, 0.5, 0.48), indigo],
        [moon(0.32), gold],
      ];
    case 'busy':
      return [
        [arc(0.4, 0.49, 1), track],
        [arc(0.4, 0.49, look.step / arcSteps), amber],
        [circle(0.5, 0.5, 0.355), indigo],
        [moon(0.25), gold],
      ];
    case 'paused': {
      // Edges on whole pixels, so that the bars are sharp.
      const at = (place: number) => Math.round(place * size) / size;
      const width = at(0.14);
      const left = at(0.3);
      const [top, bottom] = [at(0.28), at(0.72)];
      return [
        [circle(0.5, 0.5, 0.48), slate],
        [box(left, top, left + width, bottom), white],
        [box(1 - left - width, top, 1 - left, bottom), white],
      ];
    }
    case 'attention':
      return [
        [circle(0.46, 0.5, 0.46), indigo],
        [moon(0.32), gold],
        [circle(0.76, 0.74, 0.28), undefined],
        [circle(0.76, 0.74, 0.235), red],
        [box(0.72, 0.58, 0.8, 0.76), white],
        [circle(0.76, 0.84, 0.045), white],
      ];
  }
}

/** How the icon of this model looks. */
export function trayLook({ status, progress = 0 }: TrayModel): TrayLook {
  if (status !== 'busy') return { status };
  const share = Math.min(1, Math.max(0, progress));
  return { status, step: Math.floor(share * arcSteps) };
}

/** @returns `size` x `size` pixels from the upper left, each red, green, blue and opacity (not premultiplied) */
export function drawTrayIcon(look: TrayLook, size: number): Uint8Array {
  const layers = layersOf(look, size).toReversed();
  const top = (x: number, y: number) => layers.find(([shape]) => shape(x / size, y / size));
  const pixels = new Uint8Array(size * size * 4);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const at = (row * size + column) * 4;
      const layer = top(column, row);
      // Most pixels lie within one shape.
      const isPlain =
        layer === top(column + 1, row) &&
        layer === top(column, row + 1) &&
        layer === top(column + 1, row + 1);
      if (!isPlain) pixels.set(blend(top, column, row), at);
      else if (layer?.[1] !== undefined) pixels.set([...layer[1], 255], at);
    }
  }
  return pixels;
}

/** The pixel at an edge: as much of each colour as there is of its shape in it. */
function blend(top: (x: number, y: number) => Layer | undefined, column: number, row: number): number[] {
  const sum = [0, 0, 0];
  let covered = 0;
  for (let sample = 0; sample < samples ** 2; sample++) {
    const x = column + ((sample % samples) + 0.5) / samples;
    const y = row + (Math.floor(sample / samples) + 0.5) / samples;
    const colour = top(x, y)?.[1];
    if (colour === undefined) continue;
    for (const [index, value] of colour.entries()) sum[index] = (sum[index] ?? 0) + value;
    covered++;
  }
  if (covered === 0) return [0, 0, 0, 0];
  return [...sum.map((value) => Math.round(value / covered)), Math.round((covered * 255) / samples ** 2)];
}
