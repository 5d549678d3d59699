/**
 * What a plugin in TypeScript needs beside its own five functions: it answers the engine on its bus, and ends with it.
 * docs/plugins.md says when each function is called; plugins/template-typescript is a plugin to begin with.
 */
import { Message, MessageType } from '@jellybrick/dbus-next';
import { busName, readEngineAddress, watchEngine } from '../api/client.ts';
import { BusConnection } from '../api/connection.ts';
import { objectPath as enginePath } from '../api/engine1.ts';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { enginePaths } from '../api/paths.ts';
import { interfaceName, introspectionXml, methods, objectPath, type PluginMethods } from '../api/plugin1.ts';
import { decode, encode, errorFromReply, errorReply, type MethodWire } from '../api/wire.ts';

export interface ServeOptions {
  /** Of the engine's bus; otherwise as the engine tells the programs that it starts, or where the running one is. */
  address?: string;
  /** Called once before the process ends: when the engine has gone, or at SIGTERM. The engine waits for 2 s. */
  end?: () => Promise<void>;
}

/**
 * Registers a plugin and answers the engine from then on. Whatever a function throws reaches the engine as an error with
 * that message. Calls about the same workload come one after the other, since an Abort may arrive while a PreSuspend that
 * took too long is still at it. When the engine has gone the process ends: whoever started it starts it again.
 * @throws TorporError where there is no engine, or it refuses.
 */
export async function servePlugin(
  name: string,
  plugin: PluginMethods,
  { address, end = async () => {} }: ServeOptions = {},
): Promise<void> {
  const connection = await BusConnection.open(address ?? (await engineAddress()));
  const service = new PluginService(connection, plugin);
  connection.bus.addMethodHandler((call: Message) => service.receive(call));
  let isEnding = false;
  const finish = () => {
    if (isEnding) return;
    isEnding = true;
    end()
      .catch((error: unknown) => void process.stderr.write(`${sentenceOf(error)}\n`))
      .finally(() => process.exit(0));
  };
  void watchEngine(connection).then(finish);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, finish);
  const register = new Message({
    destination: busName,
    path: enginePath,
    interface: busName,
    member: 'RegisterPlugin',
    signature: 's',
    body: [name],
  });
  await connection.call(register).catch((error: unknown) => {
    throw errorFromReply(error);
  });
}

async function engineAddress(): Promise<string> {
  const address = process.env.TORPOR_BUS_ADDRESS ?? (await readEngineAddress(enginePaths()))?.address;
  if (address) return address;
  throw new TorporError('failed', 'No engine runs.', 'Start it by `torpor ps`.');
}

class PluginService {
  readonly #connection: BusConnection;
  readonly #plugin: PluginMethods;
  /** The last call about each workload that is not answered yet. */
  readonly #last = new Map<string, Promise<unknown>>();

  constructor(connection: BusConnection, plugin: PluginMethods) {
    this.#connection = connection;
    this.#plugin = plugin;
  }

  receive(call: Message): boolean {
    if (call.type !== MessageType.METHOD_CALL || call.path !== objectPath) return false;
    const answer = this.#answerTo(call);
    if (answer === undefined) return false;
    answer.then(
      (reply) => this.#connection.bus.send(reply),
      (error: unknown) => this.#connection.bus.send(errorReply(call, error)),
    );
    return true;
  }

  #answerTo(call: Message): Promise<Message> | undefined {
    if (call.interface === 'org.freedesktop.DBus.Introspectable')
      return Promise.resolve(Message.newMethodReturn(call, 's', [introspectionXml]));
    if (call.interface !== interfaceName) return undefined;
    const entry = Object.entries(methods).find(([, { member }]) => member === call.member);
    if (entry === undefined) return undefined;
    return this.#invoke(call, ...(entry as [keyof PluginMethods, MethodWire]));
  }

  async #invoke(call: Message, name: keyof PluginMethods, wire: MethodWire): Promise<Message> {
    const signature = wire.inputs.map((input) => input.signature).join('');
    if (call.signature !== signature)
      throw new TorporError('usage', `${call.member} takes arguments of the form "${signature}".`);
    const values = wire.inputs.map((input, index) => decode(input, call.body[index]));
    const act = this.#plugin[name] as (...args: unknown[]) => Promise<unknown>;
    const result = await this.#inTurn(values[0], () => act.apply(this.#plugin, values));
    if (wire.output === undefined) return Message.newMethodReturn(call);
    return Message.newMethodReturn(call, wire.output.signature, [encode(wire.output, result)]);
  }

  async #inTurn<T>(about: unknown, act: () => Promise<T>): Promise<T> {
    if (typeof about !== 'object' || about === null || !('id' in about)) return act();
    const key = String(about.id);
    const turn = (this.#last.get(key) ?? Promise.resolve()).then(act, act);
    this.#last.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.#last.get(key) === turn) this.#last.delete(key);
    }
  }
}
