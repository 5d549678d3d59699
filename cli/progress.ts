/** Progress on a terminal: one line on standard error that is rewritten. None in a pipe, none with `--json`. */
import type { EngineClient } from '../api/client.ts';
import type { Phase } from '../api/types.ts';
import type { Context } from './context.ts';
import { bytes } from './format.ts';

const words: Record<Phase, string> = {
  inspect: 'looking at what it holds',
  detach: 'detaching it',
  freeze: 'freezing it',
  checkpoint: 'saving its memory',
  commit: 'making it durable',
  release: 'freeing its memory',
  verify: 'checking the snapshot',
  prepare: 'preparing its place',
  restore: 'restoring it',
  done: 'done',
};

/** Shows the progress of the work until it ends. */
export async function withProgress<T>(
  context: Context,
  client: EngineClient,
  name: string,
  work: () => Promise<T>,
): Promise<T> {
  if (context.json || !process.stderr.isTTY) return work();
  await client.subscribe();
  const stop = client.on('progress', ({ phase, bytesDone, bytesTotal }) => {
    const amount = bytesTotal > 0 ? ` ${bytes(bytesDone)} of ${bytes(bytesTotal)}` : '';
    process.stderr.write(`\r\x1b[K${name}: ${words[phase]}${amount}`);
  });
  try {
    return await work();
  } finally {
    stop();
    process.stderr.write('\r\x1b[K');
  }
}
