/** Work on several things at once, of which some fail. */
import { setImmediate as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { together } from '../../engine/together.ts';

it('throws the first failure when all have come to their end', async () => {
  let isOver = false;
  const slow = async () => {
    await pause();
    await pause();
    isOver = true;
  };
  const failing = (what: string) => Promise.reject(new Error(what));
  await expect(together([slow(), failing('one'), failing('two')])).rejects.toThrow('one');
  expect(isOver).toBe(true);
});

it('gives what they give, in their order', async () => {
  const later = async () => {
    await pause();
    return 1;
  };
  expect(await together([later(), Promise.resolve(2)])).toEqual([1, 2]);
  expect(await together([])).toEqual([]);
});
