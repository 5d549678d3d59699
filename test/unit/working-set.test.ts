/** What was needed first is known by other numbers in the next snapshot. */
import { describe, expect, it } from 'vitest';
import { translateWorkingSet } from '../../engine/pages/working-set.ts';

const list = (...names: string[]) => Buffer.concat(names.map((name) => Buffer.alloc(32, name)));
const numbers = (...values: number[]) => {
  const buffer = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => {
    buffer.writeUInt32LE(value, index * 4);
  });
  return buffer;
};

describe('a working set', () => {
  it('names the same chunks, in the same order, without those that are not there any more', () => {
    const translated = translateWorkingSet(numbers(3, 0, 2), list('a', 'b', 'c', 'd'), list('d', 'x', 'a'));
    expect(translated).toEqual(numbers(0, 2));
  });

  it('is no harm where it is cut off or names what never was', () => {
    const damaged = Buffer.concat([numbers(0, 4_000_000_000, 7), Buffer.from([1])]);
    expect(translateWorkingSet(damaged, list('a'), list('b', 'a'))).toEqual(numbers(1));
    expect(translateWorkingSet(Buffer.alloc(0), list(), list())).toEqual(Buffer.alloc(0));
  });
});
