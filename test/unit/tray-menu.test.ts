/** What the tray shows for a state of the app. */
import { describe, expect, it } from 'vitest';
import { type AppState, defaultSettings, type WorkloadView } from '../../main/ipc/view.ts';
import type { TrayItem, TrayModel } from '../../main/shells/shell.ts';
import { de } from '../../main/texts/de.ts';
import { en, type Texts } from '../../main/texts/en.ts';
import { textsIn } from '../../main/texts/texts.ts';
import { longestList, type TrayActions, trayModel } from '../../main/tray/menu.ts';

const workload = (id: string, change: Partial<WorkloadView> = {}): WorkloadView => ({
  id,
  name: id,
  kind: 'capsule',
  state: 'running',
  user: 'mia',
  pids: [100],
  memoryBytes: 50_000_000,
  command: [id],
  startedAt: '2026-11-21T10:00:00Z',
  hasTerminal: false,
  title: id.toUpperCase(),
  icon: `/icons/app/${id}`,
  since: '2026-11-21T10:00:00Z',
  bytesOnDisk: 0,
  snapshots: 0,
  freedBytes: 0,
  ...change,
});
const suspended = (id: string, change: Partial<WorkloadView> = {}) =>
  workload(id, { state: 'suspended', pids: [], memoryBytes: 0, freedBytes: 600_000_000, ...change });
const operation = (change: Partial<NonNullable<WorkloadView['operation']>> = {}) => ({
  operation: 'suspend' as const,
  phase: 'checkpoint' as const,
  bytesDone: 40,
  bytesTotal: 100,
  cancelling: false,
  ...change,
});
const state = (workloads: WorkloadView[], change: Partial<AppState> = {}): AppState => ({
  engine: { kind: 'ready', version: '0.1.0', stateDir: '/var/lib/torpor' },
  workloads,
  sessions: [],
  freedBytes: workloads.reduce((sum, { freedBytes }) => sum + freedBytes, 0),
  diskBytes: 0,
  diskFreeBytes: 0,
  paused: false,
  settings: defaultSettings,
  shell: { kind: 'chromium', tray: true, globalShortcut: false },
  locale: 'en_US.UTF-8',
  ...change,
});

/** Writes down what was asked for. */
function recorder(): { done: string[]; actions: TrayActions } {
  const done: string[] = [];
  const note =
    (what: string) =>
    (...args: unknown[]) =>
      void done.push([what, ...args.map((arg) => JSON.stringify(arg))].join(' '));
  return {
    done,
    actions: {
      open: note('open'),
      suspend: note('suspend'),
      takeSnapshot: note('takeSnapshot'),
      resume: note('resume'),
      cancel: note('cancel'),
      suspendAll: note('suspendAll'),
      resumeLast: note('resumeLast'),
      pause: note('pause'),
      quit: note('quit'),
    },
  };
}

const model = (
  of: AppState,
  { texts = en, attention = false, actions = recorder().actions }: Partial<Parts> = {},
): TrayModel => trayModel(of, texts, actions, { attention });
interface Parts {
  texts: Texts;
  attention: boolean;
  actions: TrayActions;
}

const flat = (items: readonly TrayItem[]): TrayItem[] =>
  items.flatMap((item) => (item.kind === 'submenu' ? [item, ...flat(item.items)] : [item]));
/** One line an entry, as it looks. */
const lines = (items: readonly TrayItem[], indent = ''): string[] =>
  items.flatMap((item) => {
    if (item.kind === 'separator') return [`${indent}---`];
    const off = 'enabled' in item && !item.enabled ? ' (off)' : '';
    const mark = item.kind === 'check' ? (item.checked ? '[x] ' : '[ ] ') : '';
    const line = `${indent}${item.kind === 'label' ? '# ' : ''}${mark}${item.label}${off}`;
    return item.kind === 'submenu' ? [line, ...lines(item.items, `${indent}  `)] : [line];
  });
function act(of: TrayModel, id: string): void {
  const found = flat(of.items).find((item) => item.id === id);
  if (found?.kind !== 'command' && found?.kind !== 'check') throw new Error(`no entry ${id}`);
  found.act();
}

describe('the menu of the tray', () => {
  it('has what runs with a submenu each, what is suspended, and what can be done with all', () => {
    const { items, tooltip, status } = model(state([workload('gimp'), suspended('chess')]));
    expect(lines(items)).toEqual([
      '# Running',
      'GIMP',
      '  Open window',
      '  Suspend',
      '  Take a snapshot',
      '---',
      '# Suspended',
      'CHESS',
      '---',
      'Suspend all',
      'Resume last session',
      '# 600 MB of memory freed',
      '[ ] Pause automatic suspending',
      '---',
      'Open Torpor',
      'Quit Torpor',
    ]);
    expect(status).toBe('idle');
    expect(tooltip).toBe('1 running · 1 suspended · 600 MB of memory freed');
  });

  it('does what its entries say', () => {
    const { done, actions } = recorder();
    const of = model(state([workload('gimp'), suspended('chess')]), { actions });
    for (const id of ['open:gimp', 'suspend:gimp', 'snapshot:gimp', 'resume:chess']) act(of, id);
    for (const id of ['suspend-all', 'resume-last', 'pause', 'open', 'quit']) act(of, id);
    act(model(state([], { paused: true }), { actions }), 'pause');
    act(model(state([workload('gimp', { operation: operation() })]), { actions }), 'cancel:gimp');
    expect(done).toEqual([
      'open {"kind":"screen","workload":"gimp"}',
      'suspend "gimp"',
      'takeSnapshot "gimp"',
      'resume "chess"',
      'suspendAll',
      'resumeLast',
      'pause true',
      'open {"kind":"home"}',
      'quit',
      'pause false',
      'cancel "gimp"',
    ]);
  });

  it('says how far something is, lets it be cancelled, and shows it in the icon', () => {
    const of = model(state([workload('gimp', { state: 'suspending', operation: operation() })]));
    expect(lines(of.items)).toContain('GIMP: suspending 40%');
    expect(lines(of.items)).toContain('  Suspend (off)');
    expect(lines(of.items)).toContain('  Cancel');
    expect(lines(of.items)).toContain('Suspend all (off)');
    expect(of).toMatchObject({ status: 'busy', progress: 0.4, tooltip: 'In progress: GIMP' });
  });

  it.each([
    ['suspending of unknown size', { operation: operation({ bytesTotal: 0 }) }, 'GIMP: suspending …'],
    ['suspending without a report', { state: 'suspending' as const }, 'GIMP: suspending …'],
    [
      'resuming from suspended',
      { state: 'suspended' as const, operation: operation({ operation: 'resume' }) },
      'GIMP: resuming 40%',
    ],
    ['almost done', { operation: operation({ bytesDone: 999, bytesTotal: 1000 }) }, 'GIMP: suspending 99%'],
    ['more than all', { operation: operation({ bytesDone: 300 }) }, 'GIMP: suspending 100%'],
    ['cancelling', { operation: operation({ cancelling: true }) }, 'GIMP: cancelling …'],
    ['napping', { state: 'napping' as const }, 'GIMP (napping)'],
  ])('names one that is %s', (_, change, label) => {
    expect(lines(model(state([workload('gimp', change)])).items)).toContain(label);
  });

  it('adds up what is under way by bytes, as far as it is known', () => {
    const of = model(
      state([
        workload('a', { operation: operation({ bytesDone: 0, bytesTotal: 300 }) }),
        workload('b', { operation: operation({ bytesDone: 100, bytesTotal: 100 }) }),
        workload('c', { operation: operation({ bytesDone: 5, bytesTotal: 0 }) }),
      ]),
    );
    expect(of.progress).toBe(0.25);
    expect(
      model(state([workload('c', { operation: operation({ bytesTotal: 0 }) })])).progress,
    ).toBeUndefined();
  });

  it('stays short with many applications, and never hides what is under way', () => {
    const many = Array.from({ length: 30 }, (_, index) => workload(`app${index}`));
    many[25] = workload('app25', { operation: operation() });
    const { items } = model(state([...many, ...many.slice(0, 9).map(({ id }) => suspended(`old-${id}`))]));
    const shown = items.filter((item) => item.kind === 'submenu').map(({ label }) => label);
    expect(shown).toHaveLength(longestList);
    expect(shown.at(-1)).toBe('APP25: suspending 40%');
    expect(lines(items)).toContain('24 more in Torpor …');
    expect(lines(items)).toContain('3 more in Torpor …');
    expect(items.length).toBeLessThan(2 * longestList + 15);
  });

  it('gives every entry an id of its own, and the same one for the same thing later', () => {
    const all = [workload('gimp', { operation: operation() }), workload('xterm'), suspended('chess')];
    const ids = flat(model(state(all)).items).map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const later = flat(model(state([workload('gimp'), workload('new'), ...all.slice(1)])).items);
    const find = (label: string) => later.find((item) => 'label' in item && item.label === label)?.id;
    expect(find('GIMP')).toBe('workload:gimp');
    expect(ids).toContain(find('GIMP'));
    expect(ids).toContain(find('CHESS'));
  });

  it('tells two of the same name apart', () => {
    const { items } = model(
      state([
        workload('a', { title: 'xterm', since: '2026-11-21T10:00:00Z' }),
        workload('b', { title: 'xterm', since: '2026-11-20T09:00:00Z' }),
        workload('c', { title: 'Chess' }),
      ]),
    );
    const labels = items.filter((item) => item.kind === 'submenu').map(({ label }) => label);
    expect(new Set(labels).size).toBe(3);
    expect(labels[0]).toMatch(/^xterm \(since 11\/21\/26, .*\)$/);
    expect(labels[2]).toBe('Chess');
  });

  it('keeps strange names on one line and short', () => {
    const family = '👩‍👩‍👧';
    const { items } = model(
      state([
        workload('a', { title: ' line one\nline\ttwo\u0007 ' }),
        workload('b', { title: family.repeat(60) }),
        workload('c', { title: '  ', name: '' }),
      ]),
    );
    const labels = items.filter((item) => item.kind === 'submenu').map(({ label }) => label);
    expect(labels).toEqual(['line one line two', `${family.repeat(39)}…`, 'c']);
  });

  it('leaves out what has ended, and does not offer a window for a job', () => {
    const { items } = model(
      state([workload('gone', { state: 'ended' }), workload('script', { kind: 'job', title: 'Script' })]),
    );
    expect(lines(items).slice(0, 5)).toEqual([
      '# Running',
      'Script',
      '  Suspend',
      '  Take a snapshot',
      '---',
    ]);
    expect(lines(model(state([workload('gone', { state: 'ended' })])).items)[0]).toBe(
      '# No applications yet',
    );
  });

  it('says that the engine is missing, and offers nothing that needs it', () => {
    const engine = { kind: 'unavailable' as const, message: 'The engine did not start.', hint: 'See.' };
    const of = model(state([workload('gimp'), suspended('chess')], { engine }));
    expect(of).toMatchObject({ status: 'attention', tooltip: 'The engine did not start.' });
    expect(lines(of.items)[0]).toBe('# The engine is not available');
    const offered = flat(of.items).filter((item) => item.kind === 'command' && item.enabled);
    expect(offered.map(({ id }) => id)).toEqual(['open', 'quit']);
    expect(lines(model(state([], { engine: { kind: 'connecting' } })).items)[0]).toBe(
      '# Waiting for the engine …',
    );
  });

  it('has one status: attention before busy before paused', () => {
    const busy = [workload('gimp', { operation: operation() })];
    expect(model(state(busy, { paused: true }), { attention: true }).status).toBe('attention');
    expect(model(state(busy, { paused: true })).status).toBe('busy');
    expect(model(state([], { paused: true }))).toMatchObject({
      status: 'paused',
      tooltip: 'Automatic suspending is paused',
    });
  });

  it('passes icons on', () => {
    const icon = Uint8Array.of(1, 2, 3);
    const { items } = trayModel(state([workload('a'), suspended('b')]), en, recorder().actions, {
      attention: false,
      icon: (one) => (one.id === 'a' ? icon : undefined),
    });
    expect(items.find(({ id }) => id === 'workload:a')).toMatchObject({ icon });
    expect(items.find(({ id }) => id === 'resume:b')).not.toHaveProperty('icon');
  });

  it('speaks German', () => {
    const busy = workload('gimp', { operation: operation() });
    const of = model(state([busy, suspended('chess', { freedBytes: 1_234_000_000 })]), { texts: de });
    expect(lines(of.items)).toEqual([
      '# Läuft',
      'GIMP: wird schlafen gelegt, 40\u00a0%',
      '  Fenster öffnen',
      '  Schlafen legen (off)',
      '  Momentaufnahme machen (off)',
      '  Abbrechen',
      '---',
      '# Schläft',
      'CHESS',
      '---',
      'Alle schlafen legen (off)',
      'Letzte Sitzung aufwecken',
      '# 1,2\u00a0GB Speicher frei geworden',
      '[ ] Automatik anhalten',
      '---',
      'Torpor öffnen',
      'Torpor beenden',
    ]);
    expect(de.tray.countRunning(1)).toBe('1 läuft');
    expect(de.tray.countRunning(1200)).toBe('1.200 laufen');
    expect(de.tray.busy(['GIMP', 'Schach'])).toBe('In Arbeit: GIMP und Schach');
  });
});

describe('the language', () => {
  it.each([
    ['system', 'de_AT.UTF-8', 'de'],
    ['system', 'de', 'de'],
    ['system', 'den_CA', 'en'],
    ['system', 'fr_FR', 'en'],
    ['system', 'C', 'en'],
    ['system', '', 'en'],
    ['en', 'de_DE', 'en'],
    ['de', 'en_GB', 'de'],
  ] as const)('set to %s on a desktop in "%s" is %s', (language, locale, expected) => {
    expect(textsIn(language, locale).language).toBe(expected);
  });
});
