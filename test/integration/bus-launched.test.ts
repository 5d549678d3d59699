/**
 * Applications that are started by the session bus: the command only asks for them and ends, as that of gnome-terminal
 * does, and all that is seen lives in a process that is none of its own.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import type { CapsuleWindow, Workload } from '../../api/types.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { waitForChange, waitForStableScreen } from '../support/screen.ts';

const patient = { timeout: 20_000, interval: 200 };

const name = 'org.xfce.mousepad';

let engine: TestEngine;
let home: string;
beforeAll(async () => {
  engine = await TestEngine.create();
  home = await mkdtemp('/var/tmp/torpor-home-');
  const services = join(home, 'dbus-1/services');
  await mkdir(services, { recursive: true });
  const service = `[D-BUS Service]\nName=${name}\nExec=/usr/bin/mousepad\n`;
  await writeFile(join(services, `${name}.service`), service);
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(home, { recursive: true, force: true });
});

const start = (command: readonly string[]) =>
  engine.start(command, '--env', `XDG_DATA_HOME=${home}`, '--env', `HOME=${home}`);
/** Where the text cursor blinks in an empty text. */
const caret = { x: 0, y: 0, width: 80, height: 80 };

async function keys(screen: string, act: (client: RfbClient) => Promise<void>): Promise<void> {
  await using client = await connectRfb(screen);
  await act(client);
}

const windows = (id: string) => engine.json<CapsuleWindow[]>('windows', id);
const stateOf = async (id: string) =>
  (await engine.json<Workload[]>('ps')).find((each) => each.id === id)?.state;

it('are the workload, also where the command has ended before they have begun, and end it', async () => {
  // Without --print-reply it does not wait for an answer.
  const request = ['org.freedesktop.DBus.StartServiceByName', `string:${name}`, 'uint32:0'];
  const { id } = await start([
    'dbus-send',
    '--type=method_call',
    '--session',
    '--dest=org.freedesktop.DBus',
    '/',
    ...request,
  ]);
  await expect.poll(() => windows(id), patient).toHaveLength(1);
  const { screen = '', pids } = await engine.workload(id);
  await waitForStableScreen(screen, { ignoring: [caret] });
  await engine.json('suspend', id);
  expect(pids.filter(isThere)).toEqual([]);
  await engine.json('resume', id);
  const { screen: again = '' } = await engine.workload(id);
  const before = await waitForStableScreen(again, { ignoring: [caret] });
  await keys(again, (client) => client.type('Unsaved'));
  await waitForChange(again, before);
  await keys(again, (client) => client.press('ctrl+z'));
  await keys(again, (client) => client.press('ctrl+q'));
  await expect.poll(() => stateOf(id), patient).toBe('ended');
});

it('keep no capsule where they have no window', async () => {
  const { id } = await start(['gsettings', 'set', 'org.gnome.calculator', 'accuracy', '8']);
  await expect.poll(() => stateOf(id), patient).toBe('ended');
});
