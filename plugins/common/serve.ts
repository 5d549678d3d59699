/** The plugin's end of io.github.torpor.Plugin1: its methods on the engine's bus, checked both ways, and its registration. */
import { Message } from '@jellybrick/dbus-next';
import { busName } from '../../api/client.ts';
import { BusConnection } from '../../api/connection.ts';
import { interfaceName as engineInterface, objectPath as enginePath } from '../../api/engine1.ts';
import { interfaceName, methods, objectPath, type PluginMethods } from '../../api/plugin1.ts';
import { decode, encode, errorReply, type MethodWire } from '../../api/wire.ts';

type Call = (...args: unknown[]) => Promise<unknown>;

/** Answers for a plugin from now on. @returns the connection, with whose end the engine has gone. */
export async function servePlugin(
  address: string,
  name: string,
  plugin: PluginMethods,
): Promise<BusConnection> {
  const connection = await BusConnection.open(address);
  connection.bus.addMethodHandler((call: Message) => {
    const found = Object.entries<MethodWire>(methods).find(([, { member }]) => member === call.member);
    if (call.path !== objectPath || call.interface !== interfaceName || found === undefined) return false;
    const [method, wire] = found;
    answer(call, wire, plugin[method as keyof PluginMethods] as Call)
      .catch((error: unknown) => errorReply(call, error))
      .then((reply) => connection.bus.send(reply));
    return true;
  });
  await connection.call(
    new Message({
      destination: busName,
      path: enginePath,
      interface: engineInterface,
      member: 'RegisterPlugin',
      signature: 's',
      body: [name],
    }),
  );
  return connection;
}

async function answer(call: Message, { inputs, output }: MethodWire, method: Call): Promise<Message> {
  const result = await method(...inputs.map((input, index) => decode(input, call.body[index])));
  return output === undefined
    ? Message.newMethodReturn(call, '', [])
    : Message.newMethodReturn(call, output.signature, [encode(output, result)]);
}
