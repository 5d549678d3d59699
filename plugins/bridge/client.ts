/**
 * A program inside that has called something outside. It has a connection of its own there, so that services can tell
 * it from others, answer it alone, and end what was its own when it leaves.
 */
import type { Bus } from './bus.ts';
import type { Message } from './message.ts';
import type { OutsideBus } from './outside.ts';
import type { Side } from './policy.ts';
import { UnderWay } from './under-way.ts';

/** How names are part of the paths of the portals' requests. */
const partOf = (name: string) => name.replace(/^:/, '').replaceAll('.', '_');
const ownPath = /^(\/org\/freedesktop\/portal\/desktop\/(?:request|session)\/)([^/]+)(\/.*)$/;

export class Client {
  /** Its name inside. */
  readonly name: string;
  readonly callsUnderWay = new UnderWay();
  /** It has left, and what it held has been released: nothing more is kept for it. */
  isOver = false;
  readonly #onMessage: (client: Client, side: Side, message: Message) => void;
  readonly #connections = new Map<Side, Promise<Bus>>();
  readonly #names = new Map<Side, string>();

  constructor(name: string, onMessage: (client: Client, side: Side, message: Message) => void) {
    this.name = name;
    this.#onMessage = onMessage;
  }

  /** Its connection to a bus outside. @throws Error where that does not answer. */
  connect(outside: OutsideBus): Promise<Bus> {
    const { side } = outside;
    const there = this.#connections.get(side);
    if (there !== undefined) return there;
    const opened = outside.open().then((bus) => {
      bus.onMessage = (message) => this.#onMessage(this, side, message);
      this.#names.set(side, partOf(bus.name));
      void bus.ended.then(() => this.#forget(side, opened));
      return bus;
    });
    this.#connections.set(side, opened);
    opened.catch(() => this.#forget(side, opened));
    return opened;
  }

  #forget(side: Side, connection: Promise<Bus>): void {
    if (this.#connections.get(side) === connection) this.#connections.delete(side);
  }

  /** A path of its own requests, as the portals outside know it. */
  toOutside(path: string): string {
    return this.#replace(path, partOf(this.name), this.#names.get('session'));
  }

  toInside(path: string): string {
    return this.#replace(path, this.#names.get('session'), partOf(this.name));
  }

  #replace(path: string, from: string | undefined, to: string | undefined): string {
    const [, before, part, after] = ownPath.exec(path) ?? [];
    return part !== undefined && part === from && to !== undefined ? `${before}${to}${after}` : path;
  }

  async close(): Promise<void> {
    const open = [...this.#connections.values()];
    this.#connections.clear();
    await Promise.all(open.map((each) => each.then((bus) => bus.close()).catch(() => {})));
  }
}
