/**
 * One of the user's buses, as seen from all capsules together: which of the services are to be had there, and the
 * signals that they send to everybody. It is connected to as long as there is a capsule, again and again where it ends.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Bus, closeDescriptors } from './bus.ts';
import { type Message, messageType, readBody } from './message.ts';
import { hasPath, type Service, type Side, services } from './policy.ts';
import type { SocketLoop } from './sockets.ts';

const firstPauseMs = 100;
const longestPauseMs = 10_000;

export interface OutsideEvents {
  /** A service has come, gone, or been replaced by another program. */
  changed(service: Service): void;
  /** A service has said this to everybody. Its descriptors are closed here. */
  signal(service: Service, message: Message): void;
}

export class OutsideBus {
  readonly side: Side;
  readonly #address: string;
  readonly #loop: SocketLoop;
  readonly #events: OutsideEvents;
  readonly #services: readonly Service[];
  /** Who has the name of a service. */
  readonly #owners = new Map<string, string>();
  #activatable = new Set<string>();
  #bus: Bus | undefined;
  #isReady = false;
  #isStopped = false;

  constructor(side: Side, address: string, loop: SocketLoop, events: OutsideEvents) {
    this.side = side;
    this.#address = address;
    this.#loop = loop;
    this.#events = events;
    this.#services = services.filter((each) => each.side === side);
  }

  /** The connection for what belongs to nobody in particular, where there is one. */
  get bus(): Bus | undefined {
    return this.#bus?.isOpen ? this.#bus : undefined;
  }

  /** Whether it is known who has the names. */
  get isReady(): boolean {
    return this.#isReady && this.bus !== undefined;
  }

  /** Whether the service runs, or would be started for whoever calls it. */
  has(name: string): boolean {
    return this.bus !== undefined && (this.#owners.has(name) || this.#activatable.has(name));
  }

  ownerOf(name: string): string | undefined {
    return this.#owners.get(name);
  }

  /** The service that this connection is, by the interface where it is several. */
  serviceOf(sender: string, path: string): Service | undefined {
    const own = this.#services.filter(({ name }) => this.#owners.get(name) === sender);
    return own.find((each) => hasPath(each, path));
  }

  /** A connection of its own for a program in a capsule. @throws Error where the bus does not answer. */
  open(): Promise<Bus> {
    return Bus.open(this.#address, this.#loop);
  }

  /** Connects, and goes on doing so until {@link stop}. */
  async run(): Promise<void> {
    let pauseMs = firstPauseMs;
    while (!this.#isStopped) {
      try {
        const bus = await Bus.open(this.#address, this.#loop);
        pauseMs = firstPauseMs;
        await this.#serve(bus);
      } catch {
        // Nobody listens there, or has let us down at once: the same to whoever waits for it.
      }
      if (this.#isStopped) return;
      await sleep(pauseMs, undefined, { ref: false });
      pauseMs = Math.min(longestPauseMs, pauseMs * 2);
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#bus?.abort();
  }

  async #serve(bus: Bus): Promise<void> {
    this.#bus = bus;
    bus.onMessage = (message) => this.#receive(message);
    try {
      const owned = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'";
      for (const { name } of this.#services) {
        await bus.ask('AddMatch', 's', [`${owned},arg0='${name}'`]);
        await bus.ask('AddMatch', 's', [`type='signal',sender='${name}'`]);
      }
      const [activatable] = readBody(await bus.ask('ListActivatableNames'));
      this.#activatable = new Set(activatable as string[]);
      for (const { name } of this.#services) await this.#askOwner(bus, name);
      this.#isReady = true;
      for (const service of this.#services) this.#events.changed(service);
      await bus.ended;
    } finally {
      bus.abort();
      this.#isReady = false;
      this.#owners.clear();
      this.#activatable.clear();
      for (const service of this.#services) this.#events.changed(service);
    }
  }

  async #askOwner(bus: Bus, name: string): Promise<void> {
    try {
      const [owner] = readBody(await bus.ask('GetNameOwner', 's', [name]));
      this.#owners.set(name, String(owner));
    } catch {
      // It does not run.
      this.#owners.delete(name);
    }
  }

  #receive(message: Message): void {
    try {
      if (message.type !== messageType.signal) return;
      if (message.sender === 'org.freedesktop.DBus') this.#noteOwner(message);
      else {
        const service = this.serviceOf(message.sender ?? '', message.path ?? '');
        if (service !== undefined && message.destination === undefined) this.#events.signal(service, message);
      }
    } finally {
      closeDescriptors(message);
    }
  }

  #noteOwner(message: Message): void {
    if (message.member !== 'NameOwnerChanged') return;
    const [name, , owner] = readBody(message) as [string, string, string];
    const service = this.#services.find((each) => each.name === name);
    if (service === undefined) return;
    if (owner === '') this.#owners.delete(name);
    else this.#owners.set(name, owner);
    this.#events.changed(service);
  }
}
