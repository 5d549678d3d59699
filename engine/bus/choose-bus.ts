/**
 * Which bus the engine answers on: the system bus where there is one that lets it have its name, otherwise a private
 * one. Engines beside the default one always have a private bus, because a name has one owner.
 */
import { BusConnection } from '../../api/connection.ts';
import { sentenceOf } from '../../api/errors.ts';
import { defaultStateDir, type EnginePaths, systemBusAddress } from '../../api/paths.ts';
import type { Logger } from '../log.ts';
import { type PrivateBus, startPrivateBus } from './private-bus.ts';

export interface ChosenBus extends AsyncDisposable {
  readonly kind: 'system' | 'private';
  readonly address: string;
  readonly connection: BusConnection;
}

/**
 * Connects to the system bus if this is the default engine and `start` succeeds there; otherwise to a private bus.
 * `start` takes the engine's name on the connection, and throws where that is not allowed.
 */
export async function chooseBus(
  paths: EnginePaths,
  log: Logger,
  start: (connection: BusConnection, address: string, kind: ChosenBus['kind']) => Promise<void>,
): Promise<ChosenBus> {
  const system =
    paths.tag === 'default' || paths.stateDir === defaultStateDir ? systemBusAddress() : undefined;
  if (system !== undefined) {
    try {
      const connection = await BusConnection.open(system);
      await start(connection, system, 'system');
      return {
        kind: 'system',
        address: system,
        connection,
        [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
      };
    } catch (error) {
      log.warn({ reason: sentenceOf(error) }, 'the system bus does not take the engine; using a private one');
    }
  }
  const daemon: PrivateBus = await startPrivateBus(paths);
  const connection = await BusConnection.open(daemon.address);
  await start(connection, daemon.address, 'private');
  return {
    kind: 'private',
    address: daemon.address,
    connection,
    async [Symbol.asyncDispose]() {
      await connection[Symbol.asyncDispose]();
      await daemon[Symbol.asyncDispose]();
    },
  };
}
