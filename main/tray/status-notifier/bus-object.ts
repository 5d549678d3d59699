/**
 * An object on a bus: its interfaces as tables, from which calls are answered and the introspection is written. The
 * library's own service classes answer a failed call with a stack trace and a property as whatever the field holds; here
 * signatures are checked before anything is called.
 */
import { type Message as BusMessage, DBusError, Message, MessageType, Variant } from '@jellybrick/dbus-next';
import type { BusConnection } from '../../../api/connection.ts';
import { sentenceOf } from '../../../api/errors.ts';
import { introspectionXml } from './introspection.ts';

/** An argument's name and its signature. */
type Argument = readonly [name: string, signature: string];

export interface BusMethod {
  readonly input: readonly Argument[];
  readonly output: readonly Argument[];
  /** @param args of the input's types. @returns values of the output's types. @throws DBusError */
  call(...args: unknown[]): unknown[];
}

export interface BusInterface {
  readonly name: string;
  readonly methods: Readonly<Record<string, BusMethod>>;
  readonly signals: Readonly<Record<string, readonly Argument[]>>;
  /** Signatures of the properties; all are read-only. */
  readonly properties: Readonly<Record<string, string>>;
  /** The value of a property that is listed. */
  get(property: string): unknown;
}

const invalidArguments = 'org.freedesktop.DBus.Error.InvalidArgs';
const signatureOf = (args: readonly Argument[]) => args.map(([, signature]) => signature).join('');

/** An error of the caller's, such as an id that there is not. */
export function invalid(sentence: string): DBusError {
  return new DBusError(invalidArguments, sentence);
}

export class BusObject implements Disposable {
  readonly #connection: BusConnection;
  readonly #path: string;
  readonly #interfaces: ReadonlyMap<string, BusInterface>;
  readonly #handler = (message: BusMessage) => this.#receive(message);

  /** Answers from now on. */
  constructor(connection: BusConnection, path: string, interfaces: readonly BusInterface[]) {
    this.#connection = connection;
    this.#path = path;
    this.#interfaces = new Map(
      [...interfaces, this.#propertiesInterface(), this.#introspectable()].map((one) => [one.name, one]),
    );
    connection.bus.addMethodHandler(this.#handler);
  }

  /** Sends a signal that is listed; to nobody where the bus has gone. */
  emit(interfaceName: string, signal: string, body: readonly unknown[]): void {
    const args = this.#interfaces.get(interfaceName)?.signals[signal];
    if (args === undefined) throw new TypeError(`there is no signal ${interfaceName}.${signal}`);
    this.#send(Message.newSignal(this.#path, interfaceName, signal, signatureOf(args), [...body]));
  }

  [Symbol.dispose](): void {
    this.#connection.bus.removeMethodHandler(this.#handler);
  }

  #receive(message: BusMessage): boolean {
    if (message.type !== MessageType.METHOD_CALL || message.path !== this.#path) return false;
    const method = this.#method(message);
    if (method === undefined) return false;
    this.#send(this.#answer(message, method));
    return true;
  }

  /** A call may leave out the interface; then the first that has such a method is meant. */
  #method(message: BusMessage): BusMethod | undefined {
    const candidates = message.interface
      ? [this.#interfaces.get(message.interface)]
      : [...this.#interfaces.values()];
    for (const candidate of candidates) {
      if (candidate !== undefined && Object.hasOwn(candidate.methods, message.member))
        return candidate.methods[message.member];
    }
    return undefined;
  }

  #answer(message: BusMessage, method: BusMethod): BusMessage {
    const signature = signatureOf(method.input);
    if ((message.signature ?? '') !== signature) {
      return Message.newError(
        message,
        invalidArguments,
        `${message.member} takes arguments of the form "${signature}".`,
      );
    }
    try {
      return Message.newMethodReturn(message, signatureOf(method.output), method.call(...message.body));
    } catch (error) {
      const type = error instanceof DBusError ? error.type : 'org.freedesktop.DBus.Error.Failed';
      return Message.newError(message, type, sentenceOf(error));
    }
  }

  /** The library throws when its stream has ended; who waits for an answer has lost the bus as well. */
  #send(message: BusMessage): void {
    try {
      this.#connection.bus.send(message);
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('stream is closed'))) throw error;
    }
  }

  #property(interfaceName: unknown, property: unknown): Variant {
    const owner = this.#interfaces.get(String(interfaceName));
    const name = String(property);
    const signature =
      owner !== undefined && Object.hasOwn(owner.properties, name) ? owner.properties[name] : undefined;
    if (owner === undefined || signature === undefined) {
      throw new DBusError(
        'org.freedesktop.DBus.Error.UnknownProperty',
        `There is no property ${String(interfaceName)}.${name}.`,
      );
    }
    return new Variant(signature, owner.get(name));
  }

  #introspectable(): BusInterface {
    return {
      name: 'org.freedesktop.DBus.Introspectable',
      methods: {
        Introspect: {
          input: [],
          output: [['xml', 's']],
          call: () => [introspectionXml(this.#interfaces.values())],
        },
      },
      signals: {},
      properties: {},
      get: () => undefined,
    };
  }

  #propertiesInterface(): BusInterface {
    return {
      name: 'org.freedesktop.DBus.Properties',
      methods: {
        Get: {
          input: [
            ['interface', 's'],
            ['property', 's'],
          ],
          output: [['value', 'v']],
          call: (interfaceName, property) => [this.#property(interfaceName, property)],
        },
        GetAll: {
          input: [['interface', 's']],
          output: [['values', 'a{sv}']],
          call: (interfaceName) => {
            const names = Object.keys(this.#interfaces.get(String(interfaceName))?.properties ?? {});
            return [Object.fromEntries(names.map((name) => [name, this.#property(interfaceName, name)]))];
          },
        },
        Set: {
          input: [
            ['interface', 's'],
            ['property', 's'],
            ['value', 'v'],
          ],
          output: [],
          call: (interfaceName, property) => {
            this.#property(interfaceName, property);
            throw new DBusError(
              'org.freedesktop.DBus.Error.PropertyReadOnly',
              `The property ${String(interfaceName)}.${String(property)} can only be read.`,
            );
          },
        },
      },
      signals: {},
      properties: {},
      get: () => undefined,
    };
  }
}
