/** Which bus the engine takes, with real buses. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { connectEngine } from '../../api/client.ts';
import type { BusConnection } from '../../api/connection.ts';
import type { EnginePaths } from '../../api/paths.ts';
import { chooseBus } from '../../engine/bus/choose-bus.ts';
import { BusService, type EngineHandlers } from '../../engine/bus/service.ts';

const policy = new URL('../../packaging/dbus/io.github.torpor.Engine1.conf', import.meta.url).pathname;
const log = pino({ level: 'silent' });

let folder: string;
let bus: ChildProcess | undefined;
const before = process.env.DBUS_SYSTEM_BUS_ADDRESS;

beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-bus-');
  await mkdir(join(folder, 'run'));
});
afterEach(async () => {
  bus?.kill('SIGKILL');
  bus = undefined;
  if (before === undefined) delete process.env.DBUS_SYSTEM_BUS_ADDRESS;
  else process.env.DBUS_SYSTEM_BUS_ADDRESS = before;
  await rm(folder, { recursive: true, force: true });
});

/** A bus as strict as a system bus is: nobody owns or calls anything that no policy allows. */
async function startSystemBus(included: string): Promise<void> {
  const config = join(folder, 'bus.conf');
  await writeFile(
    config,
    `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
    <busconfig><type>system</type><listen>unix:path=${folder}/system</listen><auth>EXTERNAL</auth>
    <policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/></policy>${included}</busconfig>`,
  );
  const daemon = spawn(
    'dbus-daemon',
    ['--nofork', '--nopidfile', `--config-file=${config}`, '--print-address=1'],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );
  bus = daemon;
  await new Promise((resolve) => daemon.stdout.once('data', resolve));
  process.env.DBUS_SYSTEM_BUS_ADDRESS = `unix:path=${folder}/system`;
}

const paths = (tag: string): EnginePaths => ({
  stateDir: join(folder, 'state'),
  runDir: join(folder, 'run'),
  tag,
  addressFile: join(folder, 'run/engine.json'),
  busSocket: join(folder, 'run/bus'),
});

/** Starts a service whose one method says that it was reached. */
const start = async (connection: BusConnection) => {
  const handlers = { list: async () => [] } as unknown as Omit<EngineHandlers, 'subscribe'>;
  await new BusService(connection, handlers, { Version: 'test' }, log).start();
};

it('takes the system bus where its policy lets it', async () => {
  await startSystemBus(`<include>${policy}</include>`);
  await using chosen = await chooseBus(paths('default'), log, start);
  expect(chosen.kind).toBe('system');
  await using client = await connectEngine(chosen.address);
  expect(await client.list()).toEqual([]);
});

it('takes a bus of its own where the system bus does not have it', async () => {
  await startSystemBus('');
  await using chosen = await chooseBus(paths('default'), log, start);
  expect(chosen.kind).toBe('private');
  await using client = await connectEngine(chosen.address);
  expect(await client.list()).toEqual([]);
});

it('leaves the system bus to the default engine', async () => {
  await startSystemBus(`<include>${policy}</include>`);
  await using chosen = await chooseBus(paths('another'), log, start);
  expect(chosen.kind).toBe('private');
});

it('tells a client that the engine has ended, where the bus stays', async () => {
  await startSystemBus(`<include>${policy}</include>`);
  const chosen = await chooseBus(paths('default'), log, start);
  await using client = await connectEngine(chosen.address);
  await using late = await connectEngine(chosen.address);
  let lost = 0;
  client.onLost(() => lost++);
  expect(await client.list()).toEqual([]);
  expect(lost).toBe(0);
  await chosen[Symbol.asyncDispose]();
  await vi.waitFor(() => expect(lost).toBe(1), { timeout: 20_000 });
  // Also one that asks only now; and a new engine changes nothing about it.
  late.onLost(() => lost++);
  await using again = await chooseBus(paths('default'), log, start);
  await vi.waitFor(() => expect(lost).toBe(2), { timeout: 20_000 });
  await using next = await connectEngine(again.address);
  next.onLost(() => lost++);
  expect(await next.list()).toEqual([]);
  expect(lost).toBe(2);
});
