/**
 * The plugin io.github.torpor.Bridge: passes on, between the bus of each of its user's capsules and the user's own buses,
 * what an application needs of the desktop, and keeps it over a suspend. It runs as its user, as long as one of their
 * workloads does.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { connectEngine } from '../../api/client.ts';
import { sentenceOf } from '../../api/errors.ts';
import type { Workload } from '../../api/types.ts';
import { servePlugin } from '../plugin.ts';
import { Bridge } from './bridge.ts';

const name = 'io.github.torpor.Bridge';
const systemSocket = '/run/dbus/system_bus_socket';
const settingsSchema = z.object({ resumePlayers: z.boolean().default(false) });

function sessionAddress(): string | undefined {
  const { DBUS_SESSION_BUS_ADDRESS: given, XDG_RUNTIME_DIR: runtime = '' } = process.env;
  if (given) return given;
  const usual = join(runtime, 'bus');
  return runtime !== '' && existsSync(usual) ? `unix:path=${usual}` : undefined;
}

function systemAddress(): string | undefined {
  const given = process.env.DBUS_SYSTEM_BUS_ADDRESS;
  if (given) return given;
  return existsSync(systemSocket) ? `unix:path=${systemSocket}` : undefined;
}

/** Capsules have a /run of their own. */
function keepIn(): string | undefined {
  const runtime = process.env.XDG_RUNTIME_DIR;
  return runtime ? join(runtime, 'torpor', 'bridge') : undefined;
}

/** The user's own settings; what is missing or broken is as if nothing was set. */
async function resumesPlayers(): Promise<boolean> {
  const folder = process.env.XDG_CONFIG_HOME || join(userInfo().homedir, '.config');
  const text = await readFile(join(folder, 'torpor', 'bridge.json'), 'utf8').catch(() => '{}');
  try {
    return settingsSchema.parse(JSON.parse(text)).resumePlayers;
  } catch {
    return false;
  }
}

async function main(): Promise<void> {
  const address = process.env.TORPOR_BUS_ADDRESS;
  if (!address) throw new Error('TORPOR_BUS_ADDRESS is not set: the engine starts this program');
  const [session, system] = [sessionAddress(), systemAddress()];
  const addresses = { ...(session && { session }), ...(system && { system }) };
  const engine = await connectEngine(address);
  const pidsOf = async (id: string) => (await engine.get(id)).pids;
  const folder = keepIn();
  const bridge = new Bridge({ addresses, resumesPlayers, pidsOf, ...(folder && { keepIn: folder }) });
  // Root is told of everybody's workloads, and is here for its own.
  const own = userInfo().username;
  const follow = (workload: Workload) => {
    if (workload.user === own) bridge.follow(workload);
  };
  engine.on('workloadChanged', follow);
  engine.on('workloadForgotten', (id) => bridge.forget(id));
  await engine.subscribe();
  await servePlugin(name, bridge, { address, end: () => bridge.end() });
  for (const workload of await engine.list()) follow(workload);
}

main().catch((error: unknown) => {
  process.stderr.write(`${sentenceOf(error)}\n`);
  process.exit(1);
});
