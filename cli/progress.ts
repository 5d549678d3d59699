/** Progress on a terminal: one line on standard error that is rewritten. None in a pipe, none with `--json`. */
import type { EngineClient } from '../api/client.ts';
import type { Phase, Progress } from '../api/types.ts';
import type { Context } from './context.ts';
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
};

/** The rate is that of the last seconds, so that it follows a disk that becomes slower. */
const rateWindowMs = 3000;
/** Less than that is no base for a guess. */
const rateBaseMs = 400;

interface Sample {
  at: number;
  bytes: number;
}

/** Makes the line of a progress report, of which it remembers the last ones for the rate. */
export class ProgressLine {
  readonly #name: string;
  #phase: Phase | undefined;
  #samples: Sample[] = [];

  constructor(name: string) {
    this.#name = printable(name);
  }

  /** @param at milliseconds of a clock that never goes back */
  next({ phase, bytesDone, bytesTotal }: Progress, at: number): string {
    if (phase !== this.#phase) this.#samples = [];
    this.#phase = phase;
    const head = `${this.#name}: ${words[phase]}`;
    if (bytesTotal <= 0) return head;
    this.#samples.push({ at, bytes: bytesDone });
    while ((this.#samples[0]?.at ?? at) < at - rateWindowMs) this.#samples.shift();
    const percent = Math.floor((bytesDone / bytesTotal) * 100);
    return [`${head} ${percent} % of ${bytes(bytesTotal)}`, ...this.#speed(bytesTotal - bytesDone)].join(
      ', ',
    );
  }

  #speed(bytesLeft: number): string[] {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.at - first.at < rateBaseMs) return [];
    const rate = ((last.bytes - first.bytes) / (last.at - first.at)) * 1000;
    if (rate <= 0) return [];
    const secondsLeft = Math.ceil(bytesLeft / rate);
    const left =
      secondsLeft < 60
        ? `${secondsLeft} s`
        : `${Math.floor(secondsLeft / 60)} min ${String(secondsLeft % 60).padStart(2, '0')} s`;
    return [`${bytes(rate)}/s`, ...(bytesLeft > 0 ? [`${left} left`] : [])];
  }
}

/** Shows the progress of the work until it ends. */
export async function withProgress<T>(
  context: Context,
  client: EngineClient,
  name: string,
  work: () => Promise<T>,
): Promise<T> {
  if (context.json || !process.stderr.isTTY) return work();
  await client.subscribe();
  const line = new ProgressLine(name);
  const stop = client.on('progress', (progress) => {
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
