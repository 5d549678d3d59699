/**
 * The sound server of a capsule is connected with the relay of the audio plugin, which lets go of it for a suspend. Where
 * it has not, because the plugin hangs or another one is in its place, the server is told to let go of it.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import { identify, signalProcess } from '../process.ts';
import { holderOf } from '../screen/viewers.ts';

/** Where the relay connects, as the kernel shows its name. */
const socketName = '/run/torpor/sound/relay';
const server = 'torpor-sound';
const cutLimitMs = 3000;

/**
 * Waits until none of these processes is connected with a relay.
 * @throws TorporError `failed` where that takes too long.
 */
export async function cutRelay(pids: readonly number[]): Promise<void> {
  for (const limit = Date.now() + cutLimitMs; ; await sleep(5)) {
    const holder = await holderOf(socketName, pids);
    if (holder === undefined) return;
    const process = await identify(holder);
    const name = (await readFile(`/proc/${holder}/comm`, 'utf8').catch(() => '')).trim();
    if (Date.now() > limit) {
      throw new TorporError(
        'failed',
        `Its sound could not be disconnected: ${name} (process ${holder}) inside of it does not let go.`,
        'Try again. Where that does not help, end that process; a sound server is started anew by itself.',
      );
    }
    if (name !== server || process === undefined) continue;
    await signalProcess(process, 'SIGUSR1');
    // Anything inside may have stopped it.
    await signalProcess(process, 'SIGCONT');
  }
}
