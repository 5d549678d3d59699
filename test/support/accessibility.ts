/**
 * What applications of a desktop put on the screen, by its accessible names and places: a client of AT-SPI that listens
 * as a screen reader does. It knows what has appeared since it was opened.
 */
import { Message, MessageType, type Variant } from '@jellybrick/dbus-next';
import { BusConnection } from '../../api/connection.ts';
import type { Box } from '../../api/rfb/picture.ts';

export interface Accessible {
  readonly role: string;
  readonly name: string;
  readonly box: Box;
  readonly isEnabled: boolean;
  readonly isChecked: boolean;
}

const dbus = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};
const registry = {
  destination: 'org.a11y.atspi.Registry',
  path: '/org/a11y/atspi/registry',
  interface: 'org.a11y.atspi.Registry',
};
const accessible = 'org.a11y.atspi.Accessible';
const coordinatesOfScreen = 0;
/** Bits of the set of states, from AT-SPI's enumeration. */
const state = { checked: 1 << 4, enabled: 1 << 8, showing: 1 << 25 } as const;

export class Accessibility implements AsyncDisposable {
  readonly #connection: BusConnection;
  /** Bus name and path of what has appeared. */
  readonly #seen = new Map<string, { destination: string; path: string }>();

  private constructor(connection: BusConnection) {
    this.#connection = connection;
  }

  /** Listens from now on to the applications of this session. */
  static async open(sessionBus: string): Promise<Accessibility> {
    await using session = await BusConnection.open(sessionBus);
    const bus = { destination: 'org.a11y.Bus', path: '/org/a11y/bus', interface: 'org.a11y.Bus' };
    const address = await session.call(new Message({ ...bus, member: 'GetAddress' }));
    const opened = new Accessibility(await BusConnection.open(String(address.body[0])));
    await opened.#listen();
    return opened;
  }

  async #listen(): Promise<void> {
    this.#connection.bus.on('message', ({ type, member, sender, path, body }) => {
      if (type !== MessageType.SIGNAL || member !== 'StateChanged' || body[0] !== 'showing') return;
      this.#seen.set(`${sender}${path}`, { destination: sender, path });
    });
    const rule = "type='signal',interface='org.a11y.atspi.Event.Object',member='StateChanged'";
    await this.#call(dbus, 'AddMatch', 's', [rule]);
    await this.#call(registry, 'RegisterEvent', 's', ['object:state-changed:showing']);
  }

  /** What has appeared and is on the screen now, from the top to the bottom. */
  async showing(...roles: string[]): Promise<Accessible[]> {
    const all = await Promise.all([...this.#seen.values()].map((at) => this.#describe(at)));
    return all
      .filter((one) => one !== undefined)
      .filter(({ role }) => roles.includes(role))
      .sort((a, b) => a.box.y - b.box.y);
  }

  /** Undefined where it is not on the screen any more. */
  async #describe(at: { destination: string; path: string }): Promise<Accessible | undefined> {
    try {
      const of = { ...at, interface: accessible };
      const [states] = (await this.#call(of, 'GetState')) as [number[]];
      const bits = states[0] ?? 0;
      if ((bits & state.showing) === 0) return undefined;
      const [role] = await this.#call(of, 'GetRoleName');
      const properties = { ...at, interface: 'org.freedesktop.DBus.Properties' };
      const [name] = await this.#call(properties, 'Get', 'ss', [accessible, 'Name']);
      const component = { ...at, interface: 'org.a11y.atspi.Component' };
      const [extents] = await this.#call(component, 'GetExtents', 'u', [coordinatesOfScreen]);
      const [x, y, width, height] = extents as [number, number, number, number];
      return {
        role: String(role),
        name: String((name as Variant).value),
        box: { x, y, width, height },
        isEnabled: (bits & state.enabled) !== 0,
        isChecked: (bits & state.checked) !== 0,
      };
    } catch {
      return undefined;
    }
  }

  async #call(
    to: { destination: string; path: string; interface: string },
    member: string,
    signature = '',
    body: unknown[] = [],
  ): Promise<unknown[]> {
    return (await this.#connection.call(new Message({ ...to, member, signature, body }))).body;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}
