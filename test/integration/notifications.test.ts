/** Notifications, with a real notification daemon on a session bus and an X server of the test's own. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Notifications } from '../../main/desktop/notifications.ts';

const run = promisify(execFile);
const daemon = '/usr/bin/dunst';
let folder: string;
let address: string;
const children: ChildProcess[] = [];

/** Ended with the test, the last started first. */
function start(program: string, args: string[], env: NodeJS.ProcessEnv = process.env): ChildProcess {
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'ignore'] });
  children.push(child);
  return child;
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('it has no output');
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error('it said nothing');
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-notify-'));
  const config = join(folder, 'bus.conf');
  // Without the machine's service folders, so that nothing is started that the test did not start.
  await writeFile(
    config,
    `<busconfig><type>session</type><listen>unix:path=${folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
  );
  address = await firstLine(start('dbus-daemon', ['--nofork', '--print-address', `--config-file=${config}`]));
});
afterEach(async () => {
  for (const child of children.splice(0).reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill();
    await ended;
  }
  await rm(folder, { recursive: true, force: true });
});

const notice = {
  level: 'warning',
  message: 'GIMP could not be suspended.',
  hint: 'Close <i>a & b</i>.png.',
} as const;

it('are not shown where there is no bus, or nobody on it who shows them', async () => {
  expect(await Notifications.open('')).toBeUndefined();
  expect(await Notifications.open(`unix:path=${folder}/none`)).toBeUndefined();
  await using notifications = await Notifications.open(address);
  expect(await notifications?.show(notice)).toBe(false);
});

it('are shown with their sentence and hint, and a click on one acts once', async () => {
  expect(existsSync(daemon), `${daemon} is needed: apt-get install dunst`).toBe(true);
  const x = spawn('Xvfb', ['-displayfd', '1', '-screen', '0', '640x480x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  children.push(x);
  const display = `:${await firstLine(x)}`;
  const env = { ...process.env, DISPLAY: display, DBUS_SESSION_BUS_ADDRESS: address, HOME: folder };
  start(daemon, [], env);
  await using notifications = await Notifications.open(address);
  let clicks = 0;
  await vi.waitFor(async () => expect(await notifications?.show(notice, () => clicks++)).toBe(true), {
    timeout: 15_000,
    interval: 200,
  });
  const count = async () => (await run('dunstctl', ['count', 'displayed'], { env })).stdout.trim();
  await vi.waitFor(async () => expect(await count()).toBe('1'), { timeout: 5000 });
  await run('dunstctl', ['action', '0'], { env });
  await vi.waitFor(() => expect(clicks).toBe(1), { timeout: 5000 });
  await run('dunstctl', ['close-all'], { env });
  await vi.waitFor(async () => expect(await count()).toBe('0'), { timeout: 5000 });
  const { stdout } = await run('dunstctl', ['history'], { env });
  expect(stdout).toContain(notice.message);
  // As the daemon keeps it: markup that stands for the very characters, not for italics.
  expect(stdout).toContain('Close &lt;i&gt;a &amp; b&lt;/i&gt;.png.');
  expect(clicks).toBe(1);
});
