/**
 * The bridge between two real buses where things come at the wrong moment: late answers, many calls at once, programs
 * that leave, services and buses that are not there yet, a bridge that has ended.
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type MessageBus, Variant } from '@jellybrick/dbus-next';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { PluginWorkload } from '../../api/plugin-types.ts';
import { Bridge } from '../../plugins/bridge/bridge.ts';
import { Bus } from '../../plugins/bridge/bus.ts';
import { parseState } from '../../plugins/bridge/carried.ts';
import {
  type Message,
  messageType,
  newCall,
  newReply,
  newSignal,
  noReplyExpected,
  readBody,
} from '../../plugins/bridge/message.ts';
import { SocketLoop } from '../../plugins/bridge/sockets.ts';
import {
  call,
  Desktop,
  hasOwner,
  runByHand,
  runScreenSaver,
  screenSaver,
  signalsOf,
  type Target,
} from '../support/buses.ts';

const run = promisify(execFile);
const patience = { timeout: 20_000, interval: 20 };
const saverName = 'org.freedesktop.ScreenSaver';
const notificationsName = 'org.freedesktop.Notifications';
const portalName = 'org.freedesktop.portal.Desktop';
let desktop: Desktop;
let outside: Awaited<ReturnType<Desktop['startBus']>>;
let inside: Awaited<ReturnType<Desktop['startBus']>>;
let bridge: Bridge;
let app: MessageBus;

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
const makeBridge = () =>
  new Bridge({
    addresses: { session: outside.address },
    resumesPlayers: async () => false,
    pidsOf: async () => [],
    keepIn: `${desktop.folder}/kept`,
  });

beforeEach(async () => {
  desktop = await Desktop.create();
  await run('mkdir', [`${desktop.folder}/bus`]);
  outside = await desktop.startBus('outside', [saverName]);
  inside = await desktop.startBus('bus/session');
  bridge = makeBridge();
  app = await desktop.connect(inside.address);
});
afterEach(async () => {
  await bridge.end();
  await desktop[Symbol.asyncDispose]();
});

const follow = () => bridge.follow({ id: 'a1', kind: 'capsule', state: 'running', bus: inside.socket });
const owned = (name: string) =>
  vi.waitFor(async () => expect(await hasOwner(app, name)).toBe(true), patience);
const notify: Target = {
  destination: notificationsName,
  path: '/org/freedesktop/Notifications',
  interface: notificationsName,
  member: 'Notify',
};
const notification = (text: string) => ['app', 0, '', text, '', [], {}, 0];
const portal = (name: string, member: string): Target => ({
  destination: portalName,
  path: '/org/freedesktop/portal/desktop',
  interface: `org.freedesktop.portal.${name}`,
  member,
});
const inhibit = () => call(app, screenSaver('Inhibit'), 'ss', ['film', 'a film is shown']);

it('keeps to its limits also where all is asked for at once, so that what it has kept can be read again', async () => {
  const daemon = await runByHand(outside.address, notificationsName);
  follow();
  await owned(notificationsName);
  const refusals: string[] = [];
  const calls = Array.from({ length: 60 }, (_, index) =>
    call(app, notify, 'susssasa{sv}i', notification(`mail ${index}`)).catch((error: Error) =>
      refusals.push(error.message),
    ),
  );
  await vi.waitFor(() => expect(daemon.asked.length + refusals.length).toBe(60), patience);
  for (const [index, each] of daemon.asked.entries()) daemon.bus.send(newReply(each, 'u', [index + 1]));
  await Promise.all(calls);
  const suspending = bridge.preSuspend(workload());
  await bridge.postResume(workload(), await suspending);
  expect(refusals).toHaveLength(10);
  expect(refusals[0]).toContain('no more open notifications');
  await daemon.stop();
});

it('takes an inhibitor once where its service has to be started first', async () => {
  const first = await runScreenSaver(desktop, outside.address);
  follow();
  await owned(saverName);
  await inhibit();
  const state = await bridge.preSuspend(workload());
  first.bus.disconnect();
  const resuming = bridge.postResume(workload(), state);
  // The bus starts it for that call, and its name comes before its answer.
  const { bus, asked, stop } = await vi.waitFor(async () => {
    const watcher = await desktop.connect(outside.address);
    expect(await hasOwner(watcher, saverName)).toBe(false);
    return runByHand(outside.address, saverName);
  }, patience);
  await vi.waitFor(() => expect(asked.map(({ member }) => member)).toContain('Inhibit'), patience);
  await owned(saverName);
  await sleep(300);
  expect(asked.map(({ member }) => member)).toEqual(['Inhibit']);
  for (const each of asked.splice(0)) bus.send(newReply(each, 'u', [7]));
  await resuming;
  const state2 = bridge.preSuspend(workload());
  await vi.waitFor(() => expect(asked.map((each) => readBody(each))).toEqual([[7]]), patience);
  for (const each of asked.splice(0)) bus.send(newReply(each));
  expect(parseState(await state2).inhibitors).toHaveLength(1);
  expect(asked).toEqual([]);
  await stop();
});

it('releases an inhibitor that the application has released while it is being taken again', async () => {
  const first = await runByHand(outside.address, saverName);
  follow();
  await owned(saverName);
  const asked = inhibit();
  await vi.waitFor(() => expect(first.asked).toHaveLength(1), patience);
  for (const each of first.asked.splice(0)) first.bus.send(newReply(each, 'u', [1]));
  const [cookie] = await asked;
  await first.stop();
  await vi.waitFor(async () => expect((await bridge.inspect(workload())).length).toBe(1), patience);
  // Another comes and is asked at once. It takes its time.
  const second = await runByHand(outside.address, saverName);
  await vi.waitFor(() => expect(second.asked).toHaveLength(1), patience);
  await owned(saverName);
  const released = call(app, screenSaver('UnInhibit'), 'u', [cookie]);
  await released;
  for (const each of second.asked.splice(0)) second.bus.send(newReply(each, 'u', [2]));
  // What has been released in the meantime is released there.
  await vi.waitFor(() => expect(second.asked.map((each) => readBody(each))).toEqual([[2]]), patience);
  await second.stop();
});

it('keeps nothing of programs that have left before they could be answered', async () => {
  const saver = await runScreenSaver(desktop, outside.address);
  follow();
  await owned(saverName);
  const loop = new SocketLoop();
  for (let count = 0; count < 80; count++) {
    const program = await Bus.open(inside.address, loop);
    program.send({ ...newCall(screenSaver('Inhibit'), 'ss', ['gone', '']), flags: noReplyExpected });
    await program.close();
  }
  await vi.waitFor(inhibit, patience);
  // What they have said may still be on its way.
  await vi.waitFor(
    () => expect([...saver.inhibitions.values()]).toMatchObject([{ application: 'film' }]),
    patience,
  );
  const { inhibitors } = parseState(await bridge.preSuspend(workload()));
  expect(inhibitors).toMatchObject([{ values: ['film', 'a film is shown'] }]);
});

it('forgets an inhibitor whose answer finds nobody any more', async () => {
  const saver = await runByHand(outside.address, saverName);
  follow();
  await owned(saverName);
  const program = await Bus.open(inside.address, new SocketLoop());
  program.send({ ...newCall(screenSaver('Inhibit'), 'ss', ['gone', '']), flags: noReplyExpected });
  await vi.waitFor(() => expect(saver.asked).toHaveLength(1), patience);
  const { name } = program;
  await program.close();
  await vi.waitFor(async () => expect(await hasOwner(app, name)).toBe(false), patience);
  for (const each of saver.asked.splice(0)) saver.bus.send(newReply(each, 'u', [3]));
  await sleep(200);
  expect(await bridge.inspect(workload())).toEqual([]);
  expect(parseState(await bridge.preSuspend(workload())).inhibitors).toEqual([]);
  await saver.stop();
});

it('keeps what is asked for while it leaves, where the application is told that it has it', async () => {
  const saver = await runByHand(outside.address, saverName);
  follow();
  await owned(saverName);
  const asked = inhibit().then(
    () => 'answered',
    () => 'refused',
  );
  await vi.waitFor(() => expect(saver.asked).toHaveLength(1), patience);
  const suspending = bridge.preSuspend(workload());
  await sleep(100);
  for (const each of saver.asked.splice(0)) saver.bus.send(newReply(each, 'u', [4]));
  // It is released.
  await vi.waitFor(() => expect(saver.asked.map((each) => readBody(each))).toEqual([[4]]), patience);
  for (const each of saver.asked.splice(0)) saver.bus.send(newReply(each));
  const { inhibitors } = parseState(await suspending);
  expect(await asked).toBe('answered');
  expect(inhibitors).toMatchObject([{ values: ['film', 'a film is shown'] }]);
  await saver.stop();
});

it('lets go of what the application releases while the bridge leaves', async () => {
  const saver = await runByHand(outside.address, saverName);
  follow();
  await owned(saverName);
  const asked = inhibit();
  await vi.waitFor(() => expect(saver.asked).toHaveLength(1), patience);
  for (const each of saver.asked.splice(0)) saver.bus.send(newReply(each, 'u', [4]));
  const [cookie] = await asked;
  // Sent before the bridge leaves, which may read it when it has begun to.
  const released = call(app, screenSaver('UnInhibit'), 'u', [cookie]).catch(() => []);
  // The bus has passed it on when it answers what was sent after it.
  await call(app, {
    destination: 'org.freedesktop.DBus',
    path: '/org/freedesktop/DBus',
    interface: 'org.freedesktop.DBus',
    member: 'GetId',
  });
  const suspending = bridge.preSuspend(workload());
  await vi.waitFor(() => expect(saver.asked.map((each) => readBody(each))).toEqual([[4]]), patience);
  for (const each of saver.asked.splice(0)) saver.bus.send(newReply(each));
  await released;
  expect(parseState(await suspending).inhibitors).toEqual([]);
  await saver.stop();
});

it('tells after a resume what has ended as soon as that service is there', async () => {
  const first = await runByHand(outside.address, notificationsName);
  follow();
  await owned(notificationsName);
  const heard = await signalsOf(app, "type='signal',member='NotificationClosed'");
  const shown = call(app, notify, 'susssasa{sv}i', notification('a mail'));
  await vi.waitFor(() => expect(first.asked).toHaveLength(1), patience);
  for (const each of first.asked.splice(0)) first.bus.send(newReply(each, 'u', [1]));
  const [number] = await shown;
  const state = await bridge.preSuspend(workload());
  await first.stop();
  await bridge.postResume(workload(), state);
  expect(heard).toEqual([]);
  // Suspended once more before it is: nothing is forgotten.
  await bridge.postResume(workload(), await bridge.preSuspend(workload()));
  const second = await runByHand(outside.address, notificationsName);
  await vi.waitFor(() => expect(heard).toMatchObject([{ body: [number, 3] }]), patience);
  await second.stop();
});

it('takes up again what it held where the bus inside answers late', async () => {
  const saver = await runScreenSaver(desktop, outside.address);
  follow();
  await owned(saverName);
  const [cookie] = await inhibit();
  const state = await bridge.preSuspend(workload());
  process.kill(inside.daemon.pid ?? 0, 'SIGSTOP');
  expect(await bridge.postResume(workload(), state)).toMatchObject([{ verdict: 'degraded' }]);
  process.kill(inside.daemon.pid ?? 0, 'SIGCONT');
  await vi.waitFor(() => expect(saver.inhibitions.size).toBe(1), patience);
  await call(app, screenSaver('UnInhibit'), 'u', [cookie]);
  expect(saver.inhibitions.size).toBe(0);
});

it("a request's answer comes before its response, and nothing of it is left", async () => {
  const service = await runByHand(outside.address, portalName);
  follow();
  await owned(portalName);
  const program = await Bus.open(inside.address, new SocketLoop());
  const heard: Message[] = [];
  program.onMessage = (message) => {
    if (message.member === 'Response') heard.push(message);
  };
  await program.ask('AddMatch', 's', ["type='signal',interface='org.freedesktop.portal.Request'"]);
  for (let round = 0; round < 20; round++) {
    const options = newCall(portal('FileChooser', 'OpenFile'), 'ssa{sv}', ['', 'A file', []]);
    const answered = program.call(options);
    await vi.waitFor(() => expect(service.asked).toHaveLength(1), patience);
    for (const each of service.asked.splice(0)) {
      const path = `/org/freedesktop/portal/desktop/request/${each.sender?.slice(1).replace('.', '_')}/t${round}`;
      const destination = each.sender ?? '';
      service.bus.send(newReply(each, 'o', [path]));
      const to = { destination, path, interface: 'org.freedesktop.portal.Request', member: 'Response' };
      service.bus.send(newSignal(to, 'ua{sv}', [1, []]));
    }
    // Both have come to the bridge before it reads.
    const until = performance.now() + 20;
    while (performance.now() < until);
    const { serial } = await answered;
    await vi.waitFor(() => expect(heard).toHaveLength(1), patience);
    // Both are of one connection.
    expect(heard.splice(0)[0]?.serial).toBeGreaterThan(serial);
  }
  expect(await bridge.inspect(workload())).toEqual([]);
  await program.close();
  await service.stop();
});

it('passes on as many portal notifications as come, and takes back the latest', async () => {
  const service = await runByHand(outside.address, portalName);
  const removed: unknown[] = [];
  service.bus.onMessage = (message) => {
    if (message.type !== messageType.call) return;
    if (message.member === 'RemoveNotification') removed.push(...readBody(message));
    service.bus.send(newReply(message));
  };
  follow();
  await owned(portalName);
  const add = portal('Notification', 'AddNotification');
  for (let count = 0; count < 60; count++)
    await call(app, add, 'sa{sv}', [`n${count}`, { title: new Variant('s', 'a mail') }]);
  const other = await desktop.connect(inside.address);
  await call(other, add, 'sa{sv}', ['n59', { title: new Variant('s', 'another') }]);
  await expect(call(app, add, 'sa{sv}', ['x'.repeat(5000), {}])).rejects.toThrow('longer');
  await bridge.preSuspend(workload());
  expect(removed).toHaveLength(50);
  expect(removed.filter((each) => each === 'n59')).toHaveLength(2);
  expect(removed).not.toContain('n5');
  await service.stop();
});

it('a call ends also where its bus has ended and that is not known yet', async () => {
  const bus = await Bus.open(outside.address, new SocketLoop());
  const pid = outside.daemon.pid ?? 0;
  process.kill(pid, 'SIGKILL');
  // Nothing is read meanwhile: sending is what shows it.
  while (!/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')));
  const ping = newCall(screenSaver('GetActive'));
  expect(await Promise.race([bus.exchange(ping), sleep(10_000, 'waits')])).toBeUndefined();
});

it('is followed by a bridge that goes on, where it takes leave of a running application', async () => {
  const saver = await runScreenSaver(desktop, outside.address);
  const service = await runByHand(outside.address, portalName);
  follow();
  for (const name of [saverName, portalName]) await owned(name);
  const heard = await signalsOf(app, "type='signal',member='Response'");
  const [cookie] = await inhibit();
  const asked = call(app, portal('FileChooser', 'OpenFile'), 'ssa{sv}', ['', 'A file', {}]);
  await vi.waitFor(() => expect(service.asked).toHaveLength(1), patience);
  const path = '/org/freedesktop/portal/desktop/request/other/t1';
  for (const each of service.asked.splice(0)) service.bus.send(newReply(each, 'o', [path]));
  await asked;

  await bridge.end();
  await vi.waitFor(() => expect(heard).toMatchObject([{ path, body: [2, {}] }]), patience);
  expect(saver.inhibitions.size).toBe(0);
  bridge = makeBridge();
  follow();
  await vi.waitFor(() => expect(saver.inhibitions.size).toBe(1), patience);
  await owned(saverName);
  await call(app, screenSaver('UnInhibit'), 'u', [cookie]);
  expect(saver.inhibitions.size).toBe(0);
  expect(heard).toHaveLength(1);

  const kept = `${desktop.folder}/kept/a1.json`;
  expect(existsSync(kept)).toBe(true);
  bridge.forget('a1');
  expect(existsSync(kept)).toBe(false);
  await service.stop();
});
