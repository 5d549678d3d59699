/** The tray on D-Bus, with a real watcher, host, screen and mouse; and its protocol on a real bus alone. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Message, Variant } from '@jellybrick/dbus-next';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { BusConnection } from '../../api/connection.ts';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import { type Box, comparePictures, cropPicture, type Picture } from '../../api/rfb/picture.ts';
import type { TrayItem, TrayModel } from '../../main/shells/shell.ts';
import { StatusNotifierTray } from '../../main/tray/status-notifier/tray.ts';
import { Accessibility, type Accessible } from '../support/accessibility.ts';
import { eventually, PanelDesktop, SessionBus } from '../support/panel.ts';

const panelHeight = 30;
/** Where the tooltip comes, under an icon at the left end. */
const tooltipBox: Box = { x: 0, y: 34, width: 150, height: 60 };
const indigo = [84, 82, 205] as const;

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
  const placesOf = ({ rgb, width }: Picture, colour: readonly [number, number, number]) =>
    Array.from({ length: width * panelHeight }, (_, at) => at)
      .filter((at) => colour.every((value, part) => Math.abs((rgb[at * 3 + part] ?? 0) - value) < 20))
      .map((at) => ({ x: at % width, y: Math.floor(at / width) }));
  const countOf = async (colour: readonly [number, number, number]) =>
    placesOf(await screen.capture(), colour).length;
  const pixels = (colour: readonly [number, number, number], atLeast: number, what: string) =>
    eventually(what, async () => {
      const count = await countOf(colour);
      return count >= atLeast ? count : undefined;
    });
  const countWhite = ({ rgb, width }: Picture, { x, y, width: columns, height: rows }: Box) =>
    Array.from(
      { length: columns * rows },
      (_, at) => x + (at % columns) + (y + Math.floor(at / columns)) * width,
    ).filter((at) => [0, 1, 2].every((part) => (rgb[at * 3 + part] ?? 0) > 200)).length;
  const whiteIn = async (box: Box) => countWhite(await screen.capture(), box);
  const middle = ({ x, y, width, height }: Box) =>
    [Math.round(x + width / 2), Math.round(y + height / 2)] as const;
  /** Where the icon is, by its colour. */
  const icon = async () => {
    await pixels(indigo, 100, 'an icon in the panel');
    const places = placesOf(await screen.capture(), indigo);
    const [x, y] = [places.map((at) => at.x), places.map((at) => at.y)];
    return [(Math.min(...x) + Math.max(...x)) >> 1, (Math.min(...y) + Math.max(...y)) >> 1] as const;
  };
  const entries = () => reader.showing('menu item', 'check menu item', 'menu');
  /** Opens the menu by the mouse and waits until all of it is there. */
  const openMenu = async (label: string): Promise<Accessible[]> => {
    const isOpen = async () => (await entries()).length > 0 || undefined;
    // A click while one is being closed only helps to close it.
    await eventually('no menu', async () => !(await isOpen()) || undefined);
    await screen.click(...(await icon()), 3);
    await eventually('a menu', isOpen, 3000).catch(async () => screen.click(...(await icon()), 3));
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
  ] as const)('changes its icon when it is %s and back', async (status, colour) => {
    expect(await countOf(colour)).toBeLessThan(5);
    tray.set(model([], { status, progress: 1 }));
    await pixels(colour, 20, `the icon for ${status}`);
    tray.set(model([]));
    await pixels(indigo, 100, 'the usual icon');
  });

  it('tells of a click by the mouse, and says what goes on where the mouse rests', async () => {
    const at = await icon();
    await screen.click(...at);
    await eventually('the click', () => clicked.includes('icon') || undefined);
    clicked.length = 0;
    await screen.pointer(400, 400);
    await eventually('no tooltip', async () => (await whiteIn(tooltipBox)) === 0 || undefined);
    await screen.pointer(...at);
    await eventually('the tooltip', async () => (await whiteIn(tooltipBox)) > 100 || undefined);
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
    const row = async (y: number) => cropPicture(await screen.capture(), { x: 30, y, width: 70, height: 22 });
    const firstRow = (await entry('First')).box;
    const before = await row(firstRow.y);
    tray.set(model([command('b', 'Other_', () => clicked.push('changed')), command('c', 'Third')]));
    await entry('Third');
    // GTK's accessible names do not follow a label, so what is drawn is looked at.
    await eventually('another label', async () => {
      const { differentPixels } = comparePictures(before, await row(firstRow.y));
      return differentPixels > 30 || undefined;
    });
    expect((await entries()).map(({ name }) => name)).not.toContain('First');
    await screen.click(...middle(firstRow));
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
    await eventually('no icon', async () => (await countOf(indigo)) === 0 || undefined);
    expect(await registered()).toEqual([]);
  });
});

describe('on a bus alone', () => {
  let folder: string;
  let bus: SessionBus;
  let client: BusConnection;
  let tray: StatusNotifierTray;
  const clicked: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp('/var/tmp/torpor-tray-');
    bus = await SessionBus.start(join(folder, 'bus'));
    client = await BusConnection.open(bus.address);
    const opened = await StatusNotifierTray.open(bus.address);
    if (opened === undefined) throw new Error('the bus was not found');
    tray = opened;
    tray.onActivate(() => clicked.push('icon'));
    tray.set(
      model([
        command('a', 'Save_as', () => clicked.push('a')),
        command('off', 'Off', () => clicked.push('off'), false),
        {
          kind: 'submenu',
          id: 's',
          label: 'More',
          items: [
            command('in', 'Inside', () => clicked.push('in')),
            command('bad', 'Bad', () => {
              throw new Error('it broke');
            }),
          ],
        },
      ]),
    );
  });
  beforeEach(() => {
    clicked.length = 0;
  });
  afterAll(async () => {
    await tray?.[Symbol.asyncDispose]();
    await client?.[Symbol.asyncDispose]();
    await bus?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const item = (member: string, signature = '', body: unknown[] = []) =>
    ask(client, tray.busName, '/StatusNotifierItem', member, signature, body);
  const menu = (member: string, signature = '', body: unknown[] = []) =>
    ask(client, tray.busName, '/MenuBar', `com.canonical.dbusmenu.${member}`, signature, body);
  const event = (id: number, name = 'clicked') => menu('Event', 'isvu', [id, name, new Variant('s', ''), 0]);

  it('has all properties of an item, with its pixels in network byte order', async () => {
    const [all] = await item('org.freedesktop.DBus.Properties.GetAll', 's', ['org.kde.StatusNotifierItem']);
    const values = all as Record<string, Variant>;
    const plain = Object.fromEntries(Object.entries(values).map(([name, { value }]) => [name, value]));
    expect(plain).toMatchObject({
      Category: 'ApplicationStatus',
      Id: 'torpor',
      Title: 'Torpor',
      Status: 'Active',
      IconName: '',
      OverlayIconPixmap: [],
      AttentionIconPixmap: [],
      ToolTip: ['', [], 'Torpor', 'A &amp; B &lt;running&gt;'],
      ItemIsMenu: false,
      Menu: '/MenuBar',
    });
    expect(values.IconPixmap?.signature).toBe('a(iiay)');
    const icons = plain.IconPixmap as [number, number, Buffer][];
    expect(icons.map(([width, height, data]) => [width, height, data.length])).toEqual(
      [22, 24, 32, 48, 64].map((size) => [size, size, size * size * 4]),
    );
    const [, , data] = icons[0] as [number, number, Buffer];
    const rightOfTheMoon = (11 * 22 + 17) * 4;
    expect([...data.subarray(rightOfTheMoon, rightOfTheMoon + 4)]).toEqual([255, ...indigo]);
  });

  it('says what it offers when it is introspected', async () => {
    const [xml] = await item('org.freedesktop.DBus.Introspectable.Introspect');
    expect(xml).toContain('<interface name="org.kde.StatusNotifierItem">');
    expect(xml).toContain('<property name="ToolTip" type="(sa(iiay)ss)" access="read"/>');
    expect(xml).toContain('<signal name="NewStatus">');
  });

  it('gives the menu whole or in parts, with only the properties that are asked for', async () => {
    const whole = (await menu('GetLayout', 'iias', [0, -1, []])) as [number, Layout];
    expect(outline(whole[1])).toEqual([
      0,
      '',
      [1, 'Save__as'],
      [2, 'Off'],
      [3, 'More', [4, 'Inside'], [5, 'Bad']],
    ]);
    const [, flat] = (await menu('GetLayout', 'iias', [0, 1, ['enabled']])) as [number, Layout];
    expect(outline(flat)).toEqual([0, '', [1, ''], [2, ''], [3, '']]);
    const [, part] = (await menu('GetLayout', 'iias', [3, 1, ['label']])) as [number, Layout];
    expect(outline(part)).toEqual([3, 'More', [4, 'Inside'], [5, 'Bad']]);
    expect((await menu('GetGroupProperties', 'aias', [[2, 77], []]))[0]).toEqual([
      [2, { label: new Variant('s', 'Off'), enabled: new Variant('b', false) }],
    ]);
    expect(await menu('GetProperty', 'is', [1, 'enabled'])).toEqual([new Variant('b', true)]);
  });

  it('runs an entry that is clicked, and only that', async () => {
    await event(4);
    await event(4, 'hovered');
    await event(2);
    await event(3, 'opened');
    expect(clicked).toEqual(['in']);
    const group = [
      [1, 'clicked', new Variant('s', ''), 0],
      [88, 'clicked', new Variant('s', ''), 0],
    ];
    expect(await menu('EventGroup', 'a(isvu)', [group])).toEqual([[88]]);
    expect(clicked).toEqual(['in', 'a']);
  });

  it.each(['Activate', 'SecondaryActivate', 'ContextMenu'])(
    'takes %s for a click on the icon',
    async (member) => {
      await item(`org.kde.StatusNotifierItem.${member}`, 'ii', [10, 10]);
      await item('org.kde.StatusNotifierItem.Scroll', 'is', [120, 'vertical']);
      expect(clicked).toEqual(['icon']);
    },
  );

  it('answers nonsense with an error of one sentence', async () => {
    await expect(event(99)).rejects.toThrow('The menu has no entry 99.');
    await expect(event(5)).rejects.toThrow(/^it broke$/);
    await expect(menu('GetLayout', 'iias', [-5, -1, []])).rejects.toThrow('The menu has no entry -5.');
    await expect(menu('GetProperty', 'is', [1, 'colour'])).rejects.toThrow('has no property colour');
    await expect(menu('Event', 's', ['clicked'])).rejects.toThrow('takes arguments of the form "isvu"');
    await expect(menu('Explode')).rejects.toThrow('does not exist');
    await expect(menu('toString')).rejects.toThrow('does not exist');
    const get = 'org.freedesktop.DBus.Properties.Get';
    await expect(item(get, 'ss', ['org.kde.StatusNotifierItem', 'constructor'])).rejects.toThrow(
      'There is no property org.kde.StatusNotifierItem.constructor.',
    );
    const set = 'org.freedesktop.DBus.Properties.Set';
    await expect(
      item(set, 'ssv', ['org.kde.StatusNotifierItem', 'Title', new Variant('s', 'x')]),
    ).rejects.toThrow('can only be read');
  });

  it('sends signals for what has changed, and none for what has not', async () => {
    const rule = "type='signal',path_namespace='/'";
    await ask(client, 'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus.AddMatch', 's', [
      rule,
    ]);
    const heard: string[] = [];
    client.bus.on('message', ({ member, path }) => {
      if (path === '/MenuBar' || path === '/StatusNotifierItem') heard.push(member);
    });
    const first = model([command('x', 'X')]);
    const heardAfter = async (next: TrayModel) => {
      heard.length = 0;
      tray.set(next);
      await event(0);
      return [...heard];
    };
    await heardAfter(first);
    expect(await heardAfter(model([command('x', 'X')]))).toEqual([]);
    expect(await heardAfter(model([command('x', 'Y')]))).toEqual(['ItemsPropertiesUpdated']);
    expect(await heardAfter(model([]))).toEqual(['LayoutUpdated']);
    expect(await heardAfter(model([], { status: 'busy' }))).toEqual(['NewIcon']);
    expect(await heardAfter(model([], { status: 'busy', progress: 0.01 }))).toEqual([]);
    expect(await heardAfter(model([], { status: 'busy', progress: 0.5 }))).toEqual(['NewIcon']);
    expect(await heardAfter(model([], { status: 'attention', tooltip: 'Failed' }))).toEqual([
      'NewIcon',
      'NewAttentionIcon',
      'NewStatus',
      'NewToolTip',
    ]);
  });

  it('is undefined where there is no bus', async () => {
    expect(await StatusNotifierTray.open(`unix:path=${folder}/nothing`)).toBeUndefined();
    expect(await StatusNotifierTray.open('nonsense')).toBeUndefined();
  });

  it('outlives its bus', async () => {
    const lost = new Promise<void>((resolve) => client.onLost(resolve));
    await bus[Symbol.asyncDispose]();
    await lost;
    expect(tray.set(model([command('late', 'Late')], { status: 'paused' }))).toBe(false);
    await sleep(50);
    expect(tray.set(model([command('later', 'Later')], { status: 'busy' }))).toBe(false);
    expect(tray.isShown).toBe(false);
    await tray[Symbol.asyncDispose]();
  });
});

type Layout = [number, Record<string, Variant>, Variant[]];
/** Numbers and labels. */
const outline = ([number, properties, children]: Layout): unknown[] => [
  number,
  properties.label?.value ?? '',
  ...children.map((child) => outline(child.value as Layout)),
];
