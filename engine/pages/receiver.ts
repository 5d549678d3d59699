/**
 * Takes the memory of what CRIU dumps and puts it into the store, by one `torpor-pages receive` a suspend: CRIU hands
 * its pages over a socket (its page server's protocol), and what comes of them is durable when {@link PageReceiver.done}
 * resolves (docs/store-format.md).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { PeerDescriptor } from '../../native/seqpacket.ts';
import { openStreamPeers } from '../../native/stream-pair.ts';
import { lastWordsOf } from '../command.ts';
import { giveKeys } from '../store/pages-program.ts';

const bytes = z.number().nonnegative();

const receivedSchema = z.object({
  event: z.literal('done'),
  images: z.number(),
  pages: z.number(),
  zeroPages: z.number(),
  /** That were the same, at the same address, in the snapshot before. */
  parentPages: z.number(),
  /** That had not been fetched since that snapshot was resumed. */
  unfetchedPages: z.number(),
  chunks: z.number(),
  newChunks: z.number(),
  rawBytes: bytes,
  writtenBytes: bytes,
  codec: z.string(),
});
/** What a suspend has put into the store. */
export type ReceivedPages = z.infer<typeof receivedSchema>;

const eventSchema = z.discriminatedUnion('event', [
  z.object({ event: z.literal('progress'), received: bytes, written: bytes }),
  z.object({ event: z.literal('received') }),
  receivedSchema,
  z.object({ event: z.literal('error'), code: z.string(), what: z.string() }),
]);

/** What it says where CRIU, or the engine, did not come to the end. */
const consequences = new Set(['ECONNRESET', 'ECANCELED']);

/** The page store could not take what CRIU gave. A full disk is said as Node says it, by its `code`. */
function receiveError(what: string, code: string): Error {
  if (code === 'ENOSPC') return Object.assign(new Error(what), { code });
  return new TorporError(
    'failed',
    `Its memory could not be saved: ${what.replace(/\.$/, '')}.`,
    'The details are in the log of the engine (log/torpord.log in the state folder).',
  );
}

export interface ReceiverPaths {
  /** `torpor-pages`. */
  program: string;
  stateDir: string;
  /** Folder of the snapshot in the making. */
  stage: string;
  /** Folder of a snapshot, verified already, of which what is still the same is not written again. */
  parent: string | undefined;
  /** What `--key-fd` takes, if there are keys. */
  keys: Buffer | undefined;
}

export class PageReceiver implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #socket: PeerDescriptor;
  readonly #done: Promise<ReceivedPages>;
  #received = 0;
  #isEnded = false;
  /** Why it has failed, if it has. */
  failure: Error | undefined;

  private constructor(child: ChildProcess, socket: PeerDescriptor) {
    this.#child = child;
    this.#socket = socket;
    this.#done = this.#follow();
    this.#done.catch(() => {});
  }

  /** Starts one; it takes nothing before {@link PageReceiver.go}. */
  static start({ program, stateDir, stage, parent, keys }: ReceiverPaths): PageReceiver {
    const [own, criu] = openStreamPeers();
    using _own = own;
    const args = [
      ...['receive', '--socket', '3', '--store', stateDir, '--stage', stage],
      ...['--speeds', join(stateDir, 'speeds.json')],
      ...(parent === undefined ? [] : ['--parent', parent]),
      ...(keys === undefined ? [] : ['--key-fd', '4']),
    ];
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe', own.fd, ...(keys === undefined ? [] : ['pipe' as const])],
      env: {},
    });
    giveKeys(child, 4, keys);
    return new PageReceiver(child, criu);
  }

  /** CRIU's end of the connection; for nobody else once CRIU has been started: {@link PageReceiver.handOver}. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** CRIU has it now, alone, so that its end is seen as the end of the connection. */
  handOver(): void {
    this.#socket[Symbol.dispose]();
  }

  /**
   * From here on it takes pages.
   * @param unfetched file of what had not been fetched since the parent was resumed, where that was lazily.
   */
  go(unfetched?: string): void {
    this.#child.stdin?.end(unfetched === undefined ? 'go\n' : `go unfetched ${unfetched}\n`);
  }

  /** Resolves when everything is durable. @throws Error with `code` ENOSPC; TorporError */
  get done(): Promise<ReceivedPages> {
    return this.#done;
  }

  /** In bytes: what CRIU has handed over. */
  get received(): number {
    return this.#received;
  }

  async #follow(): Promise<ReceivedPages> {
    const child = this.#child;
    const words = lastWordsOf(child);
    // What ends early has its reasons, which its last event tells.
    child.stdin?.on('error', () => {});
    const ended = once(child, 'close');
    ended.catch(() => {});
    let result: ReceivedPages | undefined;
    let said: Error | undefined;
    if (child.stdout !== null) {
      for await (const line of createInterface({ input: child.stdout })) {
        const event = eventSchema.parse(JSON.parse(line));
        if (event.event === 'progress') this.#received = event.received;
        else if (event.event === 'done') result = event;
        else if (event.event === 'error') {
          said = receiveError(event.what, event.code);
          if (!consequences.has(event.code)) this.failure = said;
        }
      }
    }
    const [status, signal] = (await ended) as [number | null, string | null];
    if (result !== undefined && status === 0) return result;
    const error =
      said ?? receiveError(words() || `the page store ended with ${signal ?? `status ${status}`}`, '');
    // What we have ended ourselves has not failed, nor has what CRIU or the engine had given up before.
    if (!this.#isEnded && said === undefined) this.failure ??= error;
    throw error;
  }

  /** Ends it, if it has not ended, and waits for that; what it wrote is the stage's. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnded = true;
    this.#socket[Symbol.dispose]();
    this.#child.kill('SIGKILL');
    await this.#done.catch(() => {});
  }
}
