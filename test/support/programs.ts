/** Programs that a test has started. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** As long as a program that was asked to end may take. */
const patienceMs = 15_000;

/**
 * Ends one, and waits until it has; one that is not there any more is fine. What does not heed the signal is killed, so that
 * nothing stays behind for the tests that come next.
 */
export async function end(
  child: ChildProcess | undefined,
  signal: NodeJS.Signals = 'SIGKILL',
): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  const killing = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  await exited;
  clearTimeout(killing);
}
