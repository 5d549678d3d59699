/** The bridge through real suspends and resumes of a capsule, with real services of a desktop outside. */
import { execFile } from 'node:child_process';
import { chownSync, existsSync, mkdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Finding } from '../../api/types.ts';
import {
  askClient,
  askInside,
  Desktop,
  runLoginManager,
  runScreenSaver,
  signalsOf,
} from '../support/buses.ts';
import { TestEngine } from '../support/engine.ts';

const run = promisify(execFile);
const saverName = 'org.freedesktop.ScreenSaver';
const patience = { timeout: 30_000, interval: 100 };
const client = new URL('../fixtures/desktop_client.py', import.meta.url).pathname;
let desktop: Desktop;
let outside: Awaited<ReturnType<Desktop['startBus']>>;
let engine: TestEngine;
let login: Awaited<ReturnType<typeof runLoginManager>>;
/** Seen also from inside, unlike /tmp. */
let folder: string;

beforeEach(async () => {
  desktop = await Desktop.create();
  outside = await desktop.startBus('outside');
  folder = await mkdtemp('/var/tmp/torpor-bridge-');
  const { address: system } = await desktop.startBus('system');
  engine = await TestEngine.create({
    env: { DBUS_SESSION_BUS_ADDRESS: outside.address, DBUS_SYSTEM_BUS_ADDRESS: system },
  });
  login = await runLoginManager(system);
});
afterEach(async () => {
  await login?.stop();
  await engine?.[Symbol.asyncDispose]();
  await desktop?.[Symbol.asyncDispose]();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

const heard = () => readFile(join(folder, 'heard'), 'utf8').catch(() => '');

async function startClient(): Promise<void> {
  await engine.start(['/usr/bin/python3', client, join(folder, 'heard')], '--name', 'client');
  await vi.waitFor(async () => expect(await heard()).toContain('started'), patience);
}

const ask = (member: string, ...args: string[]) => askClient(engine, member, ...args);

/** Whether a name has an owner inside. */
async function isOwned(name: string): Promise<boolean> {
  const call = ['/', 'org.freedesktop.DBus.NameHasOwner', `string:${name}`];
  return (await askInside(engine, 'org.freedesktop.DBus', ...call)).includes('true');
}

it('a name, match rules and an inhibitor come back, also where the bus outside has been another meanwhile', async () => {
  let saver = await runScreenSaver(desktop, outside.address);
  await startClient();
  await vi.waitFor(async () => expect(await isOwned('org.freedesktop.ScreenSaver')).toBe(true), patience);
  const cookie = await ask('Inhibit');
  expect(Number(cookie)).toBeGreaterThan(0);
  expect(saver.inhibitions.size).toBe(1);
  saver.activate();
  await vi.waitFor(async () => expect(await heard()).toContain('active 1'), patience);

  await engine.json('suspend', 'client');
  expect(saver.inhibitions.size).toBe(0);
  await desktop.stop(outside.daemon);
  outside = await desktop.startBus('outside');
  saver = await runScreenSaver(desktop, outside.address);
  const { findings } = await engine.json<{ findings: Finding[] }>('resume', 'client');
  expect(findings.filter(({ by }) => by === 'io.github.torpor.Bridge')).toEqual([]);

  expect(await isOwned('org.example.Client')).toBe(true);
  await vi.waitFor(() => expect(saver.inhibitions.size).toBe(1), patience);
  expect([...saver.inhibitions.values()]).toMatchObject([{ application: 'client', reason: 'it works' }]);
  const before = (await heard()).split('active').length;
  await vi.waitFor(async () => {
    saver.activate();
    expect((await heard()).split('active').length).toBeGreaterThan(before);
  }, patience);
  await ask('UnInhibit');
  expect(saver.inhibitions.size).toBe(0);
  expect((await heard()).match(/^owner .*:/gm)?.length).toBeGreaterThanOrEqual(2);
});

it('what is sent by libnotify is shown outside, closed for a suspend, and the application hears of it', async () => {
  for (const program of ['dunst', 'notify-send'])
    expect(
      existsSync(`/usr/bin/${program}`),
      `${program} is needed: apt-get install dunst libnotify-bin`,
    ).toBe(true);
  const env = {
    ...process.env,
    DISPLAY: await desktop.startDisplay(),
    DBUS_SESSION_BUS_ADDRESS: outside.address,
    HOME: desktop.folder,
  };
  desktop.start('/usr/bin/dunst', [], env);
  const shown = async () => Number((await run('dunstctl', ['count', 'displayed'], { env })).stdout);
  await startClient();
  await vi.waitFor(async () => expect(await isOwned('org.freedesktop.Notifications')).toBe(true), patience);
  const first = await ask('Notify', 'string:first');
  await vi.waitFor(async () => expect(await shown()).toBe(1), patience);
  await run('dunstctl', ['action', '0'], { env });
  await vi.waitFor(async () => expect(await heard()).toContain(`action ${first} default`), patience);
  await engine.run(['exec', 'client', '--', 'notify-send', '-t', '0', 'from inside', 'a body']);
  const third = await ask('Notify', 'string:third');
  await vi.waitFor(async () => expect(await shown()).toBeGreaterThanOrEqual(2), patience);

  await engine.json('suspend', 'client');
  expect(await shown()).toBe(0);
  expect(await heard()).not.toContain(`closed ${third}`);
  await engine.json('resume', 'client');
  await vi.waitFor(async () => expect(await heard()).toContain(`closed ${third} 3`), patience);
  const { stdout } = await run('dunstctl', ['history'], { env });
  expect(stdout).toContain('from inside');
  await ask('Notify', 'string:fourth');
  await vi.waitFor(async () => expect(await shown()).toBe(1), patience);
});

it('an application that was left running has all of it again', async () => {
  const saver = await runScreenSaver(desktop, outside.address);
  const seen = await signalsOf(
    await desktop.connect(outside.address),
    "type='signal',member='NameOwnerChanged'",
  );
  await startClient();
  await vi.waitFor(async () => expect(await isOwned('org.freedesktop.ScreenSaver')).toBe(true), patience);
  await ask('Inhibit');
  const before = seen.length;
  await engine.json('suspend', 'client', '--leave-running');
  await vi.waitFor(() => expect(saver.inhibitions.size).toBe(1), patience);
  // It was away: its connection outside is another.
  expect(seen.length).toBeGreaterThan(before);
});

it("a log-in manager's inhibitor, which a descriptor holds, is released and taken again", async () => {
  await startClient();
  await vi.waitFor(async () => expect(await isOwned('org.freedesktop.login1')).toBe(true), patience);
  await ask('Block');
  expect([...login.inhibitions]).toEqual(['sleep client it works block']);
  for (let round = 0; round < 2; round++) {
    await engine.json('suspend', 'client');
    await vi.waitFor(() => expect(login.inhibitions.size).toBe(0), patience);
    await engine.json('resume', 'client');
    expect([...login.inhibitions]).toEqual(['sleep client it works block']);
  }
  await ask('Unblock');
  await vi.waitFor(() => expect(login.inhibitions.size).toBe(0), patience);
});

it('what the application has in the clipboard is there after a resume', async () => {
  const text = 'from inside: ä € 日本';
  // It stays to give out what it has, as owners of a selection do.
  const owner = `printf '%s' '${text}' | xclip -selection clipboard; exec sleep 1000`;
  await engine.start(['xterm', '-e', 'sh', '-c', owner], '--name', 'client');
  const pasted = async () =>
    (await engine.run(['exec', 'client', '--', 'timeout', '5', 'xclip', '-selection', 'clipboard', '-o']))
      .stdout;
  await vi.waitFor(async () => expect(await pasted()).toBe(text), patience);
  await engine.json('suspend', 'client');
  await engine.json('resume', 'client');
  expect(await pasted()).toBe(text);
});

it('what an application asks for at its very start is answered', async () => {
  const saver = await runScreenSaver(desktop, outside.address);
  const ask = `dbus-send --session --print-reply --dest=${saverName} /org/freedesktop/ScreenSaver ${saverName}.Inhibit`;
  await engine.start(['sh', '-c', `${ask} string:early string:first; exec xterm`], '--name', 'client');
  await vi.waitFor(() => expect(saver.asked).toBe(1), patience);
  // What is not to be had outside is refused, and nobody is kept waiting for it until the call has lasted too long.
  const args = ['--session', '--print-reply', '--dest=org.freedesktop.secrets', '/', 'org.example.Ask'];
  const { code, stderr } = await engine.run(['exec', 'client', '--', 'dbus-send', ...args]);
  expect(code).not.toBe(0);
  expect(stderr).toContain('org.freedesktop.DBus.Error.Spawn.ChildExited');
});

it('serves a user who is not root, and says what it takes care of', async () => {
  const nobody = { uid: 65534, gid: 65534 };
  const home = join(desktop.folder, 'home');
  mkdirSync(home);
  for (const each of [desktop.folder, home]) chownSync(each, nobody.uid, nobody.gid);
  const address = `unix:path=${home}/bus`;
  const env = { DBUS_SESSION_BUS_ADDRESS: address, HOME: home, XDG_RUNTIME_DIR: home };
  const own = { env: { ...process.env, ...env, DISPLAY: await desktop.startDisplay() }, ...nobody };
  desktop.start('dbus-daemon', ['--session', '--nofork', `--address=${address}`], own.env, nobody);
  await vi.waitFor(() => expect(existsSync(`${home}/bus`)).toBe(true), patience);
  desktop.start('/usr/bin/dunst', [], own.env, nobody);
  const shown = async () => Number((await run('dunstctl', ['count', 'displayed'], own)).stdout);
  await vi.waitFor(async () => expect(await shown()).toBe(0), patience);

  // The engine is there: only root may start it.
  await engine.json('doctor');
  const torpor = async (...args: string[]) => {
    const { code, stdout, stderr } = await engine.run(args, { uid: nobody.uid, env });
    expect(code, stderr).toBe(0);
    return stdout;
  };
  const send = () => torpor('exec', 'client', '--', 'notify-send', '-t', '0', 'from inside');
  await torpor('run', '--name', 'client', '--', 'xterm', '-e', 'sleep', '1000');
  await send();
  await vi.waitFor(async () => expect(await shown()).toBe(1), patience);
  const findings = await torpor('inspect', 'client');
  expect(findings).toContain('handled (by io.github.torpor.Bridge): It shows a notification.');
  await torpor('suspend', 'client');
  expect(await shown()).toBe(0);
  await torpor('resume', 'client');
  await send();
  await vi.waitFor(async () => expect(await shown()).toBe(1), patience);
});
