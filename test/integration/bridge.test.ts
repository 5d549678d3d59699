/**
 * The bridge between two real buses, with real programs on both sides: what is passed on, what is refused, and what
 * becomes of it when the capsule lets go and comes back. The bus of a capsule is one that stays.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type MessageBus, Variant } from '@jellybrick/dbus-next';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { PluginWorkload } from '../../api/plugin-types.ts';
import { Bridge } from '../../plugins/bridge/bridge.ts';
import {
  call,
  Desktop,
  hasOwner,
  runScreenSaver,
  screenSaver,
  signalsOf,
  type Target,
} from '../support/buses.ts';

const run = promisify(execFile);
const patience = { timeout: 20_000, interval: 50 };
let desktop: Desktop;
let outside: Awaited<ReturnType<Desktop['startBus']>>;
let inside: Awaited<ReturnType<Desktop['startBus']>>;
let bridge: Bridge;
let app: MessageBus;
let resumesPlayers = false;

const workload = (): PluginWorkload => ({
  id: 'a1',
  name: 'app',
  kind: 'capsule',
  command: ['app'],
  runFolder: desktop.folder,
  pids: [],
  leaveRunning: false,
  copy: false,
});

beforeEach(async () => {
  desktop = await Desktop.create();
  await run('mkdir', [`${desktop.folder}/bus`]);
  outside = await desktop.startBus('outside');
  inside = await desktop.startBus('bus/session');
  resumesPlayers = false;
  bridge = new Bridge({
    addresses: { session: outside.address },
    resumesPlayers: async () => resumesPlayers,
  });
  app = await desktop.connect(inside.address);
});
afterEach(async () => {
  await bridge.end();
  await desktop[Symbol.asyncDispose]();
});

const follow = () => bridge.follow({ id: 'a1', kind: 'capsule', state: 'running', bus: inside.socket });
const owned = (name: string) =>
  vi.waitFor(async () => expect(await hasOwner(app, name)).toBe(true), patience);

it('releases an inhibitor for a suspend, and takes it again with the number that the application knows', async () => {
  const saver = await runScreenSaver(desktop, outside.address);
  follow();
  await owned('org.freedesktop.ScreenSaver');
  const [cookie] = await call(app, screenSaver('Inhibit'), 'ss', ['film', 'a film is shown']);
  expect([...saver.inhibitions.values()]).toMatchObject([{ application: 'film', reason: 'a film is shown' }]);

  const state = await bridge.preSuspend(workload());
  expect(saver.inhibitions.size).toBe(0);
  expect(await hasOwner(app, 'org.freedesktop.ScreenSaver')).toBe(false);
  expect(await bridge.preSuspend(workload())).toEqual(state);

  expect(await bridge.postResume(workload(), state)).toEqual([]);
  expect([...saver.inhibitions.values()]).toMatchObject([{ application: 'film', reason: 'a film is shown' }]);
  await call(app, screenSaver('UnInhibit'), 'u', [cookie]);
  expect(saver.inhibitions.size).toBe(0);
});

const portal = (name: string, member: string): Target => ({
  destination: 'org.freedesktop.portal.Desktop',
  path: '/org/freedesktop/portal/desktop',
  interface: `org.freedesktop.portal.${name}`,
  member,
});

/** The portals and their dialogs, on a display of the test's own. */
async function startPortals(): Promise<NodeJS.ProcessEnv> {
  const programs = ['xdg-permission-store', 'xdg-desktop-portal-gtk', 'xdg-desktop-portal'];
  for (const program of programs)
    expect(
      existsSync(`/usr/libexec/${program}`),
      `${program} is needed: apt-get install ${program}-gtk`,
    ).toBe(true);
  const env = {
    ...process.env,
    DISPLAY: await desktop.startDisplay(),
    DBUS_SESSION_BUS_ADDRESS: outside.address,
    XDG_CURRENT_DESKTOP: 'GNOME',
    HOME: desktop.folder,
    XDG_RUNTIME_DIR: desktop.folder,
  };
  const names = ['org.freedesktop.impl.portal.PermissionStore', 'org.freedesktop.impl.portal.desktop.gtk'];
  const watcher = await desktop.connect(outside.address);
  for (const [index, program] of programs.entries()) {
    desktop.start(`/usr/libexec/${program}`, [], env);
    const name = names[index] ?? 'org.freedesktop.portal.Desktop';
    await vi.waitFor(async () => expect(await hasOwner(watcher, name)).toBe(true), patience);
  }
  return env;
}

it('passes on a file chooser, with its request under the name that the application knows itself by', async () => {
  const env = await startPortals();
  await writeFile(join(desktop.folder, 'chosen.txt'), 'text');
  follow();
  await owned('org.freedesktop.portal.Desktop');
  const heard = await signalsOf(app, "type='signal',interface='org.freedesktop.portal.Request'");
  const options = { handle_token: new Variant('s', 'token1') };
  const asked = [`x11:123`, 'A file', options];
  const [handle] = await call(app, portal('FileChooser', 'OpenFile'), 'ssa{sv}', asked);
  const sender = (app as unknown as { name: string }).name.slice(1).replaceAll('.', '_');
  expect(handle).toBe(`/org/freedesktop/portal/desktop/request/${sender}/token1`);
  const dialog = await vi.waitFor(
    async () =>
      (await run('xdotool', ['search', '--onlyvisible', '--name', 'A file'], { env })).stdout.trim(),
    patience,
  );
  await run('xdotool', ['windowfocus', dialog], { env });
  await run('xdotool', ['type', '--delay', '50', join(desktop.folder, 'chosen.txt')], { env });
  await run('xdotool', ['key', 'Return'], { env });
  await vi.waitFor(() => expect(heard.length).toBeGreaterThan(0), patience);
  const [answer] = heard;
  expect(answer).toMatchObject({ path: handle, member: 'Response' });
  expect(answer?.body[0]).toBe(0);
  const uris = (answer?.body[1] as Record<string, Variant>).uris?.value;
  expect(uris).toEqual([`file://${desktop.folder}/chosen.txt`]);
});

it('ends a dialog that is open at a suspend, and tells the application after the resume', async () => {
  const env = await startPortals();
  follow();
  await owned('org.freedesktop.portal.Desktop');
  const heard = await signalsOf(app, "type='signal',interface='org.freedesktop.portal.Request'");
  const [handle] = await call(app, portal('FileChooser', 'OpenFile'), 'ssa{sv}', ['', 'A file', {}]);
  const count = async () => {
    const found = run('xdotool', ['search', '--onlyvisible', '--name', 'A file'], { env });
    return (await found.catch(() => ({ stdout: '' }))).stdout.split('\n').filter(Boolean).length;
  };
  await vi.waitFor(async () => expect(await count()).toBe(1), patience);
  const state = await bridge.preSuspend(workload());
  await vi.waitFor(async () => expect(await count()).toBe(0), patience);
  expect(heard).toEqual([]);
  await bridge.postResume(workload(), state);
  await vi.waitFor(() => expect(heard).toMatchObject([{ path: handle, member: 'Response' }]), patience);
  expect(heard[0]?.body[0]).toBe(2);
});
