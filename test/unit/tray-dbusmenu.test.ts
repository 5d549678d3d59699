/** What hosts of the tray's menu are told when it changes. */
import { Variant } from '@jellybrick/dbus-next';
import { expect, it } from 'vitest';
import type { TrayItem } from '../../main/shells/shell.ts';
import { DBusMenu } from '../../main/tray/status-notifier/menu.ts';

const command = (id: string, change: Partial<Extract<TrayItem, { kind: 'command' }>> = {}): TrayItem => ({
  kind: 'command',
  id,
  label: id,
  enabled: true,
  act: () => {},
  ...change,
});

it('tells nothing where nothing changed', () => {
  const menu = new DBusMenu([command('a'), { kind: 'submenu', id: 's', label: 'S', items: [command('b')] }]);
  expect(menu.set([command('a'), { kind: 'submenu', id: 's', label: 'S', items: [command('b')] }])).toEqual(
    [],
  );
});

it('tells a property of an entry without a new layout', () => {
  const menu = new DBusMenu([command('a'), command('b', { enabled: false, icon: Uint8Array.of(1) })]);
  expect(menu.set([command('a', { label: 'A_1' }), command('b')])).toEqual([
    ['ItemsPropertiesUpdated', [[[1, { label: new Variant('s', 'A__1') }]], [[2, ['enabled', 'icon-data']]]]],
  ]);
});

it('tells a new layout where entries come, go, move or become another kind', () => {
  const menu = new DBusMenu([command('a'), command('b')]);
  expect(menu.set([command('b'), command('a')])).toEqual([['LayoutUpdated', [2, 0]]]);
  expect(menu.set([command('b')])).toEqual([['LayoutUpdated', [3, 0]]]);
  expect(menu.set([{ kind: 'label', id: 'b', label: 'b' }])).toEqual([['LayoutUpdated', [4, 0]]]);
  expect(menu.set([])).toEqual([['LayoutUpdated', [5, 0]]]);
});

it('refuses two entries of the same id and keeps what it had', () => {
  const menu = new DBusMenu([command('a')]);
  expect(() =>
    menu.set([command('x'), { kind: 'submenu', id: 's', label: '', items: [command('x')] }]),
  ).toThrow("two entries of the tray's menu have the id x");
  expect(menu.set([command('a')])).toEqual([]);
});
