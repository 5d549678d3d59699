/** Reaching the engine: the one that runs, or a new one where none does and the caller may start it. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Message } from '@jellybrick/dbus-next';
import {
  busName,
  type ClientOptions,
  connectEngine,
  type EngineClient,
  readEngineAddress,
} from './client.ts';
import { BusConnection } from './connection.ts';
import { TorporError } from './errors.ts';
import { type EnginePaths, enginePaths, systemBusAddress } from './paths.ts';

/** Of an engine that lives: one that reads a large store on a slow disk takes its time, and is not to be ended over that. */
const startLimitMs = 120_000;

async function tryConnect(paths: EnginePaths, options?: ClientOptions): Promise<EngineClient | undefined> {
  const address = await readEngineAddress(paths);
  if (address === undefined || !(await hasEngine(address.address))) return undefined;
  return connectEngine(address.address, options).catch(() => undefined);
}

/** Asks a bus itself. */
async function askBus(address: string, member: string, signature: string, body: unknown[]): Promise<unknown> {
  await using connection = await BusConnection.open(address);
  const question = new Message({
    destination: 'org.freedesktop.DBus',
    path: '/org/freedesktop/DBus',
    interface: 'org.freedesktop.DBus',
    member,
    signature,
    body,
  });
  return (await connection.call(question)).body[0];
}

/** Whether an engine is on that bus: the bus outlives a killed engine by a moment and is there before a new one. */
async function hasEngine(address: string): Promise<boolean> {
  return (await askBus(address, 'NameHasOwner', 's', [busName]).catch(() => false)) === true;
}

/** Has the system bus start the engine, as far as a package has been installed that lets it. @returns whether it has. */
async function startByBus(paths: EnginePaths): Promise<boolean> {
  const address = paths.tag === 'default' ? systemBusAddress() : undefined;
  if (address === undefined) return false;
  return askBus(address, 'StartServiceByName', 'su', [busName, 0]).then(
    () => true,
    () => false,
  );
}

/** An engine has its name before it says where it is. */
async function untilThere(paths: EnginePaths, options?: ClientOptions): Promise<EngineClient | undefined> {
  for (const end = Date.now() + startLimitMs; Date.now() < end; await sleep(20)) {
    const client = await tryConnect(paths, options);
    if (client !== undefined) return client;
  }
  return undefined;
}

/** @throws TorporError saying why there is no engine and what to do. */
export async function reachEngine(options?: ClientOptions): Promise<EngineClient> {
  const paths = enginePaths();
  const running = await tryConnect(paths, options);
  if (running !== undefined) return running;
  if (await startByBus(paths)) {
    const started = await untilThere(paths, options);
    if (started !== undefined) return started;
  }
  if (process.getuid?.() !== 0) {
    throw new TorporError(
      'not-permitted',
      'The engine is not running, and only root can start it.',
      'Start it with `sudo torpor doctor`, or install the service.',
    );
  }
  return startEngine(paths, options);
}

async function startEngine(paths: EnginePaths, options?: ClientOptions): Promise<EngineClient> {
  const here = dirname(fileURLToPath(import.meta.url));
  // Beside the bundle that this is in or above it (Electron's), or where it is run from its sources, in the build folder.
  const programs = ['.', '..', '../build'].map((folder) => join(here, folder, 'torpord.mjs'));
  const program = programs.find((path) => existsSync(path));
  if (program === undefined) {
    throw new TorporError(
      'failed',
      `The engine is not built: ${programs[0]} is missing.`,
      'Run `npm start` or `npm test` once.',
    );
  }
  const child = spawn(process.execPath, [program, '--on-demand'], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
    cwd: '/',
    env: {
      ...process.env,
      // A relative one means the caller's folder.
      TORPOR_STATE_DIR: paths.stateDir,
      // CRIU's notifications are received on libuv's threads, which must not run short for files.
      UV_THREADPOOL_SIZE: '64',
      // Electron's own program is Node only when it is told so.
      ELECTRON_RUN_AS_NODE: '1',
    },
  });
  let complaints = '';
  let status: number | null | undefined;
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text;
  });
  child.once('exit', (code) => {
    status = code;
  });
  try {
    const end = Date.now() + startLimitMs;
    while (Date.now() < end) {
      const client = await tryConnect(paths, options);
      if (client !== undefined) return client;
      if (status !== undefined) {
        // Another one may have been quicker.
        const other = await tryConnect(paths, options);
        if (other !== undefined) return other;
        if (!complaints.includes('Another engine works')) break;
      }
      await sleep(20);
    }
    if (status === undefined) child.kill('SIGKILL');
    const reason = complaints.trim().replace(/^torpord: /, '') || 'it did not answer in time.';
    throw new TorporError(
      'failed',
      `The engine did not start: ${reason}`,
      'Its log is log/torpord.log in the state folder.',
    );
  } finally {
    child.stderr.destroy();
    child.unref();
  }
}
