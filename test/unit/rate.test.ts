/** Rate and time left of an operation. */
import { describe, expect, it } from 'vitest';
import { RateMeter } from '../../api/rate.ts';

describe('rate and time left', () => {
  it('are not told until enough has been seen', () => {
    const meter = new RateMeter();
    expect(meter.report('checkpoint', 0, 1000, 0)).toEqual({});
    expect(meter.report('checkpoint', 100, 1000, 100)).toEqual({});
    expect(meter.report('checkpoint', 390, 1000, 390)).toEqual({});
    expect(meter.report('checkpoint', 500, 1000, 500)).toEqual({ bytesPerSecond: 1000, secondsLeft: 0.5 });
  });

  it('are those of the last seconds', () => {
    const meter = new RateMeter();
    for (let at = 0; at <= 2000; at += 200) meter.report('checkpoint', at * 10, 1_000_000, at);
    let told: { bytesPerSecond?: number; secondsLeft?: number } = {};
    for (let at = 2200; at <= 9000; at += 200)
      told = meter.report('checkpoint', 20_000 + (at - 2000), 1_000_000, at);
    expect(told.bytesPerSecond).toBeCloseTo(1000, -1);
    expect(told.secondsLeft).toBeCloseTo(973, -1);
  });

  it('do not jump where a disk takes its bytes in bursts', () => {
    const meter = new RateMeter();
    const rates: number[] = [];
    for (let at = 0; at <= 12_000; at += 200) {
      const { bytesPerSecond } = meter.report('commit', Math.floor(at / 1000) * 1000, 100_000, at);
      if (bytesPerSecond !== undefined && at > 3000) rates.push(bytesPerSecond);
    }
    expect(rates.length).toBeGreaterThan(40);
    for (const [index, rate] of rates.entries()) {
      const before = rates[index - 1] ?? rate;
      expect(Math.abs(rate - before) / before).toBeLessThan(0.2);
    }
  });

  it('begin anew with each phase, and are not told where the total is not known or nothing moves', () => {
    const meter = new RateMeter();
    meter.report('checkpoint', 0, 1000, 0);
    meter.report('checkpoint', 500, 1000, 1000);
    expect(meter.report('commit', 0, 1000, 1500)).toEqual({});
    expect(meter.report('commit', 0, 1000, 2500)).toEqual({});
    expect(meter.report('release', 10, 0, 3500)).toEqual({});
  });

  it('are told again when a disk that stood still goes on, as of then', () => {
    const meter = new RateMeter();
    for (let at = 0; at <= 1000; at += 200) meter.report('commit', at, 100_000, at);
    for (let at = 1200; at <= 5000; at += 200) meter.report('commit', 1000, 100_000, at);
    expect(meter.report('commit', 1000, 100_000, 5200)).toEqual({});
    expect(meter.report('commit', 1100, 100_000, 5400).bytesPerSecond).toBeLessThan(100);
  });

  it('have something to go by also where reports are rare', () => {
    const meter = new RateMeter();
    meter.report('load', 0, 100_000, 0);
    expect(meter.report('load', 5000, 100_000, 10_000)).toEqual({ bytesPerSecond: 500, secondsLeft: 190 });
  });
});
