/** The sound of all of a user's capsules: a relay for each that runs, and the user's word on the microphone. */
import type { PluginFinding, PluginWorkload } from '../../api/plugin-types.ts';
import { type Appearance, appearanceOf } from './application.ts';
import type { Consents } from './consents.ts';
import type { Log } from './log.ts';
import { Relay, type Stream } from './relay.ts';

/** A workload as far as its sound goes. */
export interface Capsule {
  id: string;
  name: string;
  command: readonly string[];
  application?: string | undefined;
  /** Of its sound server, as the host sees it. */
  socket: string;
}

export interface SoundOptions {
  program: string;
  suspendLimitMs: number;
  consents: Consents;
  /** @returns undefined where there was no answer. @throws Error where nobody could be asked. */
  ask: (application: string) => Promise<boolean | undefined>;
  log: Log;
}

interface Carried {
  capsule: Capsule;
  appearance: Appearance;
  relay: Relay;
}

export class Sound {
  readonly #options: SoundOptions;
  readonly #carried = new Map<string, Promise<Carried>>();
  /** Questions that are open, by application. */
  readonly #asked = new Map<string, Promise<boolean>>();
  #problem: string | undefined;

  constructor(options: SoundOptions) {
    this.#options = options;
  }

  /** Carries the sound of a capsule that runs, if it is not carried yet. */
  carry(capsule: Capsule): Promise<Carried> {
    const known = this.#carried.get(capsule.id);
    if (known !== undefined) return known;
    const started = this.#start(capsule);
    this.#carried.set(capsule.id, started);
    return started;
  }

  async #start(capsule: Capsule): Promise<Carried> {
    const appearance = await appearanceOf(capsule.application, capsule.name);
    const relay = new Relay({
      program: this.#options.program,
      socket: capsule.socket,
      ...appearance,
      suspendLimitMs: this.#options.suspendLimitMs,
      onServer: (problem) => this.#noteServer(problem),
      onMicrophone: (stream) => void this.#decide(capsule, appearance, relay, stream),
    });
    return { capsule, appearance, relay };
  }

  /** Said once for all capsules, and again only when it had been there meanwhile. */
  #noteServer(problem: string | undefined): void {
    if (problem !== undefined && this.#problem === undefined) {
      this.#options.log(
        `No sound server answers (${problem}): applications in capsules play to nobody until one does. Start PulseAudio or PipeWire.`,
      );
    }
    if (problem === undefined && this.#problem !== undefined)
      this.#options.log('The sound server answers again.');
    this.#problem = problem;
  }

  async #decide(capsule: Capsule, { name }: Appearance, relay: Relay, stream: number): Promise<void> {
    // A command alone may be an interpreter, which is many applications.
    const key = capsule.application ?? capsule.command.join(' ');
    const open = this.#asked.get(key) ?? this.#ask(key, name);
    this.#asked.set(key, open);
    relay.answer(stream, await open.finally(() => this.#asked.delete(key)));
  }

  async #ask(key: string, name: string): Promise<boolean> {
    const { consents, ask, log } = this.#options;
    try {
      const known = await consents.of(key);
      if (known !== undefined) return known;
      const answer = await ask(name);
      if (answer === undefined) {
        log(`${name} wanted to use the microphone, and nobody has answered: it hears silence.`);
        return false;
      }
      await consents.remember(key, answer);
      return answer;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      log(`${name} wanted to use the microphone and hears silence, since nobody can be asked: ${why}`);
      return false;
    }
  }

  /** What there is to say of a capsule's sound before a suspend. */
  findings(id: string): PluginFinding[] {
    if (this.#problem === undefined || !this.#carried.has(id)) return [];
    return [
      {
        tie: 'sound',
        verdict: 'handled',
        what: `No sound server answers (${this.#problem}), so the application plays to nobody.`,
        hint: 'Start PulseAudio or PipeWire; its sound is heard from then on.',
      },
    ];
  }

  /** Halts a capsule's streams and lets go of it. @returns what they were. */
  async suspend(id: string): Promise<Stream[]> {
    return (await (await this.#carried.get(id))?.relay.suspend()) ?? [];
  }

  /** It runs on, or again. */
  async resume(capsule: Capsule): Promise<void> {
    (await this.carry(capsule)).relay.resume();
  }

  /** It does not run any more. */
  async forget(id: string): Promise<void> {
    const carried = this.#carried.get(id);
    this.#carried.delete(id);
    (await carried)?.relay.end();
  }

  /** No capsule runs. */
  get isIdle(): boolean {
    return this.#carried.size === 0;
  }

  async end(): Promise<void> {
    await Promise.all([...this.#carried.keys()].map((id) => this.forget(id)));
  }
}

/** Of a workload that the engine speaks of to a plugin; undefined where it is no capsule. */
export function capsuleOf({
  id,
  name,
  command,
  application,
  runFolder,
}: PluginWorkload): Capsule | undefined {
  if (runFolder === undefined) return undefined;
  return { id, name, command, application, socket: `${runFolder}/sound/relay` };
}
