/**
 * The typed client of the engine: every method of its interface as a function, its signals as listeners. The
 * functions are made from the table that `npm run generate` derives from the introspection XML.
 */
import { readFile } from 'node:fs/promises';
import { Message, MessageType } from '@jellybrick/dbus-next';
import { BusConnection } from './connection.ts';
import {
  type EngineMethods,
  type EngineSignals,
  interfaceName,
  methods,
  objectPath,
  signals,
} from './engine1.ts';
import type { EngineAddress, EnginePaths } from './paths.ts';
import { type ArgumentWire, decode, encode, errorFromReply, type MethodWire } from './wire.ts';

/** The bus name the engine owns. */
export const busName = interfaceName;

const busDaemon = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};

export interface EngineClient extends EngineMethods, AsyncDisposable {
  /** Calls the listener for each such signal until the returned function is called. Needs `subscribe()` once. */
  on<S extends keyof EngineSignals>(signal: S, listener: (value: EngineSignals[S]) => void): () => void;
  /** Calls the listener once when the engine has ended, whether the bus goes with it or stays. */
  onLost(listener: () => void): void;
}

/** The address that a running engine left, or undefined where none runs. */
export async function readEngineAddress(paths: EnginePaths): Promise<EngineAddress | undefined> {
  try {
    const value = JSON.parse(await readFile(paths.addressFile, 'utf8')) as EngineAddress;
    process.kill(value.pid, 0);
    return value;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPERM') {
      return JSON.parse(await readFile(paths.addressFile, 'utf8')) as EngineAddress;
    }
    return undefined;
  }
}

/** Resolves when the engine has left the bus or the bus has gone; never where the connection was closed here. */
export function watchEngine(connection: BusConnection): Promise<void> {
  const { bus } = connection;
  return new Promise((resolve) => {
    const lost = () => {
      bus.off('message', look);
      resolve();
    };
    const look = ({ sender, member, body }: Message) => {
      if (sender !== busDaemon.destination || member !== 'NameOwnerChanged') return;
      const [name, before] = body as string[];
      if (name === busName && before !== '') lost();
    };
    bus.on('message', look);
    connection.onLost(lost);
    const rule = `type='signal',sender='${busDaemon.destination}',member='NameOwnerChanged',arg0='${busName}'`;
    const hasOwner = new Message({ ...busDaemon, member: 'NameHasOwner', signature: 's', body: [busName] });
    connection
      .addMatch(rule)
      // It may have ended before anyone looked.
      .then(() => connection.call(hasOwner))
      .then((reply) => reply.body[0] === true || lost())
      // The connection has ended, which is told above, or was closed here.
      .catch(() => {});
  });
}

/** DBUS_MESSAGE_FLAG_ALLOW_INTERACTIVE_AUTHORIZATION. */
const allowInteraction = 4;

export interface ClientOptions {
  /** Polkit may ask the user for a password, for what an administrator may do: only where the user has just asked for that. */
  isInteractive?: boolean;
}

/** Connects to the engine at this bus address. @throws Error where it does not answer. */
export async function connectEngine(
  address: string,
  { isInteractive = false }: ClientOptions = {},
): Promise<EngineClient> {
  const connection = await BusConnection.open(address);

  async function invoke(wire: MethodWire, values: unknown[]): Promise<unknown> {
    const message = new Message({
      destination: busName,
      path: objectPath,
      interface: interfaceName,
      member: wire.member,
      flags: isInteractive ? allowInteraction : 0,
      signature: wire.inputs.map((input) => input.signature).join(''),
      body: wire.inputs.map((input, index) => encode(input, values[index])),
    });
    try {
      const reply = await connection.call(message);
      return wire.output === undefined ? undefined : decode(wire.output, reply.body[0]);
    } catch (error) {
      throw errorFromReply(error);
    }
  }

  const functions = Object.fromEntries(
    Object.entries(methods).map(([name, wire]) => [name, (...values: unknown[]) => invoke(wire, values)]),
  ) as unknown as EngineMethods;

  let ended: Promise<void> | undefined;

  return {
    ...functions,
    on(signal, listener) {
      const { member, argument }: { member: string; argument: ArgumentWire } = signals[signal];
      const receive = (message: Message) => {
        if (message.type !== MessageType.SIGNAL) return;
        if (message.interface !== interfaceName || message.member !== member) return;
        listener(decode(argument, message.body[0]) as Parameters<typeof listener>[0]);
      };
      connection.bus.on('message', receive);
      return () => connection.bus.off('message', receive);
    },
    onLost: (listener) => {
      ended ??= watchEngine(connection);
      void ended.then(listener);
    },
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
}
