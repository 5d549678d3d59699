/** What the bridge passes on, and what it does not. */
import { describe, expect, it } from 'vitest';
import { pluginStateLimit } from '../../api/plugin-types.ts';
import { Carried, emptyState, encodeState, parseState } from '../../plugins/bridge/carried.ts';
import { decide, hears, limits, services } from '../../plugins/bridge/policy.ts';

const service = (name: string) => {
  const found = services.find((each) => each.name === name);
  if (found === undefined) throw new Error(name);
  return found;
};
const portal = service('org.freedesktop.portal.Desktop');
const desktop = '/org/freedesktop/portal/desktop';
const kindOf = (name: string, path: string, given: string, member: string, named?: string) =>
  decide(service(name), { path, interface: given, member }, named).kind;

describe('calls', () => {
  it.each([
    'Screenshot',
    'ScreenCast',
    'RemoteDesktop',
    'Camera',
    'Location',
    'Background',
    'GlobalShortcuts',
    'InputCapture',
  ])('to the portal %s are refused: outside of a sandbox it would not ask its user', (name) => {
    const interfaceName = `org.freedesktop.portal.${name}`;
    expect(kindOf(portal.name, desktop, interfaceName, name)).toBe('refused');
    const properties = 'org.freedesktop.DBus.Properties';
    expect(kindOf(portal.name, desktop, properties, 'Get', interfaceName)).toBe('refused');
  });

  it('are passed on by interface, method and path', () => {
    const chooser = 'org.freedesktop.portal.FileChooser';
    expect(kindOf(portal.name, desktop, chooser, 'OpenFile')).toBe('allowed');
    expect(kindOf(portal.name, desktop, chooser, 'toString')).toBe('refused');
    expect(kindOf(portal.name, desktop, 'constructor', 'name')).toBe('refused');
    expect(kindOf(portal.name, '/elsewhere', chooser, 'OpenFile')).toBe('refused');
    expect(kindOf(portal.name, `${desktop}er`, chooser, 'OpenFile')).toBe('refused');
    expect(kindOf(portal.name, desktop, '', 'SaveFile')).toBe('allowed');
    // Of two interfaces it could be either.
    expect(kindOf(portal.name, desktop, '', 'OpenFile')).toBe('refused');
    expect(kindOf(portal.name, `${desktop}/${'x'.repeat(400)}`, chooser, 'OpenFile')).toBe('refused');
  });

  it('to the system read its state, and change nothing', () => {
    const manager = 'org.freedesktop.NetworkManager';
    const path = '/org/freedesktop/NetworkManager';
    const properties = 'org.freedesktop.DBus.Properties';
    expect(kindOf(manager, path, manager, 'GetDevices')).toBe('allowed');
    expect(kindOf(manager, path, manager, 'ActivateConnection')).toBe('refused');
    expect(kindOf(manager, path, properties, 'GetAll', manager)).toBe('allowed');
    expect(kindOf(manager, path, properties, 'Set', manager)).toBe('refused');
    const settings = 'org.freedesktop.NetworkManager.Settings.Connection';
    expect(kindOf(manager, `${path}/Settings/1`, settings, 'GetSecrets')).toBe('refused');
    const login = [
      'org.freedesktop.login1',
      '/org/freedesktop/login1',
      'org.freedesktop.login1.Manager',
    ] as const;
    for (const member of ['PowerOff', 'Suspend', 'LockSessions', 'TerminateUser'])
      expect(kindOf(...login, member)).toBe('refused');
    expect(kindOf(...login, 'Inhibit')).toBe('allowed');
  });
});

it('signals are heard of the interfaces that can be called', () => {
  const changed = { path: desktop, interface: 'org.freedesktop.portal.Settings', member: 'SettingChanged' };
  expect(hears(portal, changed, 'org.freedesktop.appearance')).toBe(true);
  expect(hears(portal, { ...changed, interface: 'org.freedesktop.portal.Location' }, undefined)).toBe(false);
  const properties = {
    path: desktop,
    interface: 'org.freedesktop.DBus.Properties',
    member: 'PropertiesChanged',
  };
  expect(hears(portal, properties, 'org.freedesktop.portal.Camera')).toBe(false);
  expect(hears(portal, { ...changed, interface: 'constructor' }, undefined)).toBe(false);
});

it('what is carried fits into a snapshot when all limits are reached, and comes back the same', () => {
  const carried = new Carried();
  const client = ':1.4294967295';
  const path = `/${'x'.repeat(399)}`;
  for (let index = 0; index < limits.inhibitors; index++) {
    const text = '日'.repeat(limits.text);
    carried.inhibitors.add({
      what: {
        kind: 'descriptor',
        values: [text, text, text, text],
        held: Array(8).fill({ pid: 4194304, fd: 65535 }),
      },
      outside: undefined,
    });
  }
  for (let index = 0; index < limits.notifications; index++)
    carried.notifications.set(carried.newNumber(), { outside: index, owner: client });
  for (let index = 0; index < limits.requests; index++) {
    const each = `${path.slice(0, 390)}${index}`;
    carried.requests.set(each, { client, owner: client });
    carried.prompts.set(each, { client, owner: client });
    carried.secretSessions.set(carried.newSessionPath(), { client, outside: undefined });
  }
  const state = carried.state(Array(limits.players).fill(`org.mpris.MediaPlayer2.${'x'.repeat(200)}`));
  const bytes = encodeState(state);
  expect(bytes.length).toBeLessThan(pluginStateLimit);
  expect(parseState(bytes)).toEqual(state);
  expect(parseState(Buffer.alloc(0))).toEqual(emptyState);
  expect(() => parseState(Buffer.from('{"version":2}'))).toThrow();
});

it('is readable also where more has come together than its limits, of which the rest is kept', () => {
  const carried = new Carried();
  for (let index = 0; index < 2 * limits.notifications; index++)
    carried.notifications.set(index, { outside: index, owner: ':1.1' });
  const state = carried.state();
  expect(parseState(encodeState(state))).toEqual(state);
  const all = { ...state, notifications: [...carried.notifications.keys()] };
  expect(parseState(encodeState(all))).toEqual(state);
});

it('places are taken by what is only asked for yet', () => {
  const carried = new Carried();
  const places = Array.from({ length: limits.inhibitors }, () => carried.reserve('inhibitors'));
  expect(places).not.toContain(undefined);
  expect(carried.reserve('inhibitors')).toBeUndefined();
  places[0]?.[Symbol.dispose]();
  expect(carried.reserve('inhibitors')).toBeDefined();
});
