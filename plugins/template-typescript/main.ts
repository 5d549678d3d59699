/**
 * A plugin to begin with: a suspended application gives its seats (see seats.ts) back for others to take, and takes
 * them again when it is resumed. Replace the seats by what your plugin is for, and the name by one of yours.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { sentenceOf } from '../../api/errors.ts';
import { type PluginFinding, type PluginWorkload, pluginVersion } from '../../api/plugin-types.ts';
import { workloadKinds } from '../../api/types.ts';
import { servePlugin } from '../plugin.ts';
import { Seats, seatPattern } from './seats.ts';

const seats = new Seats(join(process.env.XDG_STATE_HOME || join(homedir(), '.local/state'), 'seats'));

/** The state is opaque to the engine. It may come back weeks later, to a newer version of this program: check it. */
function namesIn(state: Uint8Array): string[] {
  const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(state));
  const isName = (name: unknown): name is string => typeof name === 'string' && seatPattern.test(name);
  if (Array.isArray(value) && value.every(isName)) return value;
  throw new Error('the state is no list of seats');
}

/** The engine has no state where PreSuspend did not answer in time, or this program ended in the middle of it. */
async function givenBack(workload: PluginWorkload, state: Uint8Array): Promise<string[]> {
  return state.length > 0 ? namesIn(state) : seats.givenBackBy(workload.id);
}

servePlugin('org.example.SeatsTypescript', {
  async describe() {
    return {
      version: pluginVersion,
      title: 'Seats (TypeScript)',
      // An application that is suspended without it only keeps its seat from others.
      policy: 'optional',
      after: [],
      // It is not to find itself without a seat, not even for a moment.
      beforeItRuns: true,
      kinds: [...workloadKinds],
    };
  },

  // Touches nothing: it is also called by `torpor inspect`, and by suspends that then come to nothing.
  async inspect({ id }) {
    return (await seats.heldBy(id)).map((name) => ({
      tie: 'seat',
      verdict: 'handled',
      what: `It holds the seat ${name}, which others can have while it is suspended.`,
      hint: '',
    }));
  },

  // May come twice, since the engine asks once more where the first answer was an error or got lost.
  async preSuspend({ id }) {
    return Buffer.from(JSON.stringify(await seats.giveBack(id)));
  },

  // The id is another one than at the suspend where the resume makes a copy, which needs a seat of its own.
  async postResume(workload, state) {
    const taken = await seats.take(await givenBack(workload, state), workload.id);
    return taken.map(
      ({ name, by }): PluginFinding => ({
        tie: 'seat',
        verdict: 'degraded',
        what: `Its seat ${name} has been taken by ${by}.`,
        hint: 'It runs without; end the other one and choose a seat anew.',
      }),
    );
  },

  async abort(workload, state) {
    // After a suspend its processes run on, and get the seats back. After a resume nothing of it runs.
    if (workload.pids.length > 0) await seats.take(await givenBack(workload, state), workload.id);
    else await seats.giveBack(workload.id);
  },
}).catch((error: unknown) => {
  process.stderr.write(`${sentenceOf(error)}\n`);
  process.exit(1);
});
