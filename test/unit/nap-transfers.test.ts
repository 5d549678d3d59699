/** Which connections have something under way. */
import { expect, it } from 'vitest';
import { ownTransfers, parseConnections, underWay } from '../../engine/nap/transfers.ts';

const text = [
  '11 2:7f000001:1f90 2:7f000001:a001 100 200',
  '12 2:7f000001:a001 2:7f000001:1f90 200 100',
  '13 a:00000000000000000000000000000001:0050 a:00000000000000000000000000000001:c000 5 0',
  '',
].join('\n');

it('reads the lines of the program', () => {
  const all = parseConnections(text);
  expect(all).toHaveLength(3);
  expect(all[0]).toEqual({
    inode: 11,
    own: '2:7f000001:1f90',
    other: '2:7f000001:a001',
    received: 100,
    sent: 200,
  });
});

it('leaves out what processes say to each other, and what is not theirs', () => {
  const all = parseConnections(text);
  const owners = (...inodes: number[]) => new Map(inodes.map((inode) => [inode, 1]));
  expect(ownTransfers(all, owners(11, 12, 13)).map(({ inode }) => inode)).toEqual([13]);
  expect(ownTransfers(all, owners(12)).map(({ inode }) => inode)).toEqual([12]);
  expect(ownTransfers(all, owners())).toEqual([]);
});

it('tells a transfer from what is said in passing', () => {
  const at = (received: number, sent: number) => [{ inode: 1, own: 'a', other: 'b', received, sent }];
  expect(underWay(at(0, 0), at(1000, 1000))).toEqual([]);
  expect(underWay(at(0, 0), at(16_384, 0))).toEqual([{ inode: 1, does: 'downloads' }]);
  expect(underWay(at(5, 0), at(5, 20_000))).toEqual([{ inode: 1, does: 'uploads' }]);
  expect(underWay(at(0, 0), [])).toEqual([]);
});
