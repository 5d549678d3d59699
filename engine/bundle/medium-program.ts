/**
 * The medium program (engine/bundle/medium/), which alone knows how a bundle lies on its medium, as the engine talks to
 * it: lines of JSON on its standard input and output, chunks on descriptor 3. It runs as whoever asked for the bundle,
 * so that it reads and writes what they may, whatever they have put in the place of a path.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { type ErrorCode, errorCodes, TorporError } from '../../api/errors.ts';
import type { ExportOptions } from '../../api/types.ts';
import type { User } from '../capsule/users.ts';
import { identityOptions, lastWordsOf } from '../command.ts';
import type { Installation } from '../installation.ts';
import type { PortableFile } from './portable.ts';

/** After SIGTERM it takes away what it has half written; that may be on a slow medium. */
const endLimitMs = 20_000;

/** Of Argon2id, for what nobody can guess: the least that libsodium takes. */
const cheapest = { ops: 1, memory: 8192 };

const count = z.number().int().nonnegative();
const formSchema = z.enum(['file', 'folder']);
const listSchema = z.object({ bytes: count, sha256: z.string(), chunks: count });

const events = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('ready'),
    id: z.string(),
    generation: count,
    isNew: z.boolean(),
    form: formSchema,
  }),
  z.object({ event: z.literal('list'), source: count, ...listSchema.shape }),
  z.object({ event: z.literal('unreadable'), source: count, errno: z.string(), what: z.string() }),
  z.object({
    event: z.literal('progress'),
    phase: z.enum(['write', 'verify', 'read']),
    done: count,
    total: count,
  }),
  /** Of a reader that has sent everything it says only how much. */
  z.object({
    event: z.literal('done'),
    bytes: count,
    written: count.default(0),
    generation: count.default(0),
  }),
  z.object({ event: z.literal('checked'), chunks: count, bytes: count }),
  z.object({
    event: z.literal('opened'),
    id: z.string(),
    /** By which it is opened once more, in hexadecimal. */
    key: z.string().regex(/^[0-9a-f]{64}$/),
    generation: count,
    form: formSchema,
    passedOver: count.nullable(),
    contents: z.unknown(),
    lists: z.array(listSchema.nullable()),
    bytes: count,
  }),
  z.object({ event: z.literal('unread') }),
  z.object({ event: z.literal('tried') }),
  z.object({
    event: z.literal('error'),
    code: z.string(),
    message: z.string(),
    hint: z.string().default(''),
    details: z.record(z.string(), z.unknown()).default({}),
  }),
]);
export type MediumEvent = z.infer<typeof events>;
type EventOf<K extends MediumEvent['event']> = Extract<MediumEvent, { event: K }>;
export type ListInfo = z.infer<typeof listSchema>;

export type ProgressOf = (phase: 'write' | 'verify' | 'read', done: number, total: number) => void;

/** Behind those for its input, output, errors, chunks and what it knows. */
const firstBesideFd = 5;

/** What was read of one source: a list of chunks, or why there is none. */
export type Source = EventOf<'list'> | EventOf<'unreadable'>;

/** One run of the program, for one bundle. Disposing of it ends it. */
export class MediumProgram implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #beside: readonly PortableFile[];
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<unknown>;
  readonly #words: () => string;
  readonly #progress: ProgressOf;
  readonly #signal: AbortSignal;
  readonly #stop: () => void;

  /**
   * @param data the end of a pipe that becomes its descriptor 3; it stays the caller's to close.
   * @param beside files that are to lie beside a bundle that is written; they stay the caller's, too.
   */
  constructor(
    { bundleProgram, plugins }: Pick<Installation, 'bundleProgram' | 'plugins'>,
    user: User,
    data: number,
    progress: ProgressOf,
    signal: AbortSignal,
    beside: readonly PortableFile[] = [],
  ) {
    this.#beside = beside;
    const words = [
      ...[...identityOptions(user), '--pdeathsig', 'TERM', '--'],
      ...[process.execPath, bundleProgram],
    ];
    this.#child = spawn('setpriv', words, {
      stdio: ['pipe', 'pipe', 'pipe', data, 'pipe', ...beside.map(({ file }) => file.fd)],
      env: { PATH: process.env.PATH, LANG: 'C.UTF-8', ...plugins.own.environment },
      cwd: '/',
    });
    this.#child.stdin?.on('error', () => {});
    this.#words = lastWordsOf(this.#child);
    this.#ended = once(this.#child, 'close');
    this.#ended.catch(() => {});
    const output = this.#child.stdout as Readable;
    this.#lines = createInterface({ input: output, crlfDelay: Number.POSITIVE_INFINITY })[
      Symbol.asyncIterator
    ]();
    this.#progress = progress;
    this.#signal = signal;
    this.#stop = () => this.#child.kill('SIGTERM');
    signal.addEventListener('abort', this.#stop);
  }

  #tell(task: Readonly<Record<string, unknown>>): void {
    this.#child.stdin?.write(`${JSON.stringify(task)}\n`);
  }

  /** What it knows already, 32 bytes each; it closes the descriptor when it has told all. */
  async knownChunks(): Promise<Buffer> {
    const stream = this.#child.stdio[4] as Readable;
    const parts: Buffer[] = [];
    for await (const part of stream) parts.push(part as Buffer);
    return Buffer.concat(parts);
  }

  /** @throws TorporError what it says is wrong, or the signal's reason. */
  async #next(): Promise<Exclude<MediumEvent, EventOf<'progress' | 'error'>>> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      this.#signal.throwIfAborted();
      if (done) {
        await this.#ended;
        throw new TorporError(
          'failed',
          `The program that reads and writes bundles ended before it was done: ${this.#words() || 'it said nothing'}.`,
          'Try again; the log of the engine has more (log/torpord.log in the state folder).',
        );
      }
      const event = events.parse(JSON.parse(value));
      if (event.event === 'progress') this.#progress(event.phase, event.done, event.total);
      else if (event.event === 'error')
        throw new TorporError(codeOf(event.code), event.message, event.hint, event.details);
      else return event;
    }
  }

  async #expect<K extends MediumEvent['event']>(kind: K): Promise<EventOf<K>> {
    const event = await this.#next();
    if (event.event !== kind) throw new Error(`torpor-bundle said ${event.event} and not ${kind}`);
    return event as EventOf<K>;
  }

  /** Whether a bundle could be written there under these passphrases. @throws TorporError where not */
  async tryToWrite({
    path,
    form,
    passphrases,
    withEngine = false,
  }: Pick<ExportOptions, 'path' | 'form' | 'passphrases' | 'withEngine'>): Promise<void> {
    this.#tell({ task: 'try', path, form, passphrases, hasBeside: withEngine });
    await this.#expect('tried');
  }

  /** Opens or begins a bundle for writing. */
  async write({
    path,
    form,
    passphrases,
    isRandom = false,
    expected,
  }: Pick<ExportOptions, 'path' | 'form' | 'passphrases' | 'isRandom'> & {
    /** About how many bytes will come. */
    expected: number;
  }): Promise<EventOf<'ready'>> {
    const kdf = isRandom ? { kdf: cheapest } : {};
    const hasBeside = this.#beside.length > 0;
    this.#tell({ task: 'write', path, form, passphrases, sourceBytes: expected, hasBeside, ...kdf });
    return this.#expect('ready');
  }

  /** What it got of each of so many sources. */
  async sources(count: number): Promise<Source[]> {
    const all: Source[] = [];
    while (all.length < count) {
      const event = await this.#next();
      if (event.event !== 'list' && event.event !== 'unreadable')
        throw new Error(`torpor-bundle said ${event.event} in the stream`);
      all.push(event);
    }
    return all;
  }

  /** Makes what was written the newest generation, synced and read back. */
  async commit(contents: unknown): Promise<EventOf<'done'>> {
    const beside = this.#beside.map(({ name, mode }, index) => ({ fd: firstBesideFd + index, name, mode }));
    this.#tell({ task: 'commit', contents, beside });
    return this.#expect('done');
  }

  async open(path: string, by: { passphrase: string } | { key: string }): Promise<EventOf<'opened'>> {
    this.#tell({ task: 'read', path, by });
    return this.#expect('opened');
  }

  /** Reads and authenticates all of it. */
  async check(): Promise<void> {
    this.#tell({ task: 'check' });
    await this.#expect('checked');
  }

  /** Sends what these tasks name, to its end, or until whoever reads it does so no more. */
  async send(tasks: readonly Readonly<Record<string, unknown>>[]): Promise<void> {
    for (const task of tasks) this.#tell(task);
    this.#tell({ task: 'end' });
    const { event } = await this.#next();
    if (event !== 'done' && event !== 'unread') throw new Error(`torpor-bundle said ${event} and not done`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#stop);
    this.#child.stdin?.end();
    const limit = setTimeout(() => this.#child.kill('SIGKILL'), endLimitMs);
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGTERM');
    await this.#ended.catch(() => {});
    clearTimeout(limit);
  }
}

const codeOf = (code: string): ErrorCode => errorCodes.find((each) => each === code) ?? 'failed';
