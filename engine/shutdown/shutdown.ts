/**
 * What the machine's power does to workloads: the guard before a shutdown, the battery, and an engine that is stopped because
 * the machine is.
 */
import { closeSync } from 'node:fs';
import type { BusConnection } from '../../api/connection.ts';
import { readProperty } from '../../api/peer.ts';
import { ask } from '../inhibitors/inhibitors.ts';
import type { Logger } from '../log.ts';
import type { Registry } from '../workload/registry.ts';
import { watchBattery } from './battery.ts';
import { writeToConsole } from './console.ts';
import { ShutdownGuard } from './guard.ts';
import type { Policies } from './policies.ts';
import { PowerEventSaver, type SaverParts } from './saver.ts';

export interface ShutdownParts {
  /** On the system bus. */
  connection: BusConnection;
  registry: Registry;
  policies: Policies;
  engine: SaverParts['engine'];
  log: Logger;
}

/** Where nobody waits for it, but for how long the battery lasts. */
const batteryTimeMs = 5 * 60_000;
/** Less than TimeoutStopSec of torpord.service. */
const stopTimeMs = 100_000;
const systemd = {
  name: 'org.freedesktop.systemd1',
  path: '/org/freedesktop/systemd1',
  interface: 'org.freedesktop.systemd1.Manager',
};
const inhibitor = {
  what: 'shutdown',
  who: 'Torpor',
  why: 'Applications are being saved to disk',
  mode: 'delay',
};

export interface Guarded extends AsyncDisposable {
  /** To be awaited when the engine is told to stop, before anything of it ends. */
  beforeEnd(): Promise<void>;
}

export async function guardShutdown(parts: ShutdownParts): Promise<Guarded> {
  const { connection, registry, policies, engine, log } = parts;
  const saver = new PowerEventSaver({ registry, policies, engine, log });
  const guard = new ShutdownGuard({
    connection,
    hasWork: () => saver.hasWork,
    save: (event, deadline) => saver.save(event, deadline),
    cancelled: () => saver.restore(),
    inhibit: async (signal) => {
      const { fd } = await ask(inhibitor, signal);
      return { [Symbol.dispose]: () => closeSync(fd) };
    },
    tell: (line) => writeToConsole(line, log),
    log,
  });
  await guard.start();
  registry.onChange(() => guard.update());
  registry.onForgotten(() => guard.update());
  policies.onChange(() => guard.update());
  policies.follow(() => guard.isTold);
  const battery = await watchBattery(
    connection,
    () => void guard.save('low-battery', Date.now() + batteryTimeMs),
    log,
  );
  return {
    async beforeEnd() {
      const wasAnnounced = await guard.settled();
      // What has taken longer than the log-in manager waits: its applications live until all services have ended.
      await saver.finished;
      // Ctrl+Alt+Delete goes past the log-in manager: systemd stops its services at once.
      const state = await readProperty(connection, systemd, 'SystemState').catch(() => undefined);
      if (!wasAnnounced && state === 'stopping') await guard.save('shutdown', Date.now() + stopTimeMs);
    },
    async [Symbol.asyncDispose]() {
      battery[Symbol.dispose]();
      await guard[Symbol.asyncDispose]();
    },
  };
}
