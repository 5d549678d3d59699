/**
 * The windows of the user's X display, as their window manager has them (Extended Window Manager Hints 1.5): whose they are,
 * which one the user is in, and which are minimised. Nothing is looked at again and again: the server tells what changes.
 */
import { EventEmitter } from 'node:events';
import type { OpenWindow, UserWindows } from '../desktop-parts.ts';
import { XConnection } from './connection.ts';

const followed = ['_NET_CLIENT_LIST', '_NET_ACTIVE_WINDOW', '_NET_WM_STATE', '_NET_WM_NAME'] as const;

export class OpenWindows extends EventEmitter<{ changed: [] }> implements UserWindows, Disposable {
  readonly #connection: XConnection;
  readonly #atoms = new Map<number, (typeof followed)[number]>();
  readonly #windows = new Map<number, OpenWindow>();
  #active: number | undefined;
  #reading: Promise<void> = Promise.resolve();

  private constructor(connection: XConnection) {
    super();
    this.#connection = connection;
  }

  /** Undefined where there is no X server, such as under Wayland alone. */
  static async open(env: NodeJS.ProcessEnv = process.env): Promise<OpenWindows | undefined> {
    const connection = await XConnection.open(env).catch(() => undefined);
    if (connection === undefined) return undefined;
    const windows = new OpenWindows(connection);
    try {
      for (const name of followed) windows.#atoms.set(await connection.atom(name), name);
      await windows.#follow(connection.root);
      await Promise.all([windows.#readList(), windows.#readActive()]);
    } catch {
      connection[Symbol.dispose]();
      return undefined;
    }
    // Without the server nobody has windows any more.
    connection.onEnd(() => {
      windows.#windows.clear();
      windows.#active = undefined;
      windows.emit('changed');
    });
    return windows;
  }

  all(): OpenWindow[] {
    return [...this.#windows.values()];
  }

  /** The one that the user is in. */
  get active(): OpenWindow | undefined {
    return this.#active === undefined ? undefined : this.#windows.get(this.#active);
  }

  #follow(window: number): Promise<void> {
    return this.#connection.follow(window, (of, atom) => this.#changed(of, this.#atoms.get(atom)));
  }

  #changed(window: number, what: (typeof followed)[number] | undefined): void {
    if (what === undefined) return;
    // One after the other, so that an older answer never replaces a newer one.
    this.#reading = this.#reading
      .then(async () => {
        if (what === '_NET_CLIENT_LIST') await this.#readList();
        else if (what === '_NET_ACTIVE_WINDOW') await this.#readActive();
        else if (this.#windows.has(window)) await this.#read(window);
        this.emit('changed');
      })
      // The server, or the window, has gone meanwhile.
      .catch(() => {});
  }

  async #readList(): Promise<void> {
    const { root } = this.#connection;
    const list = await this.#connection.numbers(root, '_NET_CLIENT_LIST');
    for (const id of this.#windows.keys()) if (!list.includes(id)) this.#windows.delete(id);
    await Promise.all(
      list
        .filter((id) => !this.#windows.has(id))
        .map(async (id) => {
          await this.#follow(id);
          await this.#read(id);
        }),
    );
  }

  async #readActive(): Promise<void> {
    const [active = 0] = await this.#connection.numbers(this.#connection.root, '_NET_ACTIVE_WINDOW');
    this.#active = active === 0 ? undefined : active;
  }

  async #read(id: number): Promise<void> {
    const connection = this.#connection;
    const hidden = await connection.atom('_NET_WM_STATE_HIDDEN');
    try {
      const [known, [said], states, title] = await Promise.all([
        connection.processOf(id),
        connection.numbers(id, '_NET_WM_PID'),
        connection.numbers(id, '_NET_WM_STATE'),
        connection.text(id, '_NET_WM_NAME'),
      ]);
      this.#windows.set(id, { id, pid: known ?? said, title, isMinimised: states.includes(hidden) });
    } catch {
      this.#windows.delete(id);
    }
  }

  [Symbol.dispose](): void {
    this.removeAllListeners();
    this.#connection[Symbol.dispose]();
  }
}
