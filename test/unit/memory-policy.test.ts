import { expect, it } from 'vitest';
import { defaultMemoryPolicy, type PolicyEntry } from '../../main/ipc/policy-view.ts';
import { type Considered, dueFor, inTurn } from '../../main/memory-policy/decide.ts';
import { mostAtOnce, parseEntries } from '../../main/memory-policy/history.ts';

const minute = 60_000;
const each = (change: Partial<Considered> = {}): Considered => ({
  usedAt: 0,
  isInFront: false,
  isNapping: false,
  minimisedAt: undefined,
  notBefore: 0,
  action: 'nap',
  ...change,
});
const policy = { ...defaultMemoryPolicy, idleMinutes: 20, batteryIdleMinutes: 5 };

it('is due when it was not used for so long, on battery sooner', () => {
  expect(dueFor(each(), policy, false)).toEqual({ at: 20 * minute, why: 'idle' });
  expect(dueFor(each(), policy, true)).toEqual({ at: 5 * minute, why: 'battery' });
  expect(dueFor(each(), { ...policy, idleMinutes: 0 }, false)).toBeUndefined();
  expect(dueFor(each({ notBefore: 30 * minute }), policy, false)?.at).toBe(30 * minute);
});

it('is due a moment after it was minimised, where that is wanted', () => {
  const minimised = each({ usedAt: minute, minimisedAt: minute });
  expect(dueFor(minimised, policy, false)?.why).toBe('idle');
  expect(dueFor(minimised, { ...policy, onMinimise: true }, false)).toEqual({
    at: minute + 10_000,
    why: 'minimised',
  });
});

it.each([
  ['is in front', { isInFront: true }],
  ['naps', { isNapping: true }],
  ['is never to be', { action: 'never' as const }],
])('is not due while it %s', (_, change) => {
  expect(dueFor(each(change), policy, true)).toBeUndefined();
  expect(inTurn([each(change)], 60 * minute, 'lid')).toEqual([]);
});

it('goes by who was used least recently, and under pressure leaves who was just left', () => {
  const [old, newer, fresh] = [each({ usedAt: 1 }), each({ usedAt: 2 }), each({ usedAt: minute })];
  expect(inTurn([fresh, newer, old], minute + 1000, 'pressure')).toEqual([old, newer]);
  expect(inTurn([fresh, newer, old], minute + 1000, 'lid')).toEqual([old, newer, fresh]);
  expect(inTurn([each({ notBefore: 2 * minute })], minute, 'lid')).toEqual([]);
});

const entry = (at: string, key: string, what: PolicyEntry['what'], gainBytes?: number): PolicyEntry => ({
  ...{ at, key, what, really: false, application: key, title: key, why: 'idle' },
  ...(gainBytes === undefined ? {} : { gainBytes }),
});

it('knows the most that would have been free at once', () => {
  const entries = [
    entry('2026-11-23T23:00', 'before', 'napped', 1000),
    entry('2026-11-24T09:00', 'a', 'napped', 10),
    entry('2026-11-24T10:00', 'b', 'napped', 20),
    entry('2026-11-24T11:00', 'a', 'woken'),
    entry('2026-11-24T12:00', 'c', 'napped', 5),
    entry('2026-11-24T13:00', 'd', 'left'),
    { ...entry('2026-11-24T13:00', 'e', 'napped', 500), really: true },
  ];
  expect(mostAtOnce(entries, '2026-11-24')).toEqual({
    gainBytes: 30,
    at: '2026-11-24T10:00',
    applications: 3,
  });
  expect(mostAtOnce([], '2026-11-24')).toEqual({ gainBytes: 0, applications: 0 });
});

it('reads a history of which a line is damaged', () => {
  const good = entry('2026-11-24T09:00', 'a', 'napped', 10);
  expect(parseEntries(`${JSON.stringify(good)}\n{"at":\n\n${JSON.stringify(good)}\n{"at":1}`)).toEqual([
    good,
    good,
  ]);
});
