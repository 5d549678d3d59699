/** Progress on a terminal: one line on standard error that is rewritten. None in a pipe, none with `--json`. */
import type { EngineClient } from '../api/client.ts';
import { type Estimate, RateMeter } from '../api/rate.ts';
import type { Phase, Progress } from '../api/types.ts';
import type { Context } from './context.ts';
import { duration } from './duration.ts';
import { bytes, printable } from './format.ts';

const words: Record<Phase, string> = {
  inspect: 'looking at what it holds',
  detach: 'detaching it',
  freeze: 'freezing it',
  checkpoint: 'saving its memory',
  commit: 'making it durable',
  release: 'freeing its memory',
  network: 'waiting for a network',
  verify: 'checking the snapshot',
  prepare: 'preparing its place',
  restore: 'restoring it',
  done: 'done',
  load: 'fetching its memory while it runs',
  read: 'reading the bundle',
  write: 'writing the bundle',
};

interface Told {
  progress: Progress;
  meter: RateMeter;
  estimate: Estimate;
}

/** Makes the line of a progress report, of which it remembers the last ones for the rate. */
export class ProgressLine {
  readonly #name: string;
  /** The last report of each workload, of which a set has several. */
  readonly #told = new Map<string, Told>();

  constructor(name: string) {
    this.#name = printable(name);
  }

  /** @param at milliseconds of a clock that never goes back */
  next(progress: Progress, at: number): string {
    const { workload, phase, bytesDone, bytesTotal } = progress;
    const meter = this.#told.get(workload)?.meter ?? new RateMeter();
    this.#told.set(workload, { progress, meter, estimate: meter.report(phase, bytesDone, bytesTotal, at) });
    const head = `${this.#name}: ${words[phase]}`;
    const same = [...this.#told.values()].filter((each) => each.progress.phase === phase);
    const sum = (of: (each: Told) => number) => same.reduce((all, each) => all + of(each), 0);
    const total = sum((each) => each.progress.bytesTotal);
    if (total <= 0) return head;
    const done = sum((each) => each.progress.bytesDone);
    const rate = sum(({ estimate }) => estimate.bytesPerSecond ?? 0);
    return [
      `${head} ${Math.floor((done / total) * 100)} % of ${bytes(total)}`,
      ...(rate > 0 ? [`${bytes(rate)}/s`] : []),
      ...(rate > 0 && total > done ? [`${duration(Math.ceil((total - done) / rate))} left`] : []),
    ].join(', ');
  }
}

/**
 * Which workloads are none of this command's business, so that what the engine does meanwhile by itself or for others is
 * not shown as this: those that there are, but for the ones that are named. A process or a copy becomes one only now.
 */
async function othersThan(client: EngineClient, targets: readonly string[]): Promise<Set<string>> {
  const [workloads, snapshots] = await Promise.all([client.list(), client.snapshots('')]);
  const named = await Promise.all(
    targets.map((target) =>
      client.get(target).then(
        ({ id }) => id,
        () => snapshots.find(({ id }) => id.startsWith(target))?.workload,
      ),
    ),
  );
  return new Set(workloads.map(({ id }) => id).filter((id) => !named.includes(id)));
}

/** Shows the progress of the work on these until it ends. */
export async function withProgress<T>(
  context: Context,
  client: EngineClient,
  targets: readonly string[],
  work: () => Promise<T>,
): Promise<T> {
  if (context.json || !process.stderr.isTTY) return work();
  const others = await othersThan(client, targets);
  await client.subscribe();
  const line = new ProgressLine(targets.join(', '));
  const stop = client.on('progress', (progress) => {
    // It runs by then, and the command ends; the rest is told by `torpor ps`.
    if (others.has(progress.workload) || progress.phase === 'load') return;
    const text = line.next(progress, performance.now());
    process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
  });
  try {
    return await work();
  } finally {
    stop();
    process.stderr.write('\r\x1b[K');
  }
}
