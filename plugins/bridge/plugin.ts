/** The plugin on the engine's bus: the interface io.github.torpor.Plugin1, answered by a few functions. */
import { Message, MessageType } from '@jellybrick/dbus-next';
import { busName } from '../../api/client.ts';
import type { BusConnection } from '../../api/connection.ts';
import { objectPath as enginePath } from '../../api/engine1.ts';
import {
  interfaceName,
  introspectionXml,
  methods,
  objectPath,
  type PluginMethods,
} from '../../api/plugin1.ts';
import { decode, encode, errorFromReply, errorReply, type MethodWire } from '../../api/wire.ts';

/** Answers the engine from now on, and registers under this name. @throws TorporError where the engine refuses. */
export async function servePlugin(
  connection: BusConnection,
  name: string,
  plugin: PluginMethods,
): Promise<void> {
  connection.bus.addMethodHandler((call: Message) => {
    if (call.type !== MessageType.METHOD_CALL || call.path !== objectPath) return false;
    const answer = answerTo(call, plugin);
    if (answer === undefined) return false;
    answer.then(
      (reply) => connection.bus.send(reply),
      (error: unknown) => connection.bus.send(errorReply(call, error)),
    );
    return true;
  });
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

function answerTo(call: Message, plugin: PluginMethods): Promise<Message> | undefined {
  if (call.interface === 'org.freedesktop.DBus.Introspectable')
    return Promise.resolve(Message.newMethodReturn(call, 's', [introspectionXml]));
  const entry = Object.entries(methods).find(([, { member }]) => member === call.member);
  if (entry === undefined || call.interface !== interfaceName) return undefined;
  return invoke(call, plugin, ...(entry as [keyof PluginMethods, MethodWire]));
}

async function invoke(
  call: Message,
  plugin: PluginMethods,
  name: keyof PluginMethods,
  wire: MethodWire,
): Promise<Message> {
  const values = wire.inputs.map((input, index) => decode(input, call.body[index]));
  const result = await (plugin[name] as (...args: unknown[]) => Promise<unknown>)(...values);
  if (wire.output === undefined) return Message.newMethodReturn(call);
  return Message.newMethodReturn(call, wire.output.signature, [encode(wire.output, result)]);
}
