/**
 * The bridge between two real buses, with real programs on both sides: what is passed on, what is refused, and what
 * becomes of it when the capsule lets go and comes back. The bus of a capsule is one that stays.
 */
import { execFile } from 'node:child_process';
import { existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Message, type MessageBus, Variant } from '@jellybrick/dbus-next';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { PluginWorkload } from '../../api/plugin-types.ts';
import { Bridge } from '../../plugins/bridge/bridge.ts';
import { Bus, closeDescriptors } from '../../plugins/bridge/bus.ts';
import { newCall, newReply, readBody } from '../../plugins/bridge/message.ts';
import { SocketLoop } from '../../plugins/bridge/sockets.ts';
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
  pids: [1],
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
    pidsOf: async () => [],
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
    GSETTINGS_BACKEND: 'memory',
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
  // The first completes what was typed, should it come too early.
  await vi.waitFor(
    async () => {
      if (heard.length === 0) await run('xdotool', ['key', 'Return'], { env });
      expect(heard).toMatchObject([{ path: handle, member: 'Response' }]);
    },
    { timeout: 20_000, interval: 500 },
  );
  const [answer, results] = (heard[0]?.body ?? []) as [number, Record<string, Variant>];
  expect(answer).toBe(0);
  const uris = results.uris?.value;
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

it('refuses what is not on its list with a sentence, and more than its limits', async () => {
  const saver = await runScreenSaver(desktop, outside.address);
  follow();
  await owned('org.freedesktop.ScreenSaver');
  const refusal = /Torpor does not pass on .* from inside a capsule/;
  await expect(call(app, screenSaver('Lock'))).rejects.toThrow(refusal);
  await expect(
    call(app, { ...screenSaver('StartUnit'), interface: 'org.freedesktop.systemd1.Manager' }),
  ).rejects.toThrow(refusal);
  const properties = 'org.freedesktop.DBus.Properties';
  const get = { ...screenSaver('Get'), interface: properties };
  await expect(call(app, get, 'ss', ['constructor', 'x'])).rejects.toThrow(refusal);
  await expect(
    call(app, { ...screenSaver('Set'), interface: properties }, 'ssv', [
      'org.freedesktop.ScreenSaver',
      'x',
      new Variant('b', true),
    ]),
  ).rejects.toThrow(refusal);
  await expect(call(app, screenSaver('Inhibit'), 'ss', ['film', 'x'.repeat(2 ** 20)])).rejects.toThrow(
    'larger',
  );
  // What is far larger is not even kept in memory, and what comes after it is understood.
  const far = 'x'.repeat(20 * 2 ** 20);
  await expect(call(app, screenSaver('Inhibit'), 'ss', ['film', far])).rejects.toThrow('larger');
  const cookies: unknown[] = [];
  for (let count = 0; count < 24; count++)
    cookies.push(...(await call(app, screenSaver('Inhibit'), 'ss', ['film', 'x'.repeat(5000)])));
  await expect(call(app, screenSaver('Inhibit'), 'ss', ['film', ''])).rejects.toThrow('no more inhibitors');
  // They cannot be guessed from each other.
  expect(
    new Set(cookies.map((each, index) => Number(each) - Number(cookies[index - 1] ?? 0))).size,
  ).toBeGreaterThan(20);
  expect(saver.inhibitions.size).toBe(24);
  expect((await bridge.preSuspend(workload())).length).toBeLessThan(64 * 1024);
  await vi.waitFor(() => expect(saver.inhibitions.size).toBe(0), patience);
});

it("ends what was a program's own when that leaves, and outlives a restart of the bus outside", async () => {
  let saver = await runScreenSaver(desktop, outside.address);
  follow();
  await owned('org.freedesktop.ScreenSaver');
  const other = await desktop.connect(inside.address);
  await call(app, screenSaver('Inhibit'), 'ss', ['film', 'one']);
  await call(other, screenSaver('Inhibit'), 'ss', ['film', 'two']);
  expect(saver.inhibitions.size).toBe(2);
  other.disconnect();
  await vi.waitFor(
    () => expect([...saver.inhibitions.values()].map(({ reason }) => reason)).toEqual(['one']),
    patience,
  );

  await desktop.stop(outside.daemon);
  await vi.waitFor(
    async () => expect(await hasOwner(app, 'org.freedesktop.ScreenSaver')).toBe(false),
    patience,
  );
  outside = await desktop.startBus('outside');
  saver = await runScreenSaver(desktop, outside.address);
  await vi.waitFor(
    () => expect([...saver.inhibitions.values()].map(({ reason }) => reason)).toEqual(['one']),
    patience,
  );
  await owned('org.freedesktop.ScreenSaver');
});

const mpris = (member: string, name: string): Target => ({
  destination: `org.mpris.MediaPlayer2.${name}`,
  path: '/org/mpris/MediaPlayer2',
  interface: 'org.mpris.MediaPlayer2.Player',
  member,
});

/** A media player on the bus of the capsule, as players are. */
async function runPlayer(name: string): Promise<{ status: () => string }> {
  const bus = await desktop.connect(inside.address);
  let status = 'Playing';
  const own = 'org.mpris.MediaPlayer2.Player';
  bus.addMethodHandler((message) => {
    if (message.path !== '/org/mpris/MediaPlayer2') return false;
    const [, property] = message.body;
    if (message.member === 'Get' && property === 'PlaybackStatus')
      bus.send(Message.newMethodReturn(message, 'v', [new Variant('s', status)]));
    else if (message.interface === own && /^(Play|Pause)$/.test(message.member)) {
      status = message.member === 'Play' ? 'Playing' : 'Paused';
      bus.send(Message.newMethodReturn(message));
      const changed = { PlaybackStatus: new Variant('s', status) };
      const properties = 'org.freedesktop.DBus.Properties';
      const signal = [own, changed, []];
      bus.send(Message.newSignal(message.path, properties, 'PropertiesChanged', 'sa{sv}as', signal));
    } else return false;
    return true;
  });
  await bus.requestName(`org.mpris.MediaPlayer2.${name}`, 0);
  return { status: () => status };
}

it('shows a player outside for the media keys, pauses it for a suspend, and lets it go on where the user says so', async () => {
  follow();
  const player = await runPlayer('film');
  const keys = await desktop.connect(outside.address);
  await vi.waitFor(
    async () => expect(await hasOwner(keys, 'org.mpris.MediaPlayer2.film')).toBe(true),
    patience,
  );
  const heard = await signalsOf(keys, "type='signal',sender='org.mpris.MediaPlayer2.film'");
  await call(keys, mpris('Pause', 'film'));
  expect(player.status()).toBe('Paused');
  await vi.waitFor(() => expect(heard.map(({ member }) => member)).toContain('PropertiesChanged'), patience);
  await call(keys, mpris('Play', 'film'));

  for (const plays of [false, true]) {
    resumesPlayers = plays;
    const state = await bridge.preSuspend(workload());
    expect(player.status()).toBe('Paused');
    expect(await hasOwner(keys, 'org.mpris.MediaPlayer2.film')).toBe(false);
    await bridge.postResume(workload(), state);
    expect(player.status()).toBe(plays ? 'Playing' : 'Paused');
    await vi.waitFor(
      async () => expect(await hasOwner(keys, 'org.mpris.MediaPlayer2.film')).toBe(true),
      patience,
    );
    await call(keys, mpris('Play', 'film'));
  }
  resumesPlayers = false;
  await bridge.abort(workload(), await bridge.preSuspend(workload()));
  expect(player.status()).toBe('Playing');
});

const secrets = (path: string, name: string, member: string): Target => ({
  destination: 'org.freedesktop.secrets',
  path,
  interface: `org.freedesktop.Secret.${name}`,
  member,
});

/** A secret service with one item, whose sessions end with the connection that has opened them, as real ones do. */
async function runSecrets(): Promise<void> {
  const bus = await desktop.connect(outside.address);
  const sessions = new Map<string, string>();
  bus.addMethodHandler((message) => {
    const [first] = message.body;
    if (message.member === 'OpenSession') {
      const path = `/org/freedesktop/secrets/session/s${sessions.size + Math.floor(Math.random() * 1e6)}`;
      sessions.set(path, message.sender);
      bus.send(Message.newMethodReturn(message, 'vo', [new Variant('s', ''), path]));
    } else if (message.member === 'GetSecret' && sessions.get(String(first)) === message.sender)
      bus.send(
        Message.newMethodReturn(message, '(oayays)', [[first, [], Buffer.from('open sesame'), 'text/plain']]),
      );
    else return false;
    return true;
  });
  await bus.requestName('org.freedesktop.secrets', 0);
}

it('gives secrets in a session that the application keeps over a suspend', async () => {
  await runSecrets();
  follow();
  await owned('org.freedesktop.secrets');
  const open = secrets('/org/freedesktop/secrets', 'Service', 'OpenSession');
  const dh = 'dh-ietf1024-sha256-aes128-cbc-pkcs7';
  await expect(call(app, open, 'sv', [dh, new Variant('ay', Buffer.alloc(128))])).rejects.toMatchObject({
    type: 'org.freedesktop.DBus.Error.NotSupported',
  });
  const [, session] = await call(app, open, 'sv', ['plain', new Variant('s', '')]);
  const read = async () => {
    const item = secrets('/org/freedesktop/secrets/collection/login/1', 'Item', 'GetSecret');
    const [[path, , value]] = (await call(app, item, 'o', [session])) as [[string, unknown, Buffer]];
    expect(path).toBe(session);
    return value.toString();
  };
  expect(await read()).toBe('open sesame');
  await bridge.postResume(workload(), await bridge.preSuspend(workload()));
  expect(await read()).toBe('open sesame');
});

it('carries descriptors', async () => {
  const loop = new SocketLoop();
  const service = await Bus.open(outside.address, loop);
  await service.ask('RequestName', 'su', ['org.freedesktop.portal.Desktop', 0]);
  service.onMessage = (message) => {
    const [fd = -1] = message.fds;
    const text = readFileSync(fd, 'utf8');
    closeDescriptors(message);
    const path = `/org/freedesktop/portal/desktop/request/${message.sender?.slice(1).replace('.', '_')}/${text}`;
    service.send(newReply(message, 'o', [path]));
  };
  follow();
  await owned('org.freedesktop.portal.Desktop');
  await writeFile(join(desktop.folder, 'page'), 'printed');
  const program = await Bus.open(inside.address, loop);
  const before = readdirSync('/proc/self/fd').length;
  for (let round = 0; round < 20; round++) {
    const print = newCall(portal('Print', 'Print'), 'ssha{sv}', ['', 'a page', 0, []]);
    print.fds = [openSync(join(desktop.folder, 'page'), 'r')];
    const [handle] = readBody(await program.call(print));
    const own = program.name.slice(1).replace('.', '_');
    expect(handle).toBe(`/org/freedesktop/portal/desktop/request/${own}/printed`);
  }
  // One is the program's connection outside.
  expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 1);
  await program.close();
  await service.close();
});

it('is not led astray by what stands where the bus of a capsule should be', async () => {
  await run('ln', ['-s', outside.socket, `${desktop.folder}/bus/link`]);
  await expect(Bus.openForeign(`${desktop.folder}/bus/link`, new SocketLoop())).rejects.toThrow('no socket');
  const garbage = createServer((socket) => {
    socket.on('error', () => {});
    const garbage = Buffer.from([0x6c, 1, 0, 1, ...Array(100).fill(0xff)]);
    const answers = ['OK 0\r\n', 'AGREE_UNIX_FD\r\n', garbage];
    socket.on('data', () => socket.write(answers.shift() ?? garbage));
  }).listen(`${desktop.folder}/bus/garbage`);
  await expect(Bus.openForeign(`${desktop.folder}/bus/garbage`, new SocketLoop())).rejects.toThrow();
  garbage.close();
});

it('answers every call, also those under way when it leaves, and keeps no descriptor of them', async () => {
  const saver = await runScreenSaver(desktop, outside.address);
  follow();
  await owned('org.freedesktop.ScreenSaver');
  let isOver = false;
  const counts = { answered: 0, failed: 0 };
  // Waits that never end would keep the test from its end.
  const busy = Array.from({ length: 4 }, async () => {
    const program = await desktop.connect(inside.address);
    while (!isOver) {
      const answer = call(program, screenSaver('Inhibit'), 'ss', ['busy', '']);
      await answer
        .then(([cookie]) => call(program, screenSaver('UnInhibit'), 'u', [cookie]))
        .then(() => counts.answered++)
        .catch(async () => {
          counts.failed++;
          await sleep(5);
        });
    }
  });
  await vi.waitFor(() => expect(counts.answered).toBeGreaterThan(20), patience);
  const open = () => readdirSync('/proc/self/fd').length;
  const before = open();
  for (let round = 0; round < 5; round++) {
    const state = await bridge.preSuspend(workload());
    await vi.waitFor(() => expect(saver.inhibitions.size).toBe(0), patience);
    await bridge.postResume(workload(), state);
    const { answered } = counts;
    await vi.waitFor(() => expect(counts.answered).toBeGreaterThan(answered + 10), patience);
  }
  isOver = true;
  await Promise.all(busy);
  expect(counts.failed).toBeGreaterThan(0);
  expect(open()).toBeLessThanOrEqual(before + 2);
});
