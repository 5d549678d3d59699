/** The programs of one capsule that have called something outside, and what is called otherwise on the two sides. */
import { answerIn } from './bus.ts';
import type { Carried } from './carried.ts';
import { Client } from './client.ts';
import { type Message, mapStrings } from './message.ts';
import type { OutsideBus } from './outside.ts';
import { limits, longestName, type Side, services } from './policy.ts';

export type Outside = Readonly<Partial<Record<Side, OutsideBus>>>;

const secretSession = '/org/freedesktop/secrets/session/';

export interface ClientEvents {
  /** A program has called for the first time. It may have left since. */
  came(client: Client): void;
  /** Something was said to a program's own connection. */
  said(client: Client, side: Side, message: Message): void;
}

export class Clients {
  readonly #outside: Outside;
  readonly #carried: Carried;
  readonly #events: ClientEvents;
  readonly #clients = new Map<string, Client>();

  constructor(outside: Outside, carried: Carried, events: ClientEvents) {
    this.#outside = outside;
    this.#carried = carried;
    this.#events = events;
  }

  /** The program of this name; undefined where there are too many. */
  of(name: string): Client | undefined {
    const there = this.#clients.get(name);
    if (there !== undefined || this.#clients.size >= limits.clients || name.length > longestName)
      return there;
    const client = new Client(name, (...said) => this.#events.said(...said));
    this.#clients.set(name, client);
    this.#events.came(client);
    return client;
  }

  /** It is not one of them from now on. Whoever takes it closes it. */
  take(name: string): Client | undefined {
    const client = this.#clients.get(name);
    this.#clients.delete(name);
    return client;
  }

  /**
   * A call of the bridge in a program's name, on its connection outside.
   * @param limitMs without one it waits as long as the connection lasts.
   * @throws Error where there is no such bus, BusError for an error.
   */
  async callAs(client: Client | undefined, call: Message, limitMs?: number): Promise<Message> {
    if (client === undefined) throw new Error('too many programs');
    const service = services.find((each) => each.name === call.destination);
    const outside = service && this.#outside[service.side];
    if (outside === undefined) throw new Error(`there is no ${call.destination ?? 'bus'}`);
    const bus = await client.connect(outside);
    const mapped = this.toOutside(client, call);
    if (limitMs !== undefined) return bus.call(mapped, limitMs);
    return answerIn(call, await bus.exchange(mapped));
  }

  /** A message of a program, as services outside are to see it. */
  toOutside(client: Client, message: Message): Message {
    const map = (text: string): string => {
      if (!text.startsWith(secretSession)) return client.toOutside(text);
      return this.#carried.secretSessions.get(text)?.outside?.path ?? text;
    };
    return withPath(mapStrings(message, map), map);
  }

  /** A message of a service, as a program is to see it, or everybody. */
  toInside(message: Message, client: Client | undefined): Message {
    const map = (text: string): string => {
      if (!text.startsWith(secretSession)) return client?.toInside(text) ?? text;
      const found = [...this.#carried.secretSessions].find(([, { outside }]) => outside?.path === text);
      return found?.[0] ?? text;
    };
    return withPath(mapStrings(message, map), map);
  }

  async close(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.all(clients.map((each) => each.close()));
  }
}

function withPath(message: Message, map: (text: string) => string): Message {
  const { path } = message;
  const mapped = path === undefined ? undefined : map(path);
  return mapped === undefined || mapped === path ? message : { ...message, path: mapped };
}
