/** Which snapshots may be removed to make room, and how much room the next one needs. */
import { expect, it } from 'vitest';
import { candidatesOf, ratioOf } from '../../engine/store/quota.ts';
import type { StoredPages } from '../../proto/manifest.ts';
import { jobBody } from '../support/store.ts';

type Candidates = Parameters<typeof candidatesOf>[0];

const day = (number: number) => `2026-11-${String(number).padStart(2, '0')}T10:00:00.000Z`;

function stored(
  id: string,
  workload: string,
  taken: number,
  options: { used?: number; kept?: boolean; warm?: string; pages?: StoredPages } = {},
): Candidates[number] {
  const { used, kept = false, warm, pages } = options;
  return {
    kind: 'complete',
    id,
    manifest: {
      ...jobBody,
      version: pages === undefined ? 1 : 2,
      id,
      workload,
      takenAt: day(taken),
      files: [],
      ...(pages === undefined ? {} : { pages }),
    },
    bytesOnDisk: 1,
    usedAt: used === undefined ? undefined : day(used),
    kept,
    warm,
  };
}

const pages = (count: number, storedBytes: number) => ({
  images: 1,
  pages: count,
  zeroPages: 0,
  chunks: 1,
  storedBytes,
});

it('begins with the one that was not used for the longest time', () => {
  const all = [
    stored('newest', 'a', 20),
    stored('resumed', 'a', 2, { used: 15 }),
    stored('old', 'a', 3),
    stored('older', 'a', 1),
  ];
  expect(candidatesOf(all).map(({ id }) => id)).toEqual(['older', 'old', 'resumed']);
});

it('leaves the newest of each workload, and those that are kept', () => {
  const all = [
    stored('a2', 'a', 20),
    stored('a1', 'a', 10, { kept: true }),
    stored('b2', 'b', 2),
    stored('b1', 'b', 1),
    stored('c1', 'c', 3),
  ];
  expect(candidatesOf(all).map(({ id }) => id)).toEqual(['b1']);
});

it('takes what warm starts begin with, which is the only one of its workload', () => {
  const all = [
    stored('a1', 'a', 10, { warm: '{}' }),
    stored('b1', 'b', 1),
    stored('c1', 'c', 5, { warm: '{}', kept: true }),
  ];
  expect(candidatesOf(all).map(({ id }) => id)).toEqual(['a1']);
});

it('expects of a workload what its last suspend needed', () => {
  const all = [
    stored('a2', 'a', 20, { pages: pages(1000, 40_960) }),
    stored('a1', 'a', 10, { pages: pages(1000, 4_096_000) }),
    stored('b1', 'b', 30, { pages: pages(1000, 4_096_000) }),
  ];
  expect(ratioOf(all, 'a')).toBeCloseTo(0.01);
});

it('expects of one that was never suspended what all others need, and all of it where there is none', () => {
  const all = [
    stored('a1', 'a', 10, { pages: pages(1000, 4_096_000) }),
    stored('b1', 'b', 30, { pages: pages(3000, 0) }),
    stored('first', 'c', 1),
    stored('empty', 'd', 1, { pages: pages(0, 0) }),
  ];
  expect(ratioOf(all, 'other')).toBeCloseTo(0.25);
  expect(ratioOf([], 'other')).toBe(1);
});
