/**
 * A tray on the user's session bus, for shells without one of their own: an icon (StatusNotifierItem) and its menu
 * (com.canonical.dbusmenu), registered with whatever watcher the desktop has. Panels come and go: with every new
 * watcher it registers again, and whether anybody shows it is known.
 */
import { type Message as BusMessage, Message, MessageType, type Variant } from '@jellybrick/dbus-next';
import { BusConnection } from '../../../api/connection.ts';
import type { TrayModel } from '../../shells/shell.ts';
import { BusObject } from './bus-object.ts';
import { itemInterface, itemOf, itemPath, itemSignals, menuPath } from './item.ts';
import { DBusMenu, menuInterface } from './menu.ts';

const watcher = {
  destination: 'org.kde.StatusNotifierWatcher',
  path: '/StatusNotifierWatcher',
  interface: 'org.kde.StatusNotifierWatcher',
} as const;
const bus = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
} as const;
/** DBUS_NAME_FLAG_DO_NOT_QUEUE and the reply that says the name is ours. */
const doNotQueue = 4;
const primaryOwner = 1;
/** A session bus answers within milliseconds; one that hangs must not keep the app from starting. */
const answerLimitMs = 5000;
const mostTrays = 100;

const nothing: TrayModel = { status: 'idle', title: 'Torpor', tooltip: '', items: [] };

export class StatusNotifierTray implements AsyncDisposable {
  readonly #connection: BusConnection;
  readonly #item: BusObject;
  readonly #menuObject: BusObject;
  readonly #menu = new DBusMenu([]);
  #name = '';
  #model = nothing;
  #isShown = false;
  #hasEnded = false;
  #activate: () => void = () => {};
  #shownChanged: (isShown: boolean) => void = () => {};
  /** One after the other, so that the last answer is the one that counts. */
  #meeting: Promise<void> = Promise.resolve();

  private constructor(connection: BusConnection) {
    this.#connection = connection;
    this.#item = new BusObject(connection, itemPath, [
      itemOf(
        () => this.#model,
        () => this.#activate(),
      ),
    ]);
    this.#menuObject = new BusObject(connection, menuPath, [
      this.#menu.interface(() => (this.#model.status === 'attention' ? 'notice' : 'normal')),
    ]);
    connection.bus.on('message', (message) => this.#listen(message));
    connection.onLost(() => {
      this.#hasEnded = true;
      this.#setShown(false);
    });
  }

  /**
   * Connects to the session bus (of the environment, unless an address is given) and registers where there is a watcher.
   * @returns undefined where there is no session bus
   */
  static async open(address = sessionBusAddress()): Promise<StatusNotifierTray | undefined> {
    if (address === undefined) return undefined;
    const opening = BusConnection.open(address);
    const connection = await inTime(opening).catch(() => undefined);
    if (connection === undefined) {
      opening.then(
        (late) => late[Symbol.asyncDispose](),
        () => {},
      );
      return undefined;
    }
    const tray = new StatusNotifierTray(connection);
    try {
      await inTime(tray.#start());
      return tray;
    } catch {
      await tray[Symbol.asyncDispose]();
      return undefined;
    }
  }

  /** Whether a panel is there that shows it. */
  get isShown(): boolean {
    return this.#isShown;
  }

  /** Its name on the bus, by which the watcher knows it. */
  get busName(): string {
    return this.#name;
  }

  /** Shows this from now on. @returns whether a panel is there that shows it */
  set(model: TrayModel): boolean {
    const before = this.#model;
    const menuSignals = this.#menu.set(model.items);
    this.#model = model;
    if (this.#hasEnded) return false;
    for (const [signal, body] of menuSignals) this.#menuObject.emit(menuInterface, signal, body);
    for (const [signal, body] of itemSignals(before, model)) this.#item.emit(itemInterface, signal, body);
    return this.#isShown;
  }

  /** What a click on the icon does. */
  onActivate(listener: () => void): void {
    this.#activate = listener;
  }

  /** Called whenever a panel that shows it has come, or the last one has gone. */
  onShownChanged(listener: (isShown: boolean) => void): void {
    this.#shownChanged = listener;
  }

  /** Takes the icon away. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#shownChanged = () => {};
    if (!this.#hasEnded) {
      this.#hasEnded = true;
      await inTime(this.#call(bus, 'ReleaseName', 's', [this.#name])).catch(() => {});
    }
    this.#item[Symbol.dispose]();
    this.#menuObject[Symbol.dispose]();
    await this.#connection[Symbol.asyncDispose]();
  }

  async #start(): Promise<void> {
    for (const rule of [
      `type='signal',sender='${bus.destination}',member='NameOwnerChanged',arg0='${watcher.destination}'`,
      `type='signal',sender='${watcher.destination}',interface='${watcher.interface}'`,
    ]) {
      await this.#call(bus, 'AddMatch', 's', [rule]);
    }
    this.#name = await this.#takeName();
    await this.#meetWatcher({ register: true });
  }

  async #takeName(): Promise<string> {
    for (let number = 1; number <= mostTrays; number++) {
      const name = `org.kde.StatusNotifierItem-${process.pid}-${number}`;
      const [answer] = await this.#call(bus, 'RequestName', 'su', [name, doNotQueue]);
      if (answer === primaryOwner) return name;
    }
    throw new Error('every name of a tray icon is taken');
  }

  #listen(message: BusMessage): void {
    if (message.type !== MessageType.SIGNAL) return;
    if (message.interface === bus.interface && message.member === 'NameOwnerChanged') {
      const [name, , owner] = message.body as [string, string, string];
      if (name !== watcher.destination) return;
      if (owner === '') this.#setShown(false);
      else void this.#meetWatcher({ register: true });
    } else if (message.interface === watcher.interface && message.member.startsWith('StatusNotifierHost')) {
      void this.#meetWatcher({ register: false });
    }
  }

  /** Tells the watcher, if there is one, of the icon, and asks it whether anybody shows icons. Never rejects. */
  #meetWatcher({ register }: { register: boolean }): Promise<void> {
    this.#meeting = this.#meeting.then(async () => {
      if (this.#hasEnded) return;
      const isShown = await inTime(this.#askWatcher(register)).catch(() => false);
      if (!this.#hasEnded) this.#setShown(isShown);
    });
    return this.#meeting;
  }

  async #askWatcher(register: boolean): Promise<boolean> {
    if (register) await this.#call(watcher, 'RegisterStatusNotifierItem', 's', [this.#name]);
    const [value] = await this.#call(
      { ...watcher, interface: 'org.freedesktop.DBus.Properties' },
      'Get',
      'ss',
      [watcher.interface, 'IsStatusNotifierHostRegistered'],
    );
    return (value as Variant).value === true;
  }

  #setShown(isShown: boolean): void {
    if (this.#isShown === isShown) return;
    this.#isShown = isShown;
    this.#shownChanged(isShown);
  }

  async #call(
    to: { destination: string; path: string; interface: string },
    member: string,
    signature: string,
    body: unknown[],
  ): Promise<unknown[]> {
    const reply = await this.#connection.call(new Message({ ...to, member, signature, body }));
    return reply.body;
  }
}

/** The address of the session bus, from what the environment says. */
function sessionBusAddress(): string | undefined {
  const { DBUS_SESSION_BUS_ADDRESS: address, XDG_RUNTIME_DIR: folder } = process.env;
  if (address) return address;
  return folder ? `unix:path=${folder}/bus` : undefined;
}

async function inTime<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('the session bus does not answer')), answerLimitMs);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
