/**
 * The engine on the bus: calls are decoded, given to the method with the caller's credentials, and answered. The
 * library's own service classes hide who calls, so messages are dispatched here, by the generated table.
 */
import { Message, MessageType, Variant } from '@jellybrick/dbus-next';
import { busName } from '../../api/client.ts';
import type { BusConnection } from '../../api/connection.ts';
import {
  type EngineMethods,
  type EngineSignals,
  interfaceName,
  introspectionXml,
  methods,
  objectPath,
  signals,
} from '../../api/engine1.ts';
import { TorporError } from '../../api/errors.ts';
import { type ArgumentWire, decode, encode, errorReply, type MethodWire } from '../../api/wire.ts';
import type { Logger } from '../log.ts';
import type { Caller } from '../workload/registry.ts';
import { type Authority, authorised } from './authorization.ts';

/** The engine's methods, each with the caller first. */
export type EngineHandlers = {
  [M in keyof EngineMethods]: (
    caller: Caller,
    ...args: Parameters<EngineMethods[M]>
  ) => ReturnType<EngineMethods[M]>;
};

type KnownCaller = Caller & { connection: string };
type Handler = (caller: Caller, ...args: unknown[]) => Promise<unknown>;

const dbus = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};
/** DBUS_MESSAGE_FLAG_ALLOW_INTERACTIVE_AUTHORIZATION: the caller's user may be asked for a password. */
const allowInteraction = 4;
/** DBUS_NAME_FLAG_DO_NOT_QUEUE and the reply that says the name is ours. */
const doNotQueue = 4;
const primaryOwner = 1;

export class BusService {
  readonly #connection: BusConnection;
  readonly #handlers: Omit<EngineHandlers, 'subscribe'>;
  readonly #properties: Readonly<Record<string, string>>;
  readonly #log: Logger;
  readonly #isPlugin: (connection: string) => boolean;
  readonly #authority: Authority | undefined;
  readonly #left: (connection: string) => void;
  readonly #callers = new Map<string, KnownCaller>();
  readonly #subscribers = new Map<string, Caller>();
  #lastCall = Date.now();

  /**
   * @param isPlugin whether a connection is a plugin's, which is there for others and no client.
   * @param authority who is asked beside the engine's own rule.
   */
  constructor(
    connection: BusConnection,
    handlers: Omit<EngineHandlers, 'subscribe'>,
    properties: Readonly<Record<string, string>>,
    log: Logger,
    isPlugin: (connection: string) => boolean = () => false,
    authority?: Authority,
    left: (connection: string) => void = () => {},
  ) {
    this.#connection = connection;
    this.#handlers = handlers;
    this.#properties = properties;
    this.#log = log;
    this.#isPlugin = isPlugin;
    this.#authority = authority;
    this.#left = left;
  }

  /** When a client last called or listened, in milliseconds since the epoch. */
  get lastCall(): number {
    const isHeard = [...this.#subscribers.keys()].some((name) => !this.#isPlugin(name));
    return isHeard ? Date.now() : this.#lastCall;
  }

  /**
   * Takes the engine's name and answers from then on.
   * @throws TorporError `failed` where another engine has the name.
   */
  async start(): Promise<void> {
    this.#connection.bus.addMethodHandler((message: Message) => this.#receive(message));
    this.#connection.bus.on('message', (message: Message) => this.#forgetLeaver(message));
    await this.#connection.addMatch(
      "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
    );
    const reply = await this.#callBus('RequestName', 'su', [busName, doNotQueue]);
    if (reply.body[0] !== primaryOwner) {
      throw new TorporError('failed', 'Another engine already answers on this bus.', 'See `torpor doctor`.');
    }
  }

  /** Sends a signal to the subscribers that may see what belongs to this user; where it belongs to nobody, to all. */
  emit<S extends keyof EngineSignals>(
    signal: S,
    ownerUid: number | undefined,
    value: EngineSignals[S],
  ): void {
    const { member, argument }: { member: string; argument: ArgumentWire } = signals[signal];
    for (const [name, caller] of this.#subscribers) {
      if (ownerUid !== undefined && caller.uid !== 0 && caller.uid !== ownerUid) continue;
      const message = Message.newSignal(objectPath, interfaceName, member, argument.signature, [
        encode(argument, value),
      ]);
      message.destination = name;
      try {
        this.#connection.bus.send(message);
      } catch (error) {
        this.#log.error({ err: error, member }, 'a signal cannot be sent');
      }
    }
  }

  #callBus(member: string, signature: string, body: unknown[]): Promise<Message> {
    return this.#connection.call(new Message({ ...dbus, member, signature, body }));
  }

  #receive(message: Message): boolean {
    if (message.type !== MessageType.METHOD_CALL || message.path !== objectPath) return false;
    const answer = this.#answerTo(message);
    if (answer === undefined) return false;
    if (!this.#isPlugin(message.sender)) this.#lastCall = Date.now();
    answer
      .then((reply) => this.#connection.bus.send(reply))
      .catch((error: unknown) => {
        // First the answer: where the disk is full, the log may fail.
        this.#connection.bus.send(errorReply(message, error));
        if (!(error instanceof TorporError))
          this.#log.error({ err: error, member: message.member }, 'defect in a method');
      })
      // What cannot be marshalled at all is not to end the engine.
      .catch((error: unknown) => this.#log.error({ err: error, member: message.member }, 'no answer sent'));
    return true;
  }

  #answerTo(message: Message): Promise<Message> | undefined {
    switch (message.interface) {
      case interfaceName:
        return this.#dispatch(message);
      case 'org.freedesktop.DBus.Introspectable':
        return Promise.resolve(Message.newMethodReturn(message, 's', [introspectionXml]));
      case 'org.freedesktop.DBus.Properties':
        return message.member === 'Get' ? this.#property(message) : undefined;
      default:
        return undefined;
    }
  }

  async #property(message: Message): Promise<Message> {
    const value = this.#properties[String(message.body[1])];
    if (value === undefined)
      throw new TorporError('usage', `The engine has no property ${String(message.body[1])}.`);
    return Message.newMethodReturn(message, 'v', [new Variant('s', value)]);
  }

  async #dispatch(message: Message): Promise<Message> {
    const caller = await this.#identify(message.sender);
    if (message.member === methods.subscribe.member) {
      this.#subscribers.set(message.sender, caller);
      return Message.newMethodReturn(message);
    }
    const entry = Object.entries(methods).find(([, wire]) => wire.member === message.member);
    if (entry === undefined) throw new TorporError('usage', `The engine has no method ${message.member}.`);
    const [name, wire] = entry as [Exclude<keyof EngineMethods, 'subscribe'>, MethodWire];
    const signature = wire.inputs.map((input) => input.signature).join('');
    if (message.signature !== signature) {
      throw new TorporError('usage', `${message.member} takes arguments of the form "${signature}".`);
    }
    const args = wire.inputs.map((input, index) => decode(input, message.body[index]));
    const handler = this.#handlers[name] as Handler;
    const result = await authorised(
      {
        caller,
        method: name,
        isInteractive: (message.flags & allowInteraction) !== 0,
        run: (as) => handler.call(this.#handlers, as, ...args),
      },
      this.#authority,
      this.#log,
    );
    if (wire.output === undefined) return Message.newMethodReturn(message);
    return Message.newMethodReturn(message, wire.output.signature, [encode(wire.output, result)]);
  }

  async #identify(sender: string): Promise<KnownCaller> {
    const known = this.#callers.get(sender);
    if (known !== undefined) return known;
    const [user, process] = await Promise.all([
      this.#callBus('GetConnectionUnixUser', 's', [sender]),
      this.#callBus('GetConnectionUnixProcessID', 's', [sender]),
    ]);
    const caller = { uid: Number(user.body[0]), connection: sender, pid: Number(process.body[0]) };
    this.#callers.set(sender, caller);
    return caller;
  }

  #forgetLeaver(message: Message): void {
    if (message.sender !== 'org.freedesktop.DBus' || message.member !== 'NameOwnerChanged') return;
    const [name, , owner] = message.body as [string, string, string];
    if (owner !== '') return;
    this.#callers.delete(name);
    this.#subscribers.delete(name);
    this.#left(name);
  }
}
