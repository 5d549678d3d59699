/** The sound of all of a user's capsules: a relay for each that runs, and the user's word on the microphone. */
import type { PluginFinding, PluginWorkload } from '../../api/plugin-types.ts';
import { type Appearance, appearanceOf } from './application.ts';
import type { Consents } from './consents.ts';
import type { Log } from './log.ts';
import { type Problem, Relay, type Stream } from './relay.ts';

/** Where nobody could be asked, as without a notification daemon, one may be there later. */
const askAgainMs = 60_000;

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
  /** @returns undefined where there was no answer, or it was called off. @throws Error where nobody could be asked. */
  ask: (application: string, callOff: AbortSignal) => Promise<boolean | undefined>;
  log: Log;
}

interface Carried {
  capsule: Capsule;
  appearance: Appearance;
  relay: Relay;
}

/** A question that is open. */
interface Question {
  /** Ids of the capsules that wait for it. */
  readonly askers: Set<string>;
  readonly callOff: AbortController;
  readonly answer: Promise<boolean | undefined>;
}

export class Sound {
  readonly #options: SoundOptions;
  readonly #carried = new Map<string, Promise<Carried>>();
  /** By application. */
  readonly #questions = new Map<string, Question>();
  /** Until when a capsule's microphone is silent without another question, by its id. */
  readonly #silentUntil = new Map<string, number>();
  /** By the id of a capsule. */
  readonly #problems = new Map<string, Problem>();
  #hasToldOfNoServer = false;

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
      onProblem: (problem) => this.#note(capsule, problem),
      onMicrophone: (stream) => void this.#decide(capsule, appearance, relay, stream),
    });
    return { capsule, appearance, relay };
  }

  /** That there is no sound server is said once for all capsules, and again only when there had been one meanwhile. */
  #note({ id, name }: Capsule, problem: Problem | undefined): void {
    const { log } = this.#options;
    const before = this.#problems.get(id);
    if (problem === undefined) this.#problems.delete(id);
    else this.#problems.set(id, problem);
    if (problem === undefined) {
      if (this.#hasToldOfNoServer) log('The sound server answers again.');
      this.#hasToldOfNoServer = false;
    } else if (problem.kind === 'ended') {
      if (before?.kind !== 'ended')
        log(`The program that carries the sound of ${name} has ended (${problem.how}) and is started again.`);
    } else if (!this.#hasToldOfNoServer && this.#isServerMissing) {
      this.#hasToldOfNoServer = true;
      log(
        `No sound server answers (${problem.reason}): applications in capsules play to nobody until one does. Start PulseAudio or PipeWire.`,
      );
    }
  }

  /** For all of them, as far as is known. */
  get #isServerMissing(): boolean {
    return [...this.#carried.keys()].every((id) => this.#problems.get(id)?.kind === 'no-server');
  }

  async #decide(capsule: Capsule, { name }: Appearance, relay: Relay, stream: number): Promise<void> {
    relay.answer(stream, (await this.#mayRecord(capsule, name)) ?? false);
  }

  /** @returns undefined where nobody has said anything. */
  async #mayRecord({ id, application, command }: Capsule, name: string): Promise<boolean | undefined> {
    // A program that opens its input each second would have its user asked each second.
    if (Date.now() < (this.#silentUntil.get(id) ?? 0)) return undefined;
    // A command alone may be an interpreter, which is many applications.
    const key = application ?? command.join(' ');
    const question = this.#questions.get(key) ?? this.#open(key, name);
    question.askers.add(id);
    try {
      const answer = await question.answer;
      if (answer === undefined) this.#beSilent(id, Number.POSITIVE_INFINITY);
      return answer;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#options.log(
        `${name} wanted to use the microphone and hears silence, since nobody can be asked: ${why}`,
      );
      this.#beSilent(id, Date.now() + askAgainMs);
      return undefined;
    }
  }

  #beSilent(id: string, until: number): void {
    if (this.#carried.has(id)) this.#silentUntil.set(id, until);
  }

  #open(key: string, name: string): Question {
    const callOff = new AbortController();
    const answer = this.#ask(key, name, callOff.signal).finally(() => this.#questions.delete(key));
    const question = { askers: new Set<string>(), callOff, answer };
    this.#questions.set(key, question);
    return question;
  }

  async #ask(key: string, name: string, callOff: AbortSignal): Promise<boolean | undefined> {
    const { consents, ask, log } = this.#options;
    const known = await consents.of(key);
    if (known !== undefined) return known;
    const answer = await ask(name, callOff);
    if (answer !== undefined) await consents.remember(key, answer);
    else if (!callOff.aborted)
      log(
        `${name} wanted to use the microphone, and nobody has answered: it hears silence until it is started or resumed again.`,
      );
    return answer;
  }

  /** What there is to say of a capsule's sound before a suspend. */
  findings(id: string): PluginFinding[] {
    const problem = this.#problems.get(id);
    if (problem === undefined) return [];
    if (problem.kind === 'ended') {
      return [
        {
          tie: 'sound',
          verdict: 'handled',
          what: `The program that carries its sound has ended (${problem.how}), so the application plays to nobody.`,
          hint: 'It is started again by itself. Where that happens again and again, set Torpor up anew.',
        },
      ];
    }
    return [
      {
        tie: 'sound',
        verdict: 'handled',
        what: `No sound server answers (${problem.reason}), so the application plays to nobody.`,
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
    this.#problems.delete(id);
    this.#silentUntil.delete(id);
    for (const { askers, callOff } of this.#questions.values())
      if (askers.delete(id) && askers.size === 0) callOff.abort();
    await (await carried)?.relay.end();
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
