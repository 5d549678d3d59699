/** A program that uses a message bus by GDBus, with the system bus and with a session bus, each started anew while it is suspended. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Finding, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { SystemServices } from '../support/login-manager.ts';
import { end } from '../support/programs.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);
/** The system's, which has the bindings of GLib. */
const python = '/usr/bin/python3';
const fixture = new URL('../fixtures/gdbus_client.py', import.meta.url).pathname;
const name = 'io.github.torpor.Test';
const nobody = 65_534;

const soon = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 30_000, interval: 50 });

let services: SystemServices;
let folder: string;
const ended: ChildProcess[] = [];

beforeAll(async () => {
  services = await SystemServices.create();
});
afterAll(() => services[Symbol.asyncDispose]());
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-gdbus-');
  await chmod(folder, 0o777);
});
afterEach(async () => {
  for (const child of ended.splice(0)) await end(child);
  await rm(folder, { recursive: true, force: true });
});

interface Bus {
  which: 'system' | 'session';
  words: string;
  /** Who uses it. */
  uid: number;
  env: () => NodeJS.ProcessEnv;
  start: () => Promise<void>;
  stop: () => Promise<void>;
}

const systemBus: Bus = {
  which: 'system',
  words: 'the system bus',
  uid: nobody,
  env: () => process.env,
  // It is there from the beginning.
  start: async () => {},
  stop: async () => {
    await services.endBus();
    await services.startBus();
  },
};

let sessionDaemon: ChildProcess | undefined;
const address = () => `unix:path=${join(folder, 'bus')}`;
const startSession = async () => {
  await rm(join(folder, 'bus'), { force: true });
  const args = ['--session', '--nofork', `--address=${address()}`];
  sessionDaemon = spawn('dbus-daemon', args, { stdio: 'ignore', cwd: '/' });
  ended.push(sessionDaemon);
  await soon(async () => expect(existsSync(join(folder, 'bus'))).toBe(true));
};
const sessionBus: Bus = {
  which: 'session',
  words: 'the session bus',
  uid: 0,
  env: () => ({ ...process.env, DBUS_SESSION_BUS_ADDRESS: address() }),
  start: startSession,
  stop: async () => {
    if (sessionDaemon !== undefined) await end(sessionDaemon);
    await startSession();
  },
};

const heard = (where = folder) => readFile(join(where, 'heard'), 'utf8').catch(() => '');

async function startClient({ which, uid, env }: Bus, own = name, where = folder): Promise<ChildProcess> {
  const client = await services.startJob([python, fixture, where, own, which], uid, env());
  ended.push(client);
  await soon(async () => expect(await heard(where)).toContain('owned'));
  return client;
}

async function gdbus({ which, env }: Bus, verb: string, ...args: string[]): Promise<string> {
  const [first = '', ...rest] = [...services.prefix, 'gdbus', verb, `--${which}`, ...args];
  return (await run(first, rest, { env: env() })).stdout.trim();
}

const call = (bus: Bus, method: string, ...args: string[]) =>
  gdbus(bus, 'call', ...['-d', name, '-o', '/client', '-m', `${name}.${method}`], ...args);

/** Somebody is on a bus that was just started, so that whoever comes next has another unique name than on the last one. */
async function takeFirstName(bus: Bus): Promise<void> {
  const { which, uid, env } = bus;
  ended.push(await services.start(['gdbus', 'monitor', `--${which}`, '-d', name], uid, env()));
  const target = ['-d', 'org.freedesktop.DBus', '-o', '/org/freedesktop/DBus'];
  await soon(async () =>
    expect(await gdbus(bus, 'call', ...target, '-m', 'org.freedesktop.DBus.NameHasOwner', ':1.0')).toContain(
      'true',
    ),
  );
}

async function expectWhole(bus: Bus, mark: string, unique: string): Promise<void> {
  expect(await call(bus, 'Echo', mark)).toBe(`('${mark}',)`);
  expect(await call(bus, 'WhoAmI')).toBe(`('${unique}', '${unique}')`);
  expect(await call(bus, 'Ask', mark)).toBe(`('${mark}',)`);
  await gdbus(bus, 'emit', ...['-o', '/elsewhere', '-s', `${name}.Tick`], mark);
  await soon(async () => expect(await heard()).toContain(`tick ${mark}\n`));
}

describe.runIf(canCheckpoint).each([systemBus, sessionBus])('a job with GDBus on the $which bus', (bus) => {
  let engine: TestEngine;
  beforeAll(async () => {
    engine = await TestEngine.create({ prefix: services.prefix });
  });
  afterAll(() => engine[Symbol.asyncDispose]());

  it('comes back with its name, its signals and its proxies to a bus that was started anew, twice', async () => {
    await bus.start();
    const elsewhere = join(folder, 'server');
    await mkdir(elsewhere);
    await chmod(elsewhere, 0o777);
    await startClient(bus, `${name}.Server`, elsewhere);
    const client = await startClient(bus);
    const [, unique = ''] = /\('(.*)', /.exec(await call(bus, 'WhoAmI')) ?? [];
    await expectWhole(bus, 'before', unique);
    let target = String(client.pid);
    try {
      for (const mark of ['after', 'once more']) {
        const done = await engine.json<Snapshot & { findings: Finding[] }>('suspend', target);
        target = done.workload;
        expect(done.findings.filter(({ tie }) => tie === 'unix-socket')).toMatchObject([
          { verdict: 'degraded', by: 'engine', what: expect.stringContaining(`talks to ${bus.words} (`) },
        ]);
        await bus.stop();
        await takeFirstName(bus);
        await rm(join(elsewhere, 'heard'));
        await startClient(bus, `${name}.Server`, elsewhere);
        const { findings } = await engine.json<Workload & { findings: Finding[] }>('resume', target);
        expect(findings.filter(({ tie }) => tie === 'unix-socket')).toEqual([]);
        await expectWhole(bus, mark, unique);
      }
      const all = await heard();
      expect(all).not.toMatch(/^(lost|closed)$/m);
      // It was told that the server, which was the first on its bus, has gone and another one come.
      const [first, gone, second] = all.match(/^server .*$/gm) ?? [];
      expect(gone).toBe('server ');
      expect(second).toMatch(/^server :/);
      expect(second).not.toBe(first);
    } finally {
      await engine.run(['end', target]);
    }
  });
});
