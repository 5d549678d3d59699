/** Where an engine keeps its state and where it is reached, from `TORPOR_STATE_DIR` alone. */
import { createHash } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

export const defaultStateDir = '/var/lib/torpor';
const runRoot = '/run/torpor';

export interface EnginePaths {
  readonly stateDir: string;
  /** Sockets and whatever else is gone after a reboot. */
  readonly runDir: string;
  /** Tells apart the cgroups of engines that run side by side. */
  readonly tag: string;
  /** {@link EngineAddress} as JSON, written once the engine answers. */
  readonly addressFile: string;
  readonly busSocket: string;
}

export interface EngineAddress {
  pid: number;
  address: string;
  version: string;
}

/** The real path, also of what does not exist yet. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(realPath(parent), basename(path));
  }
}

/** The paths of the engine for this state folder, by default that of the environment. */
export function enginePaths(stateDir = process.env.TORPOR_STATE_DIR || defaultStateDir): EnginePaths {
  const real = realPath(resolve(stateDir));
  const isDefault = real === realPath(defaultStateDir);
  const tag = isDefault ? 'default' : createHash('sha256').update(real).digest('hex').slice(0, 12);
  const runDir = isDefault ? runRoot : join(runRoot, 'engines', tag);
  return {
    stateDir: real,
    runDir,
    tag,
    addressFile: join(runDir, 'engine.json'),
    busSocket: join(runDir, 'bus'),
  };
}

const systemBusSocket = '/run/dbus/system_bus_socket';

/** The address of the system bus, where the environment or its socket says that there is one. */
export function systemBusAddress(): string | undefined {
  const given = process.env.DBUS_SYSTEM_BUS_ADDRESS;
  if (given) return given;
  return existsSync(systemBusSocket) ? `unix:path=${systemBusSocket}` : undefined;
}

/** The socket of a capsule's session bus, in its run folder. Inside, that folder is /run/torpor. */
export function capsuleBus(runFolder: string): string {
  return join(runFolder, 'bus', 'session');
}

/** A file beside it: the bridge has been there, so that a name which is not on the bus now is not to be had. */
export const bridgedMark = 'bridged';
