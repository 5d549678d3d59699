/** Programs that a test has started. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** Ends one, and waits until it has; one that is not there any more is fine. */
export async function end(
  child: ChildProcess | undefined,
  signal: NodeJS.Signals = 'SIGKILL',
): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}
