/**
 * When the engine ends under a command. The engine that is started next knows what has become of the workload, so it
 * is asked: a user must not be left wondering whether an application is gone.
 */
import type { EngineClient } from '../api/client.ts';
import { TorporError } from '../api/errors.ts';
import type { Workload } from '../api/types.ts';
import type { Context } from './context.ts';
import { printable } from './format.ts';

const hint = 'Try again; what the engine was doing when it ended is in log/torpord.log in its state folder.';

/**
 * Whether the engine behind this client has ended: the connection may have gone with it, or the bus still be there and
 * say so.
 */
export async function hasEnded(client: EngineClient): Promise<boolean> {
  try {
    await client.subscribe();
    return false;
  } catch {
    return true;
  }
}

/** The error for a command that waited for an answer when the engine ended. */
export function engineLost(): TorporError {
  return new TorporError(
    'failed',
    'The engine ended before it had answered.',
    '`torpor ps` starts it again and shows what has become of what it was doing.',
  );
}

/**
 * Does work on a workload with the engine.
 * @throws TorporError that says what state the workload is in, where the engine ended meanwhile.
 */
export async function withOutcome<T>(
  context: Context,
  target: string,
  being: 'suspended' | 'resumed',
  work: (client: EngineClient) => Promise<T>,
): Promise<T> {
  const client = await context.engine();
  const startedAt = Date.now();
  try {
    return await work(client);
  } catch (error) {
    if (!(await hasEnded(client))) throw error;
    throw await outcomeOf(context, target, being, startedAt);
  }
}

const isPid = (target: string) => /^\d{1,10}$/.test(target);

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

const runsOn = (pid: string) =>
  new TorporError(
    'failed',
    `The engine ended while process ${pid} was being suspended. It runs on as before.`,
    hint,
    { running: true },
  );

async function outcomeOf(
  context: Context,
  target: string,
  being: 'suspended' | 'resumed',
  startedAt: number,
): Promise<TorporError> {
  try {
    const workloads = await (await context.engine()).list();
    const isMeant = ({ id, name, snapshot }: Workload) =>
      name === target || id.startsWith(target) || snapshot?.startsWith(target);
    // A process that was named by its pid became a job by this, or is none.
    const isNewJob = (workload: Workload) =>
      isPid(target) && workload.kind === 'job' && Date.parse(workload.startedAt) >= startedAt;
    const living = workloads.filter((workload) => workload.state !== 'ended');
    const found = living.find(isMeant) ?? living.find(isNewJob);
    if (found === undefined) return isPid(target) && isThere(Number(target)) ? runsOn(target) : engineLost();
    const { name, state, snapshot } = found;
    const now =
      state === 'running'
        ? `It runs${being === 'suspended' ? ' on as before' : ''}.`
        : `It is suspended in snapshot ${snapshot} and can be resumed.`;
    return new TorporError(
      'failed',
      `The engine ended while ${printable(name)} was being ${being}. ${now}`,
      hint,
      { running: state === 'running', ...(snapshot === undefined ? {} : { snapshot }) },
    );
  } catch {
    // Only root can start another engine.
    return engineLost();
  }
}
