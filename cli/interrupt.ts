/** Ctrl+C while the engine works for a command: what is under way is given up, instead of going on unseen. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineClient } from '../api/client.ts';
import type { Context } from './context.ts';

/** What it is about may be so new that nobody knows it yet. */
const againMs = 50;
/** 128 and SIGINT, as shells have it. */
const interrupted = 130;

/**
 * Does work on these targets, which the first SIGINT cancels: the work then fails with the sentence that says how things
 * are, unless it was too late and it is done. A second one leaves the engine alone with it.
 */
export async function untilInterrupted<T>(
  context: Context,
  client: EngineClient,
  targets: readonly string[],
  work: () => Promise<T>,
): Promise<T> {
  let isOver = false;
  let isAsked = false;
  const giveUp = async () => {
    while (!isOver) {
      const asked = await Promise.allSettled(targets.map((target) => client.cancel(target)));
      if (asked.some(({ status }) => status === 'fulfilled')) return;
      await sleep(againMs);
    }
  };
  const interrupt = () => {
    if (isAsked) process.exit(interrupted);
    isAsked = true;
    context.note('torpor: giving it up. Press Ctrl+C again to leave that to the engine.');
    void giveUp();
  };
  process.on('SIGINT', interrupt);
  try {
    return await work();
  } finally {
    isOver = true;
    process.off('SIGINT', interrupt);
  }
}
