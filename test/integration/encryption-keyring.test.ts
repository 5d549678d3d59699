/** The key of encrypted snapshots in a keyring: that of gnome-keyring, on a session bus of the test's own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { EncryptionStatus } from '../../api/types.ts';
import { Keyring } from '../../cli/secret-service.ts';
import { TestEngine } from '../support/engine.ts';

const passphrase = 'three words more';

let folder: string;
let env: Record<string, string>;
let children: ChildProcess[];
let engine: TestEngine;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-keyring-'));
  await mkdir(join(folder, 'run'), { mode: 0o700 });
  children = [];
  const bus = spawn('dbus-daemon', ['--session', '--nofork', '--print-address'], {
    env: { ...process.env, HOME: folder, XDG_RUNTIME_DIR: join(folder, 'run') },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  children.push(bus);
  const address = await new Promise<string>((resolve) =>
    createInterface({ input: bus.stdout }).once('line', resolve),
  );
  env = { HOME: folder, XDG_RUNTIME_DIR: join(folder, 'run'), DBUS_SESSION_BUS_ADDRESS: address };
  const keyring = spawn('gnome-keyring-daemon', ['--foreground', '--unlock', '--components=secrets'], {
    env: { ...process.env, ...env, XDG_DATA_HOME: join(folder, 'data') },
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  children.push(keyring);
  keyring.stdin.end('the password of the login');
  engine = await TestEngine.create();
});
afterEach(async () => {
  await engine[Symbol.asyncDispose]();
  for (const child of children.reverse()) {
    child.kill('SIGTERM');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  await rm(folder, { recursive: true, force: true });
});

async function encryption(args: readonly string[], input = '', more = env): Promise<EncryptionStatus> {
  const outcome = await engine.run(['encryption', '--json', ...args], { input, env: more });
  if (outcome.code !== 0) throw new Error(`${outcome.stdout}${outcome.stderr}`);
  return JSON.parse(outcome.stdout) as EncryptionStatus;
}

it('unlocks without a passphrase, where the keyring has the key', async () => {
  await expect
    .poll(async () => {
      await using keyring = await Keyring.open(env);
      return await keyring.find();
    })
    .toBeUndefined();
  await encryption(['on'], `${passphrase}\n`);
  expect(await encryption(['keyring'])).toMatchObject({ state: 'unlocked', keyring: true });
  await engine.kill('SIGTERM');
  expect((await encryption(['status'])).state).toBe('locked');
  expect((await encryption(['unlock'])).state).toBe('unlocked');
  // The passphrase goes on being one, and another key takes the place of the first.
  await encryption(['lock']);
  expect((await encryption(['unlock', '--passphrase'], `${passphrase}\n`)).state).toBe('unlocked');
  await encryption(['keyring']);
  await encryption(['lock']);
  expect((await encryption(['unlock'])).state).toBe('unlocked');
  // Where the keyring cannot be reached, the passphrase is asked for.
  await encryption(['lock']);
  const elsewhere = { ...env, DBUS_SESSION_BUS_ADDRESS: `unix:path=${join(folder, 'nothing')}` };
  expect((await encryption(['unlock'], `${passphrase}\n`, elsewhere)).state).toBe('unlocked');
});
