/**
 * What stands behind a workload that is being resumed: `torpor-pager` gives CRIU the memory contents as files, and,
 * where the resume is lazy, the running application what it touches, while the rest is fetched in the background. It
 * outlives the engine, which finds it again by its socket (docs/decisions/0019-lazy-resume.md).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import { lastWordsOf } from '../command.ts';
import { giveKeys } from '../store/pages-program.ts';

const bytes = z.number().nonnegative();

const statusSchema = z.object({
  state: z.enum(['waiting', 'loading', 'held', 'complete', 'failed']),
  loadedBytes: bytes,
  totalBytes: bytes,
  what: z.string().optional(),
});
/** How far it is. */
export type PagerStatus = z.infer<typeof statusSchema>;

const answerSchema = z.looseObject({ error: z.string().optional() });

const eventSchema = z.discriminatedUnion('event', [
  z.object({ event: z.literal('ready') }),
  z.object({ event: z.literal('failed'), what: z.string() }),
]);

export interface PagerPaths {
  /** `torpor-pager`. */
  program: string;
  stateDir: string;
  snapshotFolder: string;
  /** Folder at which CRIU finds pages-N.img. */
  mount: string;
  /** Where CRIU hands over what it leaves to be fetched; undefined for a resume that has everything before it runs. */
  lazySocket: string | undefined;
  control: string;
  /** Which memory was needed first the last time; a hint. */
  workingSet: string;
  /** What `--key-fd` takes, if there are keys. */
  keys: Buffer | undefined;
}

/** A program of ours that does not answer within this is stuck. */
const answerLimitMs = 30_000;
/** It takes milliseconds to end. */
const lookAgainMs = 50;
/** What it has left behind may hold its outputs for ever; its own last words come at once. */
const lastWordsMs = 1000;
const mostTries = 100;

export class Pager {
  readonly #control: string;
  /** What it has said that it cannot read; also once it has ended. Only who started it knows. */
  failure: string | undefined;

  private constructor(control: string) {
    this.#control = control;
  }

  /**
   * Starts one and waits until CRIU can read from it.
   * @throws TorporError `failed`, naming why.
   */
  static async start(paths: PagerPaths): Promise<Pager> {
    await mkdir(paths.mount, { recursive: true, mode: 0o700 });
    await mkdir(dirname(paths.control), { recursive: true, mode: 0o700 });
    const args = [
      ...['--store', paths.stateDir, '--snapshot', paths.snapshotFolder, '--mount', paths.mount],
      ...['--control', paths.control, '--working-set', paths.workingSet],
      ...(paths.lazySocket === undefined ? [] : ['--lazy', paths.lazySocket]),
      ...(paths.keys === undefined ? [] : ['--key-fd', '3']),
    ];
    // In a session of its own: it must not end with the engine.
    const child = spawn(paths.program, args, {
      stdio: ['ignore', 'pipe', 'pipe', ...(paths.keys === undefined ? [] : ['pipe' as const])],
      env: {},
      cwd: '/',
      detached: true,
    });
    giveKeys(child, 3, paths.keys);
    const pager = new Pager(paths.control);
    const words = lastWordsOf(child);
    await new Promise<void>((resolve, reject) => {
      const refuse = (what: string) => reject(cannotRead(what));
      child.once('error', (error) => refuse(error.message));
      child.once('exit', async (status, signal) => {
        // What it has said last may not have come yet; what it has started may hold its outputs for longer.
        await Promise.race([once(child, 'close'), sleep(lastWordsMs, undefined, { ref: false })]);
        refuse(words() || `it ended with ${signal ?? status}`);
      });
      if (child.stdout === null) return;
      createInterface({ input: child.stdout }).on('line', (line) => {
        const event = eventSchema.safeParse(JSON.parse(line));
        if (!event.success) return;
        if (event.data.event === 'ready') resolve();
        else {
          pager.failure ??= event.data.what;
          refuse(event.data.what);
        }
      });
    });
    child.unref();
    return pager;
  }

  /** The one that another engine has started, or undefined where it has ended. */
  static async find(control: string): Promise<Pager | undefined> {
    const pager = new Pager(control);
    return (await pager.status()) === undefined ? undefined : pager;
  }

  /** Undefined once it has ended: all memory is there, or nothing runs any more. */
  async status(): Promise<PagerStatus | undefined> {
    const answer = await this.#ask('status');
    return answer === undefined ? undefined : statusSchema.parse(answer);
  }

  /** The application runs: the rest is fetched beside it. @param init with whose end all of it ends. */
  async load(init: number): Promise<void> {
    await this.#tell(`load ${init}`);
  }

  /**
   * Stops fetching, so that it is known what has not been fetched; what is touched meanwhile is still given.
   * @returns false where it has ended: everything is there.
   */
  async hold(): Promise<boolean> {
    return await this.#tell('hold');
  }

  /** Writes what has not been fetched, while all of it stands still. */
  async writeUnfetched(file: string): Promise<void> {
    await this.#tell(`unfetched ${file}`);
  }

  /** It runs on: the opposite of {@link Pager.hold}. */
  async continue(): Promise<void> {
    await this.#tell('continue');
  }

  /** Nobody needs it any more. Never throws. */
  async end(): Promise<void> {
    await this.#ask('end').catch(() => undefined);
  }

  /** @returns false where it has ended. */
  async #tell(command: string): Promise<boolean> {
    const answer = await this.#ask(command);
    if (answer?.error !== undefined)
      throw new TorporError('failed', `Its memory is still being fetched, and that failed: ${answer.error}.`);
    return answer !== undefined;
  }

  /** @returns undefined where it has ended. */
  async #ask(command: string): Promise<z.infer<typeof answerSchema> | undefined> {
    // One that hangs up has not ended for that.
    for (let tries = 1; ; tries++) {
      const socket = await connectTo(this.#control);
      if (socket === undefined) return undefined;
      try {
        socket.setTimeout(answerLimitMs, () => socket.destroy(new Error('torpor-pager does not answer')));
        socket.write(`${command}\n`);
        for await (const line of createInterface({ input: socket }))
          return answerSchema.parse(JSON.parse(line));
      } catch (error) {
        if (!isHangUp(error)) throw error;
      } finally {
        socket.destroy();
      }
      if (tries === mostTries) throw new Error('torpor-pager does not answer');
      await sleep(lookAgainMs);
    }
  }
}

const isHangUp = (error: unknown) =>
  ['EPIPE', 'ECONNRESET'].includes((error as NodeJS.ErrnoException).code ?? '');

function connectTo(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
      else reject(error);
    });
  });
}

/** What the pager says of a chunk of which the key was locked when it was started (native/pages/reader.c). */
export const needsKey = (what: string) => what.includes('is encrypted by a key that is not there');

export function lockedMemory(): TorporError {
  return new TorporError(
    'blocked',
    'Its memory is encrypted, and the key is locked.',
    'Unlock it: `torpor encryption unlock`.',
  );
}

function cannotRead(what: string): TorporError {
  if (needsKey(what)) return lockedMemory();
  return new TorporError(
    'failed',
    `The memory of the snapshot cannot be read: ${what.replace(/\.$/, '')}.`,
    'Check it with `torpor verify --read-data`; an earlier snapshot may still resume.',
  );
}
