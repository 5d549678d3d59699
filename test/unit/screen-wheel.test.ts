/** Turns of the wheel, gathered into the steps that X knows. */
import { describe, expect, it } from 'vitest';
import { devicePixels, screenSizeFor } from '../../renderer/screen/size.ts';
import { WheelSteps } from '../../renderer/screen/wheel.ts';

const turn = (deltaY: number, wheelDeltaY?: number, deltaMode = 0) => ({
  deltaX: 0,
  deltaY,
  deltaMode,
  ...(wheelDeltaY === undefined ? {} : { wheelDeltaX: 0, wheelDeltaY }),
});

describe('the wheel', () => {
  it('makes a notch one step, whatever the browser scrolls by it', () => {
    expect(new WheelSteps().turn(turn(120, -120))).toEqual({ x: 0, y: 1 });
    expect(new WheelSteps().turn(turn(-53, 120)).y).toBe(-1);
    expect(new WheelSteps().turn(turn(3, undefined, 1)).y).toBe(1);
  });

  it('gathers small turns, and forgets them when it turns back', () => {
    const steps = new WheelSteps();
    const turned = Array.from({ length: 25 }, () => steps.turn(turn(10, -120)).y);
    expect(turned.reduce((sum, each) => sum + each, 0)).toBe(2);
    expect(steps.turn(turn(-90)).y).toBe(0);
    expect(steps.turn(turn(-10)).y).toBe(-1);
  });

  it('bounds a fling', () => {
    expect(new WheelSteps().turn(turn(1_000_000)).y).toBe(12);
  });
});

describe('the size of the screen', () => {
  it('is that of the window, within the limits of the server', () => {
    expect(screenSizeFor({ width: 1280.4, height: 799.6 })).toEqual({ width: 1280, height: 800 });
    expect(screenSizeFor({ width: 10, height: 100_000 })).toEqual({ width: 64, height: 8192 });
  });

  it('is none for a window that shows nothing', () => {
    expect(screenSizeFor({ width: 0, height: 300 })).toBeUndefined();
    expect(screenSizeFor({ width: Number.NaN, height: 300 })).toBeUndefined();
  });

  it('believes the browser’s exact figure only where it fits the ratio', () => {
    const box = { width: 800, height: 600 };
    expect(devicePixels(box, { width: 1001, height: 750 }, 1.25)).toEqual({ width: 1001, height: 750 });
    expect(devicePixels(box, { width: 800, height: 600 }, 2)).toEqual({ width: 1600, height: 1200 });
    expect(devicePixels(box, undefined, 1)).toEqual(box);
  });
});
