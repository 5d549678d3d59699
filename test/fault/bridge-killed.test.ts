/** The bridge is killed under a running application, alone and with its engine; the next one goes on with what it held. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { newReply, newSignal } from '../../plugins/bridge/message.ts';
import { askClient, Desktop, runByHand, runLoginManager, runScreenSaver } from '../support/buses.ts';
import { TestEngine } from '../support/engine.ts';

const patience = { timeout: 60_000, interval: 100 };
const notifications = 'org.freedesktop.Notifications';
const fixture = new URL('../fixtures/desktop_client.py', import.meta.url).pathname;
/** Without it the program does not know what to send. */
const introspection = `<node><interface name="${notifications}"><method name="Notify">${[
  ...['s', 'u', 's', 's', 's', 'as', 'a{sv}', 'i'],
]
  .map((type) => `<arg direction="in" type="${type}"/>`)
  .join('')}<arg direction="out" type="u"/></method></interface></node>`;
let desktop: Desktop;
let outside: Awaited<ReturnType<Desktop['startBus']>>;
let login: Awaited<ReturnType<typeof runLoginManager>>;
let engine: TestEngine;
/** Seen also from inside, unlike /tmp. */
let folder: string;

beforeEach(async () => {
  desktop = await Desktop.create();
  outside = await desktop.startBus('outside');
  const { address: system } = await desktop.startBus('system');
  folder = await mkdtemp('/var/tmp/torpor-bridge-');
  engine = await TestEngine.create({
    env: {
      DBUS_SESSION_BUS_ADDRESS: outside.address,
      DBUS_SYSTEM_BUS_ADDRESS: system,
      XDG_RUNTIME_DIR: desktop.folder,
    },
  });
  login = await runLoginManager(system);
});
afterEach(async () => {
  await login?.stop();
  await engine?.[Symbol.asyncDispose]();
  await desktop?.[Symbol.asyncDispose]();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

/** The bridge that this engine has started. */
async function bridgePid(): Promise<number> {
  const address = JSON.parse(await readFile(engine.paths.addressFile, 'utf8')) as { pid: number };
  for (const each of await readdir('/proc')) {
    const status = await readFile(`/proc/${each}/status`, 'utf8').catch(() => '');
    const command = await readFile(`/proc/${each}/cmdline`, 'utf8').catch(() => '');
    if (status.includes(`\nPPid:\t${address.pid}\n`) && /plugins\/bridge/.test(command)) return Number(each);
  }
  throw new Error('no bridge');
}

const ask = (member: string, ...args: string[]) => askClient(engine, member, ...args);

it.each(['the bridge', 'the engine, and the bridge with it,'])(
  'where %s is killed, an application keeps its inhibitors and notifications',
  async (what) => {
    const saver = await runScreenSaver(desktop, outside.address);
    const daemon = await runByHand(outside.address, notifications);
    daemon.bus.onMessage = (message) => {
      if (message.member === 'Notify') daemon.bus.send(newReply(message, 'u', [5]));
      else if (message.member === 'Introspect') daemon.bus.send(newReply(message, 's', [introspection]));
    };
    const log = join(folder, 'heard');
    await engine.start(['/usr/bin/python3', fixture, log], '--name', 'client');
    const heard = () => readFile(log, 'utf8').catch(() => '');
    await vi.waitFor(async () => expect(await heard()).toContain('started'), patience);
    await vi.waitFor(() => ask('Inhibit'), patience);
    await vi.waitFor(() => ask('Block'), patience);
    const number = await vi.waitFor(() => ask('Notify', 'string:a mail'), patience);
    const [{ by: before } = { by: '' }] = [...saver.inhibitions.values()];

    if (what === 'the bridge') process.kill(await bridgePid(), 'SIGKILL');
    else await engine.kill();
    await vi.waitFor(() => expect(saver.inhibitions.size + login.inhibitions.size).toBe(0), patience);
    // The next engine starts the bridge by itself, in a session that is at no usual place.
    if (what !== 'the bridge') await engine.json('ps');
    await vi.waitFor(() => expect(saver.inhibitions.size + login.inhibitions.size).toBe(2), patience);
    expect([...saver.inhibitions.values()]).toMatchObject([{ application: 'client', reason: 'it works' }]);
    expect([...saver.inhibitions.values()][0]?.by).not.toBe(before);
    // It is shown yet, and closed by its user.
    await vi.waitFor(async () => {
      const from = { path: '/org/freedesktop/Notifications', interface: notifications };
      daemon.bus.send(newSignal({ ...from, member: 'NotificationClosed' }, 'uu', [5, 2]));
      expect(await heard()).toContain(`closed ${number} 2`);
    }, patience);
    await vi.waitFor(() => ask('UnInhibit'), patience);
    expect(saver.inhibitions.size).toBe(0);
    await ask('Unblock');
    await vi.waitFor(() => expect(login.inhibitions.size).toBe(0), patience);
    await daemon.stop();
  },
);
