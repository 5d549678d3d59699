/** A real application suspended and resumed from the tray of a real panel, by the mouse. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import type { Box } from '../../api/rfb/picture.ts';
import type { Notice } from '../../main/ipc/view.ts';
import { AppTray } from '../../main/tray/app-tray.ts';
import { StatusNotifierTray } from '../../main/tray/status-notifier/tray.ts';
import { Accessibility } from '../support/accessibility.ts';
import { TestApp, type TestWindow } from '../support/app.ts';
import { TestEngine } from '../support/engine.ts';
import { eventually, PanelDesktop } from '../support/panel.ts';

/** The panel's first icon. */
const icon = [12, 15] as const;

let engine: TestEngine;
let app: TestApp;
let window: TestWindow;
let desktop: PanelDesktop;
let reader: Accessibility;
let screen: RfbClient;
let icons: StatusNotifierTray | undefined;
const notices: Notice[] = [];
const opened: unknown[] = [];
let isOver = false;

beforeAll(async () => {
  engine = await TestEngine.create();
  app = await TestApp.start(engine);
  window = await app.connect();
  desktop = await PanelDesktop.start();
  reader = await Accessibility.open(desktop.bus.address);
  screen = await connectRfb(desktop.screen);
  desktop.startPanel();
  icons = await StatusNotifierTray.open(desktop.bus.address);
  const tray = new AppTray(
    {
      call: (_, name, args) => {
        if (name === 'window.open') opened.push(...args);
        return window.ask(name, args);
      },
      fetch: (request) => window.fetch(new URL(request.url).pathname),
      tell: (notice) => void notices.push(notice),
    },
    { setTray: async (model) => icons?.set(model) ?? false },
    () => {},
  );
  void window
    .until((state) => {
      tray.show(state);
      return isOver;
    }, 200_000)
    .catch(() => {});
  await eventually('a panel', () => icons?.isShown || undefined, 15_000);
  await window.until(({ engine }) => engine.kind === 'ready');
});
afterAll(async () => {
  isOver = true;
  window?.[Symbol.dispose]();
  await icons?.[Symbol.asyncDispose]();
  await screen?.[Symbol.asyncDispose]();
  await reader?.[Symbol.asyncDispose]();
  await desktop?.[Symbol.asyncDispose]();
  await app?.[Symbol.asyncDispose]();
  await engine?.[Symbol.asyncDispose]();
});

const entries = () => reader.showing('menu item', 'menu');
const click = ({ x, y, width, height }: Box) => screen.click(x + (width >> 1), y + (height >> 1));
/** Waits for an entry in the menu that is open. */
const entry = (name: string) =>
  eventually(
    `the entry ${name}`,
    async () => (await entries()).find((one) => one.name === name && one.isEnabled),
    15_000,
  );
const openMenu = () => screen.click(...icon, 3);
const inState = (id: string, state: string) =>
  window.until(({ workloads }) => workloads.find((each) => each.id === id && each.state === state));

it('suspends an application and resumes it', async () => {
  const id = await window.call('command.run', 'exec xterm -geometry 60x10', { terminal: false });
  const { title } = await inState(id, 'running');
  await openMenu();
  await click((await entry(title)).box);
  await click((await entry('Suspend')).box);
  const { freedBytes, pids } = await inState(id, 'suspended');
  expect(freedBytes).toBeGreaterThan(1_000_000);
  expect(pids).toEqual([]);

  await openMenu();
  const again = await entry(title);
  expect(again.role).toBe('menu item');
  await click(again.box);
  expect((await inState(id, 'running')).pids.length).toBeGreaterThan(1);
  await eventually('its window', () => opened[0]);
  expect(opened).toEqual([{ kind: 'screen', workload: id }]);
  expect(notices).toEqual([]);
  await window.call('workload.end', id);
  await inState(id, 'ended');
}, 60_000);

it('says what failed and marks the icon, until a window is opened', async () => {
  const folder = await mkdtemp('/var/tmp/torpor-tray-');
  try {
    await writeFile(join(folder, 'needed'), 'by the application');
    const command = `exec tail -f ${folder}/needed`;
    const id = await window.call('command.run', command, { terminal: false });
    const { title } = await inState(id, 'running');
    await window.call('workload.suspend', id, { keepRunning: false });
    await inState(id, 'suspended');
    await rm(join(folder, 'needed'));

    await openMenu();
    await click((await entry(title)).box);
    await eventually('the failure', () => notices[0], 15_000);
    expect(notices).toEqual([
      {
        level: 'error',
        message: expect.stringContaining(`${folder}/needed`),
        hint: expect.stringContaining('Put it back'),
      },
    ]);
    await eventually('a red mark', async () => (await redPixels()) > 10 || undefined);
    expect((await inState(id, 'suspended')).snapshots).toBe(1);

    await openMenu();
    await click((await entry('Open Torpor')).box);
    await eventually('no red mark', async () => (await redPixels()) === 0 || undefined);
    expect(opened.at(-1)).toEqual({ kind: 'home' });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 60_000);

/** Of the panel that are as red as the mark. */
async function redPixels(): Promise<number> {
  const { rgb, width } = await screen.capture();
  let count = 0;
  for (let at = 0; at < width * 30 * 3; at += 3) {
    if ((rgb[at] ?? 0) > 190 && (rgb[at + 1] ?? 0) < 70 && (rgb[at + 2] ?? 0) < 90) count++;
  }
  return count;
}
