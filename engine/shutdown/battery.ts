/**
 * A battery that is nearly empty, as UPower has it: its display device stands for all that the machine runs on.
 * https://upower.freedesktop.org/docs/Device.html
 */
import type { Message } from '@jellybrick/dbus-next';
import type { BusConnection } from '../../api/connection.ts';
import { sentenceOf } from '../../api/errors.ts';
import { Peer, type PeerName } from '../../api/peer.ts';
import type { Logger } from '../log.ts';

const power: PeerName = {
  name: 'org.freedesktop.UPower',
  path: '/org/freedesktop/UPower',
  interface: 'org.freedesktop.UPower',
};
const deviceInterface = 'org.freedesktop.UPower.Device';
/** Of UPower's warning levels: `critical`; `action` comes after it. */
const critical = 4;

/** Tells once each time the battery gets low, also where it is when UPower comes. */
export async function watchBattery(
  connection: BusConnection,
  isLow: () => void,
  log: Logger,
): Promise<Disposable> {
  let path: string | undefined;
  let wasLow = false;
  const look = (level: unknown) => {
    const low = Number(level) >= critical;
    if (low && !wasLow) isLow();
    wasLow = low;
  };
  const begin = async (peer: Peer) => {
    path = String(await peer.ask('GetDisplayDevice'));
    look(await peer.property('WarningLevel', { path, interface: deviceInterface }));
  };
  return await Peer.follow(connection, power, {
    came: (peer) => {
      begin(peer).catch((error: unknown) =>
        log.warn({ reason: sentenceOf(error) }, 'UPower does not tell of the battery'),
      );
    },
    left: () => {
      path = undefined;
    },
    signal: ({ member, path: of, body }: Message) => {
      if (member !== 'PropertiesChanged' || of !== path || body[0] !== deviceInterface) return;
      const changed = (body[1] as Record<string, { value: unknown }>).WarningLevel;
      if (changed !== undefined) look(changed.value);
    },
  });
}
