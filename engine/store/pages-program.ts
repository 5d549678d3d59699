/** `torpor-pages` for what is done to the whole store: checking, sweeping and compressing packs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import type { Writable } from 'node:stream';
import { z } from 'zod';
import { lastWordsOf } from '../command.ts';
import type { Logger } from '../log.ts';

/** After SIGTERM it ends between two chunks; what is killed loses nothing, and is begun anew. */
const endLimitMs = 2000;

const count = z.number().int().nonnegative();

const doneSchema = z.object({ event: z.literal('done') });
const sweptSchema = doneSchema.extend({
  /** With `check` it would be. */
  freedBytes: count,
  packs: count,
  liveBytes: count,
  deadBytes: count,
  /** Why some of it, or all, was left as it is: sentences. */
  skipped: z.array(z.string()),
});
export type Swept = z.infer<typeof sweptSchema>;
const readSchema = doneSchema.extend({ bytesRead: count });

const shareSchema = z.object({ event: z.literal('share'), snapshot: z.string(), bytes: count });

const errorSchema = z.object({ event: z.literal('error'), code: z.string(), what: z.string() });

/** What the program says is wrong with the store, or why it could not go on. */
export class PagesError extends Error {
  override readonly name = 'PagesError';
  /** The name of an errno, or `damaged`. */
  readonly code: string;

  constructor(code: string, what: string) {
    super(what.replace(/\.$/, ''));
    this.code = code;
  }
}

/** How much of the data is read: nothing, all, or a part (`3/10` or `5%`). */
export type ReadAmount = 'nothing' | 'all' | string;

interface Run {
  signal?: AbortSignal;
  /** It gets out of the way of everything else. */
  inBackground?: boolean;
  /** What it reads. */
  input?: string;
  /** What it says on the way. */
  onEvent?: (event: unknown) => void;
}

export class PagesProgram {
  readonly #program: string;
  readonly #stateDir: string;
  readonly #log: Logger;
  readonly #keys: () => Buffer | undefined;

  /** @param keys what `--key-fd` takes, as it is by now. */
  constructor(
    program: string,
    stateDir: string,
    log: Logger,
    keys: () => Buffer | undefined = () => undefined,
  ) {
    this.#program = program;
    this.#keys = keys;
    this.#stateDir = stateDir;
    this.#log = log;
  }

  /** Removes what no snapshot needs, or with `check` only says how much that would be. */
  sweep(check: boolean, options: Run): Promise<Swept> {
    return this.#run(sweptSchema, ['sweep', ...(check ? ['--check'] : [])], options);
  }

  /** Compresses what was written in a hurry. */
  async recompress(options: Run): Promise<void> {
    await this.#run(doneSchema, ['recompress'], options);
  }

  /** Looks for all that one snapshot needs. @returns the bytes read. @throws PagesError naming what is wrong, and where. */
  async verify(snapshotFolder: string, read: ReadAmount, options: Run = {}): Promise<number> {
    const amount = { nothing: [], all: ['--read-data'] }[read] ?? ['--read-data', '--subset', read];
    const { bytesRead } = await this.#run(
      readSchema,
      ['verify', '--snapshot', snapshotFolder, ...amount],
      options,
    );
    return bytesRead;
  }

  /** How much of the packs each snapshot takes; what several need counts for the first of them. */
  async shares(ids: readonly string[], signal: AbortSignal): Promise<Map<string, number>> {
    const bytes = new Map<string, number>();
    const onEvent = (event: unknown) => {
      const share = shareSchema.safeParse(event);
      if (share.success) bytes.set(share.data.snapshot, share.data.bytes);
    };
    await this.#run(doneSchema, ['shares'], {
      ...{ signal, onEvent },
      input: ids.map((id) => `${id}\n`).join(''),
    });
    return bytes;
  }

  /**
   * Runs it to its end. It gets SIGTERM where the signal is raised or this process ends.
   * @throws PagesError for what it says, the signal's reason, or Error where it ended without a word.
   */
  async #run<T>(
    schema: z.ZodType<T>,
    args: readonly string[],
    { signal, inBackground, input, onEvent }: Run,
  ): Promise<T> {
    signal?.throwIfAborted();
    const keys = needsKeys.has(args[0] ?? '') ? this.#keys() : undefined;
    const all = [
      ...['--pdeathsig', 'TERM', '--', this.#program, ...args, '--store', this.#stateDir],
      ...(keys === undefined ? [] : ['--key-fd', '3']),
    ];
    const child = spawn('setpriv', all, {
      stdio: ['pipe', 'pipe', 'pipe', ...(keys === undefined ? [] : ['pipe' as const])],
    });
    giveKeys(child, 3, keys);
    // What ends before it has read everything has its reasons, which it says.
    child.stdin?.on('error', () => {}).end(input);
    const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    ended.catch(() => {});
    if (inBackground && child.pid !== undefined) beNice(child.pid);
    let killing: NodeJS.Timeout | undefined;
    const giveUp = () => {
      child.kill('SIGTERM');
      killing ??= setTimeout(() => child.kill('SIGKILL'), endLimitMs);
    };
    signal?.addEventListener('abort', giveUp);
    try {
      const words = lastWordsOf(child);
      let result: T | undefined;
      let failure: PagesError | undefined;
      for await (const line of child.stdout === null ? [] : createInterface({ input: child.stdout })) {
        const event: unknown = JSON.parse(line);
        const error = errorSchema.safeParse(event);
        if (error.success) failure = new PagesError(error.data.code, error.data.what);
        else if (doneSchema.safeParse(event).success) result = schema.parse(event);
        else onEvent?.(event);
      }
      const [status, by] = await ended;
      signal?.throwIfAborted();
      if (failure !== undefined) throw failure;
      if (status === 0 && result !== undefined) return result;
      throw new Error(words() || `torpor-pages ${args[0]} ended with ${by ?? `status ${status}`}`);
    } finally {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await ended.catch(() => {});
      signal?.removeEventListener('abort', giveUp);
      clearTimeout(killing);
      this.#log.debug({ args }, 'torpor-pages has ended');
    }
  }
}

/** Those that look into chunks. */
const needsKeys = new Set(['sweep', 'recompress', 'verify']);

/** Keys go by a descriptor, and so into no list of processes. One that has ended already needs none. */
export function giveKeys(child: ChildProcess, fd: number, keys: Buffer | undefined): void {
  if (keys === undefined) return;
  const stream = child.stdio[fd] as Writable;
  stream.on('error', () => {}).end(keys);
}

function beNice(pid: number): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_LOW);
  } catch {
    // It has ended already.
  }
}
