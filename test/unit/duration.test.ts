/** Lengths of time, as they are given to the command line and shown by it. */
import { expect, it } from 'vitest';
import { duration, parseDuration } from '../../cli/duration.ts';

it.each([
  ['1s', 1],
  ['90s', 90],
  ['10m', 600],
  ['10 min', 600],
  ['1h30m', 5400],
  ['1h 30m', 5400],
  ['2d', 172_800],
])('%s is read', (text, seconds) => expect(parseDuration(text)).toBe(seconds));

it.each(['', '10', 'm', '10x', '-5m', '1.5h', 'off', '10m!', '123456789s'])('"%s" is not', (text) =>
  expect(parseDuration(text)).toBeUndefined(),
);

it.each([
  [0, '0 s'],
  [59.6, '1 min'],
  [600, '10 min'],
  [5400, '1 h 30 min'],
  [90_061, '1 d 1 h'],
])('%d s is shown', (seconds, text) => expect(duration(seconds)).toBe(text));
