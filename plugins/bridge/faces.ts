/** The services as the programs of one capsule see them: the names on its bus, each on a connection of its own. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Bus, closeDescriptors } from './bus.ts';
import type { Outside } from './clients.ts';
import type { Message } from './message.ts';
import { type Service, services } from './policy.ts';
import type { SocketLoop } from './sockets.ts';
import { within } from './under-way.ts';

const againAfterMs = 1000;

export interface FaceEvents {
  /** Whether there is a bus inside, and the names are wanted on it. */
  isWanted(): boolean;
  /** A service is to be had inside. */
  shown(service: Service): void;
  /** Somebody inside has sent it this. */
  received(service: Service, face: Bus, message: Message): void;
}

export class Faces {
  readonly #socket: string;
  readonly #outside: Outside;
  readonly #loop: SocketLoop;
  readonly #events: FaceEvents;
  readonly #faces = new Map<string, Bus>();
  /** Names are taken and let go of one after the other. */
  #order: Promise<unknown> = Promise.resolve();

  constructor(socket: string, outside: Outside, loop: SocketLoop, events: FaceEvents) {
    this.#socket = socket;
    this.#outside = outside;
    this.#loop = loop;
    this.#events = events;
  }

  inOrder<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#order.then(work, work);
    this.#order = done.catch(() => {});
    return done;
  }

  /** Resolves when the names are there that have been asked for until now. */
  async settled(): Promise<void> {
    await this.#order;
  }

  /** Has the names inside of those services that there are outside. */
  sync(): Promise<void> {
    return this.inOrder(async () => {
      for (const service of services) {
        if (!this.#events.isWanted()) return;
        const isThere = this.#outside[service.side]?.has(service.name) === true;
        const face = this.#faces.get(service.name);
        if (isThere && !face?.isOpen) await this.#show(service).catch(() => {});
        if (!isThere && face !== undefined) {
          this.#faces.delete(service.name);
          await face.close();
        }
      }
    });
  }

  async #show(service: Service): Promise<void> {
    const face = await Bus.openForeign(this.#socket, this.#loop);
    face.onMessage = (message) => this.#events.received(service, face, message);
    // Where the application offers that itself, it is its own.
    if (!(await face.own(service.name))) return face.close();
    this.#faces.set(service.name, face);
    this.#events.shown(service);
    void face.ended.then(async () => {
      if (this.#faces.get(service.name) !== face) return;
      this.#faces.delete(service.name);
      await sleep(againAfterMs, undefined, { ref: false });
      await this.sync();
    });
  }

  has(service: string): boolean {
    return this.#faces.get(service)?.isOpen === true;
  }

  /** A service says something to the programs inside, where it is to be had there. */
  say(service: string, message: Message): void {
    const face = this.#faces.get(service);
    if (face?.isOpen) face.send(message);
    else closeDescriptors(message);
  }

  /** Gives the names back. What was asked before comes yet, and can be answered; nothing is asked after that. */
  async release(limitMs: number): Promise<void> {
    const all = [...this.#faces].map(([name, face]) => face.ask('ReleaseName', 's', [name]).catch(() => {}));
    await within(limitMs, Promise.all(all));
  }

  async close(): Promise<void> {
    const faces = [...this.#faces.values()];
    this.#faces.clear();
    await Promise.all(faces.map((each) => each.close()));
  }
}
