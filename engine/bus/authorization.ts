/**
 * Who may call what. The engine's own rule is that users touch what is theirs and root touches all; each method's handler keeps
 * it. Where there is polkit, an administrator's rule can forbid users what is theirs, and who is authorised as an
 * administrator acts as root for one call. Where polkit is missing, broken or does not answer, the engine's rule stands as it is.
 */
import { DBusError, Message, Variant } from '@jellybrick/dbus-next';
import type { BusConnection } from '../../api/connection.ts';
import type { EngineMethods } from '../../api/engine1.ts';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { Logger } from '../log.ts';
import type { Caller } from '../workload/registry.ts';

/** Those of packaging/polkit/io.github.torpor.policy that a method asks for, without what they have in common. */
export type Action = 'own' | 'others' | 'settings' | 'encryption' | 'kexec';

interface Rule {
  /** Polkit can forbid it to a user, also for what is theirs. */
  own?: true;
  /** What lets a user act as root where the engine's rule refuses: only where nothing has been done by then. */
  administrator?: Exclude<Action, 'own'>;
}

const free: Rule = {};
const own: Rule = { own: true };
const workload: Rule = { own: true, administrator: 'others' };
const view: Rule = { administrator: 'others' };

/**
 * What each method asks. Nobody acts as root where that would make something root's (`run`, `import`), would have root
 * read or write at a path of the caller's (`export`), or would give back what the caller could not open (`exec`, `picture`).
 */
export const rules: Readonly<Record<Exclude<keyof EngineMethods, 'subscribe'>, Rule>> = {
  profiles: free,
  takeBack: own,
  plugins: free,
  registerPlugin: free,
  run: own,
  list: free,
  get: view,
  inspect: view,
  suspend: workload,
  suspendSet: workload,
  planNap: view,
  nap: workload,
  wake: workload,
  memory: free,
  neverNap: free,
  setNeverNap: own,
  watchPressure: free,
  resume: workload,
  resumeSet: workload,
  saveSession: own,
  restoreSession: own,
  sessions: free,
  forgetSession: workload,
  sessionPolicy: free,
  setSessionPolicy: { own: true, administrator: 'settings' },
  planKexec: { administrator: 'kexec' },
  kexec: { administrator: 'kexec' },
  arrival: free,
  cancel: workload,
  end: workload,
  forget: workload,
  exec: own,
  windows: view,
  windowIcon: view,
  activateWindow: workload,
  closeWindows: workload,
  snapshots: view,
  setInterval: workload,
  endInterval: workload,
  remove: workload,
  keep: workload,
  picture: free,
  verify: own,
  export: own,
  import: own,
  collect: own,
  settings: { administrator: 'settings' },
  changeSettings: { administrator: 'settings' },
  encryption: { administrator: 'encryption' },
  changeEncryption: { administrator: 'encryption' },
  doctor: free,
};

/** `unknown`: there is nobody to ask. */
export type Answer = 'yes' | 'no' | 'unknown';

export interface Authority {
  /** @param isInteractive whether the caller's user may be asked for a password. */
  ask(action: Action, connection: string, method: string, isInteractive: boolean): Promise<Answer>;
}

/** A call by somebody, which is done at the caller's rights, or at root's. */
export interface Asked<T> {
  caller: Caller & { connection: string };
  method: keyof typeof rules;
  isInteractive: boolean;
  run: (as: Caller) => Promise<T>;
}

/** @throws TorporError `not-permitted` where polkit forbids it, or the engine's rule does and polkit allows no more. */
export async function authorised<T>(
  { caller, method, isInteractive, run }: Asked<T>,
  authority: Authority | undefined,
  log: Logger,
): Promise<T> {
  const rule = rules[method];
  if (authority === undefined || caller.uid === 0) return run(caller);
  const ask = (action: Action) => authority.ask(action, caller.connection, method, isInteractive);
  if (rule.own && (await ask('own')) === 'no')
    throw new TorporError(
      'not-permitted',
      'A rule of this machine does not let you do that with Torpor.',
      'Ask its administrator about the polkit action io.github.torpor.own.',
    );
  try {
    return await run(caller);
  } catch (error) {
    const { administrator } = rule;
    const isRefused = error instanceof TorporError && error.code === 'not-permitted';
    if (!isRefused || administrator === undefined || (await ask(administrator)) !== 'yes') throw error;
    log.info({ uid: caller.uid, method, action: administrator }, 'acts as root by polkit');
    // Without connection and process, which are no session of root's.
    return run({ uid: 0 });
  }
}

const polkit = {
  destination: 'org.freedesktop.PolicyKit1',
  path: '/org/freedesktop/PolicyKit1/Authority',
  interface: 'org.freedesktop.PolicyKit1.Authority',
};
const bus = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};
const allowUserInteraction = 1;
/** For an answer that needs nobody. */
const answerLimitMs = 5000;
/** For somebody who types a password. */
const passwordLimitMs = 3 * 60_000;

type Result = 'yes' | 'no' | 'with password';

export class Polkit implements Authority {
  readonly #connection: BusConnection;
  readonly #log: Logger;
  /** It has left a question unanswered, and nobody waits for it again before that is answered or it has ended. */
  #hangs = false;
  #problem: string | undefined;
  #questions = 0;

  constructor(connection: BusConnection, log: Logger) {
    this.#connection = connection;
    this.#log = log;
  }

  async ask(action: Action, connection: string, method: string, isInteractive: boolean): Promise<Answer> {
    if (this.#hangs) return 'unknown';
    let result: Result;
    try {
      result = await this.#check(action, connection, method, false);
    } catch (error) {
      // Polkit cannot look at who has left the bus with the call, which is no way around a rule that forbids it.
      if (isOfPolkit(error) && (await this.#hasLeft(connection))) {
        this.#log.info({ action, method }, 'the caller left before polkit could look at it');
        return 'no';
      }
      this.#tell(sentenceOf(error));
      return 'unknown';
    }
    if (this.#problem !== undefined) this.#log.info('polkit answers again');
    this.#problem = undefined;
    if (result !== 'with password') return result;
    if (!isInteractive) return 'no';
    try {
      return (await this.#check(action, connection, method, true)) === 'yes' ? 'yes' : 'no';
    } catch (error) {
      // It has answered: without the password it is forbidden.
      this.#log.info({ action, method, reason: sentenceOf(error) }, 'nobody was authenticated');
      return 'no';
    }
  }

  async #hasLeft(connection: string): Promise<boolean> {
    const question = new Message({ ...bus, member: 'NameHasOwner', signature: 's', body: [connection] });
    return (await this.#connection.call(question)).body[0] === false;
  }

  /** Once for each reason. */
  #tell(reason: string): void {
    if (reason !== this.#problem)
      this.#log.warn({ reason }, "polkit cannot be asked; the engine's own rule counts");
    this.#problem = reason;
  }

  async #check(action: Action, connection: string, method: string, isInteractive: boolean): Promise<Result> {
    const subject = ['system-bus-name', { name: new Variant('s', connection) }];
    const question = `torpor-${process.pid}-${++this.#questions}`;
    const flags = isInteractive ? allowUserInteraction : 0;
    const answered = this.#connection.call(
      new Message({
        ...polkit,
        member: 'CheckAuthorization',
        signature: '(sa{sv})sa{ss}us',
        body: [subject, `io.github.torpor.${action}`, { method }, flags, question],
      }),
    );
    const reply = await this.#within(answered, isInteractive ? passwordLimitMs : answerLimitMs);
    if (reply === undefined && isInteractive) {
      this.#cancel(question);
      return 'no';
    }
    if (reply === undefined) {
      this.#hangs = true;
      const goOn = () => {
        this.#hangs = false;
      };
      answered.then(goOn, goOn);
      throw new Error(`it has not answered in ${answerLimitMs / 1000} seconds`);
    }
    const [[isAuthorised, isChallenge]] = reply.body as [[boolean, boolean, unknown]];
    if (isAuthorised) return 'yes';
    return isChallenge ? 'with password' : 'no';
  }

  /** @returns undefined where it takes longer. */
  async #within(answered: Promise<Message>, limitMs: number): Promise<Message | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), limitMs);
    });
    try {
      return await Promise.race([answered, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #cancel(question: string): void {
    const message = new Message({
      ...polkit,
      member: 'CancelCheckAuthorization',
      signature: 's',
      body: [question],
    });
    // It may have been answered, or have gone, meanwhile.
    this.#connection.call(message).catch(() => {});
  }
}

/** Whether polkit itself has answered with it, and not the bus for one that is not there. */
const isOfPolkit = (error: unknown) =>
  error instanceof DBusError && (error.reply as Message | null)?.sender !== bus.destination;
