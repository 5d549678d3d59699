/** Messages on the desktop, by org.freedesktop.Notifications on the session bus (Desktop Notifications Specification 1.2). */
import { Message, MessageType, Variant } from '@jellybrick/dbus-next';
import { BusConnection } from '../../api/connection.ts';
import type { Notice } from '../ipc/view.ts';

const service = {
  destination: 'org.freedesktop.Notifications',
  path: '/org/freedesktop/Notifications',
  interface: 'org.freedesktop.Notifications',
} as const;
const urgency = { info: 1, warning: 1, error: 2 } as const;
/** Chosen by the server. */
const expiry = -1;

export class Notifications implements AsyncDisposable {
  readonly #connection: BusConnection;
  readonly #acts = new Map<number, () => void>();

  private constructor(connection: BusConnection) {
    this.#connection = connection;
    connection.bus.on('message', (message: Message) => this.#receive(message));
  }

  /** Undefined where there is no session bus. */
  static async open(address = process.env.DBUS_SESSION_BUS_ADDRESS): Promise<Notifications | undefined> {
    if (!address) return undefined;
    try {
      const connection = await BusConnection.open(address);
      const notifications = new Notifications(connection);
      await connection.addMatch(`type='signal',interface='${service.interface}'`);
      return notifications;
    } catch {
      return undefined;
    }
  }

  /** @param act what a click on it does. @returns whether somebody shows it */
  async show({ level, message, hint }: Notice, act?: () => void): Promise<boolean> {
    const hints = { urgency: new Variant('y', urgency[level]), 'desktop-entry': new Variant('s', 'torpor') };
    try {
      const reply = await this.#connection.call(
        new Message({
          ...service,
          member: 'Notify',
          signature: 'susssasa{sv}i',
          body: [
            'Torpor',
            0,
            'torpor',
            message,
            (await this.#readsMarkup()) ? escaped(hint) : hint,
            act === undefined ? [] : ['default', 'Torpor'],
            hints,
            expiry,
          ],
        }),
      );
      if (act !== undefined) this.#acts.set(Number(reply.body[0]), act);
      return true;
    } catch {
      return false;
    }
  }

  /** Asked each time, as another server may have taken over. */
  async #readsMarkup(): Promise<boolean> {
    const reply = await this.#connection.call(new Message({ ...service, member: 'GetCapabilities' }));
    return (reply.body[0] as string[]).includes('body-markup');
  }

  #receive(message: Message): void {
    if (message.type !== MessageType.SIGNAL || message.interface !== service.interface) return;
    const id = Number(message.body[0]);
    if (message.member === 'ActionInvoked') this.#acts.get(id)?.();
    if (message.member === 'NotificationClosed') this.#acts.delete(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}

/** So that names of files and programs in a text are shown as they are. */
function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
