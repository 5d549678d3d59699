/**
 * No shell but a browser that the user opens with an address, for where there is no display or no Chromium. It has one
 * page; a window that is asked for takes the place of what is there.
 */
import { hashOf } from '../ipc/address.ts';
import type { Notice, Place } from '../ipc/view.ts';
import type { WebServer } from '../web/server.ts';
import type { DesktopParts } from './chromium/shell.ts';
import type { Shell, TrayModel } from './shell.ts';

export class BrowserShell implements Shell {
  readonly kind = 'browser';
  readonly canGlobalShortcut = false;
  readonly #server: WebServer;
  readonly #desktop: DesktopParts;
  #wanted: Place | undefined;

  constructor(server: WebServer, desktop: DesktopParts) {
    this.#server = server;
    this.#desktop = desktop;
  }

  /** Where no browser shows anything yet, the next one that is let in begins there. */
  async open(place: Place): Promise<void> {
    if (!this.#server.go(place)) this.#wanted = place;
  }

  /** An address for the user, which opens the windows once. */
  invite(): string {
    const address = this.#server.newAddress({ lasting: true });
    const place = this.#wanted;
    this.#wanted = undefined;
    return place === undefined || place.kind === 'home' ? address : `${address}${hashOf(place)}`;
  }

  /** A page of the user's own browser is the user's to close. */
  async close(): Promise<void> {}

  /** Nor is its place ours to know. */
  async placementOf(): Promise<undefined> {}

  async setTray(model: TrayModel): Promise<boolean> {
    return this.#desktop.tray?.set(model) ?? false;
  }

  async notify(notice: Notice, act?: () => void): Promise<void> {
    if (!(await this.#desktop.notify(notice, act)))
      console.error(`torpor: ${notice.message} ${notice.hint}`.trimEnd());
  }

  openExternal(address: string): Promise<void> {
    return this.#desktop.openExternal(address);
  }

  async setShortcut(): Promise<boolean> {
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#desktop.tray?.[Symbol.asyncDispose]();
  }
}
