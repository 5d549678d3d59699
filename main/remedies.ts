/** What Torpor itself can do, at the press of a button, about what keeps an application from being suspended. */
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../api/errors.ts';
import type { Inspection } from '../api/types.ts';
import type { FindingView } from './ipc/view.ts';
import type { Texts } from './texts/en.ts';

/** A process that saves something at its end may need that long. */
const endLimitMs = 3000;

/**
 * Offers to end the process that has the tie, where it is a helper: neither the capsule's own, of which the first is the
 * top, nor the application itself, which is started by that. Pure.
 */
export function withRemedies(
  { findings, processes }: Pick<Inspection, 'findings' | 'processes'>,
  texts: Texts['remedies'],
): FindingView[] {
  const top = processes[0]?.pid;
  return findings.map((finding) => {
    const holder = processes.find(({ pid }) => pid === finding.pid);
    const isStranger = finding.tie === 'exec' && finding.pid !== undefined;
    const isHelper = holder !== undefined && holder.pid !== top && holder.ppid !== top;
    if (finding.verdict !== 'blocking' || !(isStranger || isHelper)) return finding;
    const name = holder?.name ?? /^(.+?) \(pid/.exec(finding.what)?.[1] ?? String(finding.pid);
    return {
      ...finding,
      remedy: {
        id: 'end-process',
        ...(finding.pid === undefined ? {} : { pid: finding.pid }),
        label: texts.end(name),
      },
    };
  });
}

/** Asks a process of the user's own to end, and waits until it has. @throws TorporError where it may not or does not. */
export async function endProcess(pid: number): Promise<void> {
  try {
    process.kill(pid, 'SIGTERM');
    const end = Date.now() + endLimitMs;
    while (Date.now() < end) {
      await sleep(50);
      process.kill(pid, 0);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
    throw new TorporError(
      'not-permitted',
      `Process ${pid} may not be ended by you.`,
      'Ask whom it belongs to.',
    );
  }
  throw new TorporError('failed', `Process ${pid} does not end.`, 'Close what it shows, and try again.');
}
