/**
 * The audio plugin, io.github.torpor.Audio: connects the sound servers of a user's capsules with the user's own, and takes
 * them apart for a suspend (docs/decisions/0014-sound.md). It is there as long as a workload of its user runs.
 */
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connectEngine } from '../../api/client.ts';
import type { PluginMethods } from '../../api/plugin1.ts';
import type { Workload } from '../../api/types.ts';
import { servePlugin } from '../plugin.ts';
import { Consents } from './consents.ts';
import { openLog } from './log.ts';
import { askForMicrophone } from './question.ts';
import { type Capsule, capsuleOf, Sound } from './sound.ts';

const name = 'io.github.torpor.Audio';
/** The relay itself needs at most a second and a half, whatever the user's server does. */
const suspendLimitMs = 3000;
const questionLimitMs = 60_000;

/** The socket of the screen lies in a folder beside. */
function runningCapsule(workload: Workload): Capsule | undefined {
  const { kind, state, user, screen, id, name: title, command, application } = workload;
  if (kind !== 'capsule' || state !== 'running' || screen === undefined) return undefined;
  // Root is told of everybody's.
  if (user !== userInfo().username) return undefined;
  return {
    id,
    name: title,
    command,
    application,
    socket: join(dirname(dirname(screen)), 'sound', 'relay'),
  };
}

async function main(): Promise<void> {
  const address = process.env.TORPOR_BUS_ADDRESS;
  if (!address)
    throw new Error('TORPOR_BUS_ADDRESS is not set: this program is started by the engine, torpord.');
  const sound = new Sound({
    program: join(dirname(fileURLToPath(import.meta.url)), 'native', 'torpor-sound-relay'),
    suspendLimitMs,
    consents: new Consents(),
    ask: (application, callOff) => askForMicrophone(application, questionLimitMs, callOff),
    log: openLog(),
  });
  const plugin: PluginMethods = {
    describe: async () => ({
      version: 1,
      title: 'Sound',
      policy: 'optional',
      after: [],
      beforeItRuns: false,
      kinds: ['capsule'],
    }),
    inspect: async ({ id }) => sound.findings(id),
    preSuspend: async ({ id }) =>
      Buffer.from(JSON.stringify({ version: 1, streams: await sound.suspend(id) })),
    postResume: async (workload) => {
      const capsule = capsuleOf(workload);
      if (capsule !== undefined) await sound.resume(capsule);
      return [];
    },
    abort: async (workload) => {
      // Nothing of it runs: a resume has failed, and there will be another.
      if (workload.pids.length === 0) {
        await sound.forget(workload.id);
        return;
      }
      const capsule = capsuleOf(workload);
      if (capsule !== undefined) await sound.resume(capsule);
    },
  };
  const end = () => sound.end();
  await servePlugin(name, plugin, { address, end });
  const engine = await connectEngine(address);
  const follow = (workload: Workload) => {
    const capsule = runningCapsule(workload);
    if (capsule !== undefined) void sound.carry(capsule);
    else if (workload.state === 'suspended' || workload.state === 'ended') void sound.forget(workload.id);
  };
  engine.on('workloadChanged', follow);
  engine.on('workloadForgotten', (id) => void sound.forget(id));
  await engine.subscribe();
  for (const workload of await engine.list()) follow(workload);
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
});
