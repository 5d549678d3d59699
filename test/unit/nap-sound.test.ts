import { expect, it } from 'vitest';
import { ownerOf, parseSounding } from '../../engine/nap/sound.ts';

it('knows who plays and who records', () => {
  expect(parseSounding('plays 12\nrecords 7\n')).toEqual([
    { pid: 12, does: 'plays' },
    { pid: 7, does: 'records' },
  ]);
  expect(parseSounding('')).toEqual([]);
});

it('knows who has a sound card that runs', () => {
  const status = (state: string) => `state: ${state}\nowner_pid   : 4711\ntrigger_time: 1.2\n`;
  expect(ownerOf(status('RUNNING'))).toBe(4711);
  expect(ownerOf(status('PREPARED'))).toBeUndefined();
  expect(ownerOf('closed\n')).toBeUndefined();
});
