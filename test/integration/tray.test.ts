/** The tray on D-Bus, with a real watcher, host, screen and mouse; and its protocol on a real bus alone. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Message, type Variant } from '@jellybrick/dbus-next';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BusConnection } from '../../api/connection.ts';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import type { Box, Picture } from '../../api/rfb/picture.ts';
import type { TrayItem, TrayModel } from '../../main/shells/shell.ts';
import { StatusNotifierTray } from '../../main/tray/status-notifier/tray.ts';
import { Accessibility, type Accessible } from '../support/accessibility.ts';
import { eventually, PanelDesktop, SessionBus } from '../support/panel.ts';

const command = (id: string, label: string, act: () => void = () => {}, enabled = true): TrayItem => ({
  kind: 'command',
  id,
  label,
  enabled,
  act,
});
const model = (items: TrayItem[], change: Partial<TrayModel> = {}): TrayModel => ({
  status: 'idle',
  title: 'Torpor',
  tooltip: 'A & B <running>',
  items,
  ...change,
});

async function ask(
  connection: BusConnection,
  destination: string,
  path: string,
  member: string,
  signature = '',
  body: unknown[] = [],
): Promise<unknown[]> {
  const at = member.lastIndexOf('.');
  const message = { destination, path, interface: member.slice(0, at), member: member.slice(at + 1) };
  return (await connection.call(new Message({ ...message, signature, body }))).body;
}

describe('in a panel', () => {
  let desktop: PanelDesktop;
  let screen: RfbClient;
  let reader: Accessibility;
  let client: BusConnection;
  let tray: StatusNotifierTray;
  const shown: boolean[] = [];
  const clicked: string[] = [];

  beforeAll(async () => {
    desktop = await PanelDesktop.start();
    client = await BusConnection.open(desktop.bus.address);
    screen = await connectRfb(desktop.screen);
    const opened = await StatusNotifierTray.open(desktop.bus.address);
    if (opened === undefined) throw new Error('the session bus was not found');
    tray = opened;
    tray.onShownChanged((isShown) => shown.push(isShown));
    tray.onActivate(() => clicked.push('icon'));
  });
  afterAll(async () => {
    await tray?.[Symbol.asyncDispose]();
    await reader?.[Symbol.asyncDispose]();
    await client?.[Symbol.asyncDispose]();
    await screen?.[Symbol.asyncDispose]();
    await desktop?.[Symbol.asyncDispose]();
  });

  const watcher = async (property: string): Promise<unknown> => {
    const name = 'org.kde.StatusNotifierWatcher';
    const get = 'org.freedesktop.DBus.Properties.Get';
    const [value] = await ask(client, name, '/StatusNotifierWatcher', get, 'ss', [name, property]);
    return (value as Variant).value;
  };
  const registered = async () =>
    ((await watcher('RegisteredStatusNotifierItems')) as string[]).filter((item) =>
      item.startsWith(tray.busName),
    );
  /** Pixels in the panel of about this colour. */
  const countOf = ({ rgb, width }: Picture, [red, green, blue]: [number, number, number]) => {
    let count = 0;
    for (let at = 0; at < width * 30 * 3; at += 3) {
      const difference =
        Math.abs((rgb[at] ?? 0) - red) +
        Math.abs((rgb[at + 1] ?? 0) - green) +
        Math.abs((rgb[at + 2] ?? 0) - blue);
      if (difference < 40) count++;
    }
    return count;
  };
  const indigo: [number, number, number] = [84, 82, 205];
  const pixels = (colour: [number, number, number], atLeast: number, what: string) =>
    eventually(what, async () => {
      const count = countOf(await screen.capture(), colour);
      return count >= atLeast ? count : undefined;
    });
  const middle = ({ x, y, width, height }: Box) =>
    [Math.round(x + width / 2), Math.round(y + height / 2)] as const;
  const icon = () => eventually('an icon in the panel', async () => (await reader.showing('push button'))[0]);
  const entries = () => reader.showing('menu item', 'check menu item', 'menu');
  /** Opens the menu by the mouse and waits until all of it is there. */
  const openMenu = async (label: string): Promise<Accessible[]> => {
    await screen.click(...middle((await icon()).box), 3);
    await entry(label);
    return await entries();
  };
  const entry = (label: string) =>
    eventually(`the entry ${label}`, async () => (await entries()).find(({ name }) => name === label));

  it('is not shown where there is no watcher, and works all the same', () => {
    expect(tray.isShown).toBe(false);
    expect(tray.set(model([command('a', 'A')]))).toBe(false);
  });

  it('registers when a panel comes, which draws its icon', async () => {
    // Starts the accessibility bus, so that the panel finds it.
    reader = await Accessibility.open(desktop.bus.address);
    desktop.startPanel();
    await eventually('being shown', () => tray.isShown || undefined, 15_000);
    expect(await registered()).toHaveLength(1);
    expect(await watcher('IsStatusNotifierHostRegistered')).toBe(true);
    expect(shown).toEqual([true]);
    expect(tray.set(model([command('a', 'A')]))).toBe(true);
    expect(await pixels(indigo, 100, 'the icon')).toBeLessThan(22 * 22);
  });

  it.each([
    ['paused', [112, 117, 131]],
    ['busy', [245, 158, 11]],
    ['attention', [214, 40, 57]],
  ] as ['paused' | 'busy' | 'attention', [number, number, number]][])(
    'changes its icon when it is %s and back',
    async (status, colour) => {
      expect(countOf(await screen.capture(), colour)).toBeLessThan(5);
      tray.set(model([], { status, progress: 1 }));
      await pixels(colour, 20, `the icon for ${status}`);
      tray.set(model([]));
      await pixels(indigo, 100, 'the usual icon');
    },
  );

  it('tells of a click by the mouse, and says what goes on where the mouse rests', async () => {
    const { box } = await icon();
    await screen.click(...middle(box));
    await eventually('the click', () => clicked.includes('icon') || undefined);
    clicked.length = 0;
    await screen.pointer(400, 400);
    await screen.pointer(...middle(box));
    await eventually('the tooltip', async () =>
      (await reader.showing('tool tip')).find(({ name }) => name === 'Torpor\nA & B <running>'),
    );
    await screen.pointer(400, 400);
  });

  it('shows its menu, in which a click runs what the entry stands for', async () => {
    tray.set(
      model([
        { kind: 'label', id: 'l', label: '1.2 GB freed' },
        { kind: 'separator', id: 's' },
        {
          kind: 'submenu',
          id: 'gimp',
          label: 'GIMP: suspending 40 %',
          items: [
            command('open', 'Open', () => clicked.push('open')),
            command('off', 'Not now', undefined, false),
          ],
        },
        {
          kind: 'check',
          id: 'p',
          label: 'Pause',
          enabled: true,
          checked: true,
          act: () => clicked.push('pause'),
        },
        command('quit', 'Quit', () => clicked.push('quit')),
      ]),
    );
    const menu = await openMenu('Quit');
    expect(menu.filter(({ name }) => name !== '').map(({ name }) => name)).toEqual([
      '1.2 GB freed',
      'GIMP: suspending 40 %',
      'Pause',
      'Quit',
    ]);
    const named = (name: string) => menu.find((one) => one.name === name);
    expect(named('1.2 GB freed')?.isEnabled).toBe(false);
    expect(named('Quit')?.isEnabled).toBe(true);
    expect(named('Pause')).toMatchObject({ role: 'check menu item', isChecked: true });

    await screen.click(...middle((await entry('GIMP: suspending 40 %')).box));
    const open = await entry('Open');
    expect((await entry('Not now')).isEnabled).toBe(false);
    await screen.click(...middle(open.box));
    await eventually('Open', () => clicked.includes('open') || undefined);

    await openMenu('Pause');
    await screen.click(...middle((await entry('Pause')).box));
    await eventually('Pause', () => clicked.includes('pause') || undefined);
    expect(clicked).toEqual(['open', 'pause']);
  });

  it('changes a menu that is open', async () => {
    tray.set(model([command('a', 'First'), command('b', 'Second', () => clicked.push('b'))]));
    await openMenu('Second');
    tray.set(model([command('b', 'Second: 50 %', () => clicked.push('changed')), command('c', 'Third')]));
    await entry('Third');
    const changed = await entry('Second: 50 %');
    expect((await entries()).map(({ name }) => name)).not.toContain('First');
    await screen.click(...middle(changed.box));
    await eventually('the changed entry', () => clicked.includes('changed') || undefined);
    expect(clicked).not.toContain('b');
  });

  it('comes back with a panel that was started again', async () => {
    shown.length = 0;
    await desktop.stopPanel();
    await eventually('being shown no more', () => !tray.isShown || undefined);
    expect(tray.set(model([]))).toBe(false);
    desktop.startPanel();
    await eventually('being shown again', () => tray.isShown || undefined, 15_000);
    expect(shown).toEqual([false, true]);
    expect(await registered()).toHaveLength(1);
    await pixels(indigo, 100, 'the icon');
  });

  it('is taken from the panel when it ends', async () => {
    const other = await StatusNotifierTray.open(desktop.bus.address);
    expect(other?.busName).toBe(`org.kde.StatusNotifierItem-${process.pid}-2`);
    expect(other?.isShown).toBe(true);
    await other?.[Symbol.asyncDispose]();
    await eventually('one icon', async () => {
      const items = (await watcher('RegisteredStatusNotifierItems')) as string[];
      return items.length === 1 || undefined;
    });
    await tray[Symbol.asyncDispose]();
    await eventually('no icon', async () => countOf(await screen.capture(), indigo) === 0 || undefined);
    expect(await registered()).toEqual([]);
  });
});
