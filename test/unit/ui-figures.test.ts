/** Figures for people, steps of the time machine, search, shortcuts: what the windows work out by themselves. */
import { describe, expect, it } from 'vitest';
import type { Application, SnapshotView } from '../../main/ipc/view.ts';
import { makeFigures } from '../../renderer/figures.ts';
import { filterApplications } from '../../renderer/launch/filter.ts';
import { acceleratorOf } from '../../renderer/settings/accelerator.ts';
import { findSteps } from '../../renderer/snapshots/steps.ts';

const plain = (text: string | undefined) => text?.replace(/[\u00a0\u202f]/g, ' ');

describe('figures', () => {
  const english = makeFigures('en');
  const german = makeFigures('de');

  it.each([
    [0, '0 MB'],
    [-5, '0 MB'],
    [999, '999 byte'],
    [1000, '1 kB'],
    [999_499, '999 kB'],
    [999_500, '1 MB'],
    [1_440_000, '1.4 MB'],
    [68_200_000, '68 MB'],
    [1_440_000_000, '1.4 GB'],
    [78_640_000_000, '78.6 GB'],
    [5e15, '5,000 TB'],
  ])('%d bytes', (count, expected) => {
    expect(plain(english.bytes(count))).toBe(expected);
  });

  it('writes them as the language does', () => {
    expect(plain(german.bytes(1_440_000_000))).toBe('1,4 GB');
    expect(plain(german.ago('2026-01-01T00:00:00Z', Date.parse('2026-01-04T00:00:00Z')))).toBe('vor 3 Tagen');
  });

  it.each([
    [3, undefined],
    [59, undefined],
    [61, '1 min. ago'],
    [7300, '2 hr. ago'],
    [90_000, 'yesterday'],
    [-100, undefined],
  ])('%d seconds ago', (seconds, expected) => {
    expect(english.ago('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:00:00Z') + seconds * 1000)).toBe(
      expected,
    );
  });

  it('has no word for how long ago something without a date was', () => {
    expect(english.ago('never', Date.now())).toBeUndefined();
  });

  it.each([
    [0.4, '1 sec'],
    [59.2, '1 min'],
    [150, '3 min'],
    [5400, '1.5 hr'],
  ])('%d seconds left', (seconds, expected) => {
    expect(plain(english.duration(seconds))).toBe(expected);
  });
});

describe('findSteps', () => {
  const snapshot = (id: string, minute: number, more: Partial<SnapshotView> = {}): SnapshotView => ({
    id,
    workload: 'w',
    name: 'w',
    takenAt: new Date(Date.UTC(2026, 0, 1, 12, minute)).toISOString(),
    bytesOnDisk: 1,
    memoryBytes: 1,
    standstillMs: 1,
    durableMs: 1,
    user: 'root',
    command: ['w'],
    current: false,
    kept: false,
    ...more,
  });
  const at = (minute: number, second = 0) => Date.UTC(2026, 0, 1, 12, minute, second);
  const since = (minute: number) => new Date(at(minute)).toISOString();
  const ids = ({ back, forward }: ReturnType<typeof findSteps>) => [back?.id, forward?.id];

  it('steps to the neighbours of the one that it is suspended in', () => {
    const list = [snapshot('c', 3), snapshot('b', 2, { current: true }), snapshot('a', 1)];
    expect(ids(findSteps(list, { state: 'suspended', since: since(2) }, at(9)))).toEqual(['a', 'c']);
  });

  it('first steps to the start of what has run on since', () => {
    const list = [snapshot('b', 2, { current: true }), snapshot('a', 1)];
    expect(ids(findSteps(list, { state: 'running', since: since(5) }, at(6)))).toEqual(['b', undefined]);
    expect(ids(findSteps(list, { state: 'running', since: since(5) }, at(5, 4)))).toEqual(['a', undefined]);
  });

  it('does not count what ran before its current snapshot was taken', () => {
    const list = [snapshot('b', 7, { current: true }), snapshot('a', 1)];
    expect(ids(findSteps(list, { state: 'running', since: since(0) }, at(7, 4)))).toEqual(['a', undefined]);
  });

  it('passes over damaged ones', () => {
    const list = [
      snapshot('c', 3, { current: true }),
      snapshot('b', 2, { damaged: 'a byte' }),
      snapshot('a', 1),
    ];
    expect(ids(findSteps(list, { state: 'suspended', since: since(3) }, at(9)))).toEqual(['a', undefined]);
  });

  it('steps back to the newest where none is current, and nowhere where there is none', () => {
    expect(ids(findSteps([snapshot('a', 1)], { state: 'ended', since: since(2) }, at(3)))).toEqual([
      'a',
      undefined,
    ]);
    expect(ids(findSteps([], { state: 'running', since: since(2) }, at(3)))).toEqual([undefined, undefined]);
  });
});

describe('filterApplications', () => {
  const application = (name: string, more: Partial<Application> = {}): Application => ({
    id: `${name}.desktop`,
    name,
    comment: '',
    keywords: [],
    categories: [],
    icon: '',
    terminal: false,
    actions: [],
    mimeTypes: [],
    ...more,
  });
  const list = [
    application('LibreOffice Writer', { comment: 'Create text documents' }),
    application('Text Editor'),
    application('Mousepad', { keywords: ['Text', 'Notes'] }),
    application('Écran'),
  ];
  const names = (query: string) => filterApplications(list, query).map(({ name }) => name);

  it('puts names before keywords before comments', () => {
    expect(names('text')).toEqual(['Text Editor', 'Mousepad', 'LibreOffice Writer']);
  });
  it('wants every word', () => expect(names('office doc')).toEqual(['LibreOffice Writer']));
  it('does not mind accents and case', () => expect(names('ECRAN')).toEqual(['Écran']));
  it('takes signs literally', () => expect(names('.*(')).toEqual([]));
  it('shows all for nothing', () => expect(names('   ')).toHaveLength(4));
});

describe('acceleratorOf', () => {
  const none = { ctrlKey: false, altKey: false, shiftKey: false, metaKey: false };
  it('names letters by their key, whatever Alt makes of them', () => {
    expect(acceleratorOf({ ...none, key: 'ß', code: 'KeyS', ctrlKey: true, altKey: true })).toBe(
      'Control+Alt+S',
    );
  });
  it('waits while only modifiers are held', () => {
    expect(acceleratorOf({ ...none, key: 'Control', code: 'ControlLeft', ctrlKey: true })).toBeUndefined();
  });
  it('refuses a key without a modifier, but for function keys', () => {
    expect(acceleratorOf({ ...none, key: 's', code: 'KeyS' })).toBe('');
    expect(acceleratorOf({ ...none, key: 'S', code: 'KeyS', shiftKey: true })).toBe('');
    expect(acceleratorOf({ ...none, key: 'F9', code: 'F9' })).toBe('F9');
  });
  it('names arrows and the plus', () => {
    expect(acceleratorOf({ ...none, key: 'ArrowUp', code: 'ArrowUp', metaKey: true })).toBe('Super+Up');
    expect(acceleratorOf({ ...none, key: '+', code: 'NumpadAdd', ctrlKey: true })).toBe('Control+Plus');
  });
});
