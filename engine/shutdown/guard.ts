/**
 * The shutdown guard: while there is something to save it holds a delay inhibitor of the log-in manager, which then tells
 * before it shuts the machine down and waits for as long as its configuration lets it. What could not be saved is said on
 * the console, where there is no window any more by then, and in the log.
 * https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.login1.html, https://systemd.io/INHIBITOR_LOCKS
 */
import type { Message } from '@jellybrick/dbus-next';
import type { BusConnection } from '../../api/connection.ts';
import { sentenceOf } from '../../api/errors.ts';
import { Peer, type PeerName } from '../../api/peer.ts';
import type { PowerEvent } from '../../api/types.ts';
import type { Logger } from '../log.ts';

const login: PeerName = {
  name: 'org.freedesktop.login1',
  path: '/org/freedesktop/login1',
  interface: 'org.freedesktop.login1.Manager',
};

/** What could not be saved. */
export interface Unsaved {
  name: string;
  user: string;
  why: string;
}

export interface SaveOutcome {
  saved: readonly string[];
  unsaved: readonly Unsaved[];
}

export interface GuardParts {
  /** On the system bus. */
  connection: BusConnection;
  /** Whether a shutdown would find something to save. */
  hasWork: () => boolean;
  /** Saves until the deadline (milliseconds since the epoch), and says by then what it has come to. */
  save: (event: PowerEvent, deadline: number) => Promise<SaveOutcome>;
  /** The machine stays on after all. */
  cancelled: () => Promise<void>;
  /** Takes the inhibitor, which lasts until it is disposed of. */
  inhibit: (signal: AbortSignal) => Promise<Disposable>;
  /** Writes a line where whoever stands before the machine sees it. */
  tell: (line: string) => void;
  log: Logger;
}

/** What the log-in manager calls the kinds of a shutdown (systemd 255 and later). */
const kinds: Readonly<Record<string, PowerEvent>> = {
  reboot: 'reboot',
  'soft-reboot': 'reboot',
  kexec: 'kexec',
  poweroff: 'power-off',
  'power-off': 'power-off',
  halt: 'power-off',
};

const inWords: Record<PowerEvent, string> = {
  reboot: 'the restart',
  kexec: 'the change of the kernel',
  'power-off': 'the power-off',
  shutdown: 'the shutdown',
  'low-battery': 'the battery ran low',
};

/** Kept free of the log-in manager's limit, to say what was not saved: a tenth of it, within these bounds. */
const margin = { part: 0.1, leastMs: 250, mostMs: 5000 };
/** As systemd has it where nobody has set one. */
const usualLimitMs = 5000;

/** How long there is for saving. Pure. */
export const savingTimeMs = (limitMs: number) =>
  Math.max(0, limitMs - Math.min(margin.mostMs, Math.max(margin.leastMs, limitMs * margin.part)));

export class ShutdownGuard implements AsyncDisposable {
  readonly #parts: GuardParts;
  readonly #ending = new AbortController();
  #peer: Peer | undefined;
  #held: Disposable | undefined;
  /** The taking and releasing, one after the other. */
  #changes: Promise<void> = Promise.resolve();
  /** The shutdown that is under way. */
  #shutdown: object | undefined;
  /** What is being saved, one event after the other. */
  #saving: Promise<void> = Promise.resolve();
  #limitMs = usualLimitMs;

  constructor(parts: GuardParts) {
    this.#parts = parts;
  }

  async start(): Promise<void> {
    this.#peer = await Peer.follow(this.#parts.connection, login, {
      came: (peer) => void this.#came(peer),
      left: () => this.#left(),
      signal: (message) => this.#heard(message),
    });
  }

  /** Whether there is a log-in manager, which tells of shutdowns. */
  get isTold(): boolean {
    return this.#peer?.isThere === true;
  }

  /** To be called whenever there may be more to save, or less. */
  update(): void {
    this.#changes = this.#changes.then(async () => {
      if (this.#shutdown !== undefined) return;
      const isWanted = this.isTold && !this.#ending.signal.aborted && this.#parts.hasWork();
      if (!isWanted) this.#release();
      else if (this.#held === undefined) await this.#take();
    });
  }

  /** Saves what is to be saved at this event, after whatever is being saved. */
  save(event: PowerEvent, deadline: number): Promise<void> {
    this.#saving = this.#saving.then(() => this.#save(event, deadline));
    return this.#saving;
  }

  /** Whether a shutdown was announced; settles once all that is being saved is. */
  async settled(): Promise<boolean> {
    await this.#saving;
    return this.#shutdown !== undefined;
  }

  async #take(): Promise<void> {
    const { inhibit, log } = this.#parts;
    try {
      this.#limitMs = Number(await this.#peer?.property('InhibitDelayMaxUSec')) / 1000;
      const held = await inhibit(this.#ending.signal);
      // The log-in manager that has granted it may have gone meanwhile.
      if (this.isTold && !this.#ending.signal.aborted) this.#held = held;
      else held[Symbol.dispose]();
      log.info({ limitMs: this.#limitMs }, 'a shutdown waits for what is to be saved');
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      log.warn({ reason: sentenceOf(error) }, 'the machine may shut down before anything is saved');
    }
  }

  #release(): void {
    this.#held?.[Symbol.dispose]();
    this.#held = undefined;
  }

  async #came(peer: Peer): Promise<void> {
    // An engine that is started in the middle of a shutdown is not to delay it.
    if ((await peer.property('PreparingForShutdown').catch(() => false)) === true) this.#shutdown = {};
    this.update();
  }

  #left(): void {
    this.#shutdown = undefined;
    this.#release();
  }

  #heard({ interface: of, member, body }: Message): void {
    if (of !== login.interface) return;
    const [begins, metadata] = body as [boolean, Record<string, { value: unknown }> | undefined];
    // The one with the kind comes before the one without, from a log-in manager that has both.
    if (member === 'PrepareForShutdownWithMetadata') {
      const kind = kinds[String(metadata?.type?.value)];
      if (begins) this.#prepare(kind ?? 'shutdown');
    } else if (member === 'PrepareForShutdown') {
      if (begins) this.#prepare('shutdown');
      else this.#goOn();
    }
  }

  #prepare(event: PowerEvent): void {
    if (this.#shutdown !== undefined) return;
    const shutdown = {};
    this.#shutdown = shutdown;
    const deadline = Date.now() + savingTimeMs(this.#limitMs);
    void this.save(event, deadline).then(() => {
      // After one that was cancelled the next one may be under way already, and waits for its own saving.
      if (this.#shutdown === shutdown) this.#release();
    });
  }

  #goOn(): void {
    if (this.#shutdown === undefined) return;
    // At once: the next one may be announced while all that was saved is being brought back.
    this.#shutdown = undefined;
    this.update();
    this.#saving = this.#saving.then(async () => {
      this.#parts.log.info('the shutdown was cancelled');
      await this.#parts.cancelled().catch((error: unknown) => {
        this.#parts.log.error({ err: error }, 'what was saved for the shutdown was not all brought back');
      });
    });
  }

  async #save(event: PowerEvent, deadline: number): Promise<void> {
    const { save, tell, log } = this.#parts;
    log.info({ event, forMs: deadline - Date.now() }, 'saving');
    try {
      const { saved, unsaved } = await save(event, deadline);
      log.info({ event, saved, unsaved }, 'saved');
      for (const line of sentencesOf(event, unsaved)) {
        log.warn({ event }, line);
        tell(line);
      }
    } catch (error) {
      log.error({ err: error, event }, 'nothing was saved');
      tell(`Torpor: nothing was saved before ${inWords[event]}: ${sentenceOf(error)}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    this.#peer?.[Symbol.dispose]();
    await this.#changes;
    await this.#saving;
    this.#release();
  }
}

/** One line each. Pure. */
export function sentencesOf(event: PowerEvent, unsaved: readonly Unsaved[]): string[] {
  return unsaved.map(({ name, user, why }) =>
    `Torpor: ${name} of ${user} was not saved before ${inWords[event]}: ${why}`.replaceAll(/\p{Cc}+/gu, ' '),
  );
}
