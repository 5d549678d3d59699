/**
 * Another service on a bus, which may come and go: who owns its name, what it says, and calls to it. Any user of a system
 * bus can send a signal to one client alone, past its match rules, so one counts only where the owner of the name sent it.
 */
import { Message, MessageType } from '@jellybrick/dbus-next';
import type { BusConnection } from './connection.ts';

export interface PeerName {
  readonly name: string;
  readonly path: string;
  readonly interface: string;
}

export interface PeerListener {
  /** It is there, from the beginning or again. */
  came(peer: Peer): void;
  left?(): void;
  signal?(message: Message): void;
}

const daemon = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};

export class Peer implements Disposable {
  readonly #connection: BusConnection;
  readonly #name: PeerName;
  readonly #listener: PeerListener;
  readonly #receive = (message: Message) => this.#received(message);
  #owner = '';

  private constructor(connection: BusConnection, name: PeerName, listener: PeerListener) {
    this.#connection = connection;
    this.#name = name;
    this.#listener = listener;
  }

  /** Listens from now on; does not start the service. */
  static async follow(connection: BusConnection, name: PeerName, listener: PeerListener): Promise<Peer> {
    const peer = new Peer(connection, name, listener);
    connection.bus.on('message', peer.#receive);
    const changes = `type='signal',sender='${daemon.destination}',member='NameOwnerChanged',arg0='${name.name}'`;
    await connection.addMatch(changes);
    await connection.addMatch(`type='signal',sender='${name.name}'`);
    const question = new Message({
      ...daemon,
      member: 'GetNameOwner',
      signature: 's',
      body: [name.name],
    });
    const owner = await connection.call(question).catch(() => undefined);
    // It may have come while it was asked for.
    if (owner !== undefined && peer.#owner === '') peer.#changed(String(owner.body[0]));
    return peer;
  }

  get isThere(): boolean {
    return this.#owner !== '';
  }

  async property(property: string, place: Partial<PeerName> = {}): Promise<unknown> {
    const { path, interface: of } = { ...this.#name, ...place };
    return readProperty(this.#connection, { name: this.#name.name, path, interface: of }, property);
  }

  /** A method of it that takes nothing. */
  async ask(member: string): Promise<unknown> {
    const { name, path, interface: of } = this.#name;
    const reply = await this.#connection.call(
      new Message({ destination: name, path, interface: of, member }),
    );
    return reply.body[0];
  }

  #received(message: Message): void {
    if (message.type !== MessageType.SIGNAL) return;
    if (message.sender === daemon.destination && message.member === 'NameOwnerChanged') {
      const [name, , owner] = message.body as [string, string, string];
      if (name === this.#name.name) this.#changed(owner);
    } else if (message.sender === this.#owner) this.#listener.signal?.(message);
  }

  #changed(owner: string): void {
    if (owner === this.#owner) return;
    if (this.#owner !== '') this.#listener.left?.();
    this.#owner = owner;
    if (owner !== '') this.#listener.came(this);
  }

  [Symbol.dispose](): void {
    this.#connection.bus.off('message', this.#receive);
  }
}

/** @throws Error where the service is not there or has no such property. */
export async function readProperty(
  connection: BusConnection,
  { name, path, interface: of }: PeerName,
  property: string,
): Promise<unknown> {
  const message = new Message({
    destination: name,
    path,
    interface: 'org.freedesktop.DBus.Properties',
    member: 'Get',
    signature: 'ss',
    body: [of, property],
  });
  return ((await connection.call(message)).body[0] as { value: unknown }).value;
}
