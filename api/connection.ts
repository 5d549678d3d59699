/**
 * A connection to a bus that says when it has ended. The library leaves calls waiting for ever when the bus goes
 * away under them; here they are rejected.
 */
import { EventEmitter } from 'node:events';
import { Message, type MessageBus, sessionBus } from '@jellybrick/dbus-next';

export class BusConnection implements AsyncDisposable {
  readonly bus: MessageBus;
  readonly #ended: Promise<never>;
  readonly #endedEvents = new EventEmitter();
  #closing = false;

  private constructor(bus: MessageBus, ended: Promise<never>) {
    this.bus = bus;
    this.#ended = ended;
    ended.catch(() => this.#endedEvents.emit('ended'));
  }

  /** Connects and waits for the bus's greeting. @throws Error where nobody listens at the address. */
  static async open(address: string): Promise<BusConnection> {
    const bus = sessionBus({ busAddress: address });
    // The library tells of a lost stream only on its inner connection object.
    const inner = Reflect.get(bus, '_connection') as EventEmitter;
    const ended = new Promise<never>((_, reject) => {
      inner.once('end', () => reject(new Error('the connection to the bus has ended')));
      (bus as EventEmitter).on('error', reject);
    });
    ended.catch(() => {});
    const connected = new Promise<void>((resolve) => bus.once('connect', () => resolve()));
    await Promise.race([connected, ended]);
    dropWhatCannotBeRead(Reflect.get(inner, 'stream') as EventEmitter);
    return new BusConnection(bus, ended);
  }

  /** Calls and waits for the reply, or for the end of the connection. */
  async call(message: Message): Promise<Message> {
    const reply = await Promise.race([this.bus.call(message), this.#ended]);
    if (reply === null) throw new Error('a call without reply was awaited');
    return reply;
  }

  /** Has the bus pass on the messages that a match rule (D-Bus Specification, Match Rules) is about. */
  async addMatch(rule: string): Promise<void> {
    await this.call(
      new Message({
        destination: 'org.freedesktop.DBus',
        path: '/org/freedesktop/DBus',
        interface: 'org.freedesktop.DBus',
        member: 'AddMatch',
        signature: 's',
        body: [rule],
      }),
    );
  }

  /** Runs once when the connection ends without having been closed here. */
  onLost(listener: () => void): void {
    this.#endedEvents.once('ended', () => {
      if (!this.#closing) listener();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    this.bus.disconnect();
  }
}

/**
 * The library throws out of a listener of the stream where it cannot read a message, such as one that names a descriptor
 * and brings none, which anybody can send. It is ready for the next one then: that message is left out.
 */
function dropWhatCannotBeRead(stream: EventEmitter): void {
  for (const listener of stream.listeners('readable')) {
    stream.on('readable', () => {
      for (;;) {
        try {
          listener.call(stream);
          return;
        } catch (error) {
          process.emitWarning(`a message on the bus is left out: ${String(error)}`);
        }
      }
    });
    stream.off('readable', listener as () => void);
  }
}
