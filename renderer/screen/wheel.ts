/**
 * Gathers turns of the wheel into the steps that X knows: a notch of a mouse is one, and the many small moves of a
 * touchpad become one whenever they are as much as a notch. Pure but for what it has gathered.
 */

/** A notch in `wheelDelta`, which browsers scale to it whatever a notch scrolls. */
const notch = 120;
/** For a browser without it: what a notch scrolls there, in pixels and in lines. */
const notchPixels = 100;
const notchLines = 3;
/** A fling beyond this would go on long after the fingers have stopped. */
const mostSteps = 12;

export interface Turn {
  deltaX: number;
  deltaY: number;
  deltaMode: number;
  wheelDeltaX?: number;
  wheelDeltaY?: number;
}

export class WheelSteps {
  #x = 0;
  #y = 0;

  /** @returns whole steps to the right and down; negative ones to the left and up */
  turn(turn: Turn): { x: number; y: number } {
    const scale = turn.deltaMode === 0 ? notchPixels : turn.deltaMode === 1 ? notchLines : 1;
    const x = this.#gather(this.#x, notches(turn.deltaX, turn.wheelDeltaX, scale));
    const y = this.#gather(this.#y, notches(turn.deltaY, turn.wheelDeltaY, scale));
    this.#x = x.rest;
    this.#y = y.rest;
    return { x: x.steps, y: y.steps };
  }

  #gather(before: number, turned: number): { steps: number; rest: number } {
    // What was gathered the other way would delay the turn back.
    const sum = before * turned < 0 ? turned : before + turned;
    const steps = Math.trunc(sum + Math.sign(sum) * 1e-6);
    const rest = sum - steps;
    return { steps: Math.max(-mostSteps, Math.min(mostSteps, steps)) + 0, rest };
  }
}

/** Less than this at once comes from a touchpad, whose `wheelDelta` says nothing in some browsers. */
const smallestNotch = 40;

function notches(delta: number, wheelDelta: number | undefined, scale: number): number {
  const isNotched = scale !== notchPixels || Math.abs(delta) >= smallestNotch;
  return isNotched && wheelDelta !== undefined && wheelDelta !== 0 ? -wheelDelta / notch : delta / scale;
}
