/** Rate and time left of an operation. */
import { expect, it } from 'vitest';
import { RateMeter } from '../../main/state/rate.ts';

it('tells nothing until it has seen enough', () => {
  const meter = new RateMeter();
  expect(meter.report('checkpoint', 0, 1000, 0)).toEqual({});
  expect(meter.report('checkpoint', 100, 1000, 100)).toEqual({});
});

it('tells rate and time left of the last seconds', () => {
  const meter = new RateMeter();
  meter.report('checkpoint', 0, 1000, 0);
  expect(meter.report('checkpoint', 500, 1000, 1000)).toEqual({ bytesPerSecond: 500, secondsLeft: 1 });
  meter.report('checkpoint', 500, 10_000, 3500);
  expect(meter.report('checkpoint', 1500, 10_000, 5500)).toEqual({ bytesPerSecond: 500, secondsLeft: 17 });
});

it('begins anew with each phase, and tells nothing where the total is not known or nothing moves', () => {
  const meter = new RateMeter();
  meter.report('checkpoint', 0, 1000, 0);
  meter.report('checkpoint', 500, 1000, 1000);
  expect(meter.report('commit', 0, 1000, 1500)).toEqual({});
  expect(meter.report('commit', 0, 1000, 2500)).toEqual({});
  expect(meter.report('release', 10, 0, 3500)).toEqual({});
});
