/**
 * The program that carries one capsule's sound (native/sound/relay.c), which is spoken with in lines. It is started again
 * where it ends, and killed where it does not answer: what is known of the streams is known in the capsule.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { z } from 'zod';

const restartMs = 1000;
/** The relay halts every stream before it ends, which takes at most a second and a half; the engine waits for two. */
const endLimitMs = 1700;

export const streamSchema = z.object({
  recording: z.boolean(),
  rate: z.number(),
  channels: z.number(),
  volume: z.number(),
  muted: z.boolean(),
  /** Up to which byte since its beginning it was heard. */
  position: z.number(),
  /** Of the user's sound server; empty for the usual one. */
  device: z.string(),
});
export type Stream = z.infer<typeof streamSchema>;

const eventSchema = z.discriminatedUnion('event', [
  z.object({ event: z.literal('connected') }),
  z.object({ event: z.literal('no-server'), reason: z.string() }),
  z.object({ event: z.literal('asks-microphone'), stream: z.number(), application: z.string() }),
  z.object({ event: z.literal('suspended'), streams: z.array(streamSchema) }),
]);

/** Why nothing is heard of a capsule. */
export type Problem = { kind: 'no-server'; reason: string } | { kind: 'ended'; how: string };

export interface RelayOptions {
  program: string;
  /** Of the capsule's sound server. */
  socket: string;
  /** Of the application, where a stream has none of its own. */
  name: string;
  icon: string;
  /** How long a suspend may take, in milliseconds. */
  suspendLimitMs: number;
  onProblem: (problem: Problem | undefined) => void;
  /** Somebody inside wants to record; {@link Relay.answer} has the word. */
  onMicrophone: (stream: number, application: string) => void;
}

export class Relay {
  readonly #options: RelayOptions;
  #child: ChildProcess | undefined;
  #restart: NodeJS.Timeout | undefined;
  #suspended: ((streams: Stream[]) => void) | undefined;
  #isHeld = false;
  #hasEnded = false;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#start();
  }

  #start(): void {
    const { program, socket, name, icon } = this.#options;
    const child = spawn(program, [socket, name, icon], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', (line) => this.#hear(line));
    child.stdin.on('error', () => {});
    child.once('exit', (code, signal) => this.#childEnded(child, signal ?? `exit status ${code}`));
    child.once('error', (error) => this.#childEnded(child, error.message));
  }

  #childEnded(child: ChildProcess, how: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    this.#suspended?.([]);
    if (this.#hasEnded || this.#isHeld) return;
    this.#options.onProblem({ kind: 'ended', how });
    this.#restart = setTimeout(() => this.#start(), restartMs);
  }

  #hear(line: string): void {
    const event = eventSchema.safeParse(parse(line)).data;
    if (event === undefined || this.#hasEnded) return;
    if (event.event === 'connected') this.#options.onProblem(undefined);
    else if (event.event === 'no-server')
      this.#options.onProblem({ kind: 'no-server', reason: event.reason });
    else if (event.event === 'asks-microphone') this.#options.onMicrophone(event.stream, event.application);
    else this.#suspended?.(event.streams);
  }

  #tell(line: string): void {
    this.#child?.stdin?.write(`${line}\n`);
  }

  /** Halts every stream and lets go of the capsule. Where that takes too long, the program is killed. */
  async suspend(): Promise<Stream[]> {
    this.#isHeld = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (child === undefined) return [];
    let timer: NodeJS.Timeout | undefined;
    const streams = await new Promise<Stream[]>((resolve) => {
      this.#suspended = resolve;
      timer = setTimeout(() => child.kill('SIGKILL'), this.#options.suspendLimitMs);
      this.#tell('suspend');
    });
    clearTimeout(timer);
    this.#suspended = undefined;
    return streams;
  }

  /** Carries on, where it was halted. */
  resume(): void {
    if (!this.#isHeld || this.#hasEnded) return;
    this.#isHeld = false;
    if (this.#child === undefined) this.#start();
    else this.#tell('resume');
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  answer(stream: number, allowed: boolean): void {
    this.#tell(`microphone ${stream} ${allowed ? 'yes' : 'no'}`);
  }

  /** Halts every stream, so that the capsule knows what was heard, and lets go of it for good. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (child === undefined) return;
    const timer = setTimeout(() => child.kill('SIGKILL'), endLimitMs);
    // One that could not be started never ends.
    const ended = once(child, 'exit').catch(() => {});
    child.stdin?.end();
    await ended;
    clearTimeout(timer);
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
