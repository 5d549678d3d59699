/**
 * The shell that is made of the system's Chromium, for where there is no Electron: windows in app mode, the tray and the
 * notifications by the session bus. Chromium runs while there are windows; when it is closed, or crashes, the app lives
 * on, and the next window starts it anew.
 */
import { hashOf } from '../../ipc/address.ts';
import type { Notice, Place } from '../../ipc/view.ts';
import type { WebServer } from '../../web/server.ts';
import type { WindowPlacement } from '../placement.ts';
import type { Shell, TrayModel } from '../shell.ts';
import { windowOf } from '../windows.ts';
import { type IsMeant, placementOnX, placeOnX } from '../x11/windows.ts';
import { Chromium, type ChromiumOptions } from './browser.ts';

/** Without windows it is kept this long, as the next one opens faster then; after that its memory is worth more. */
const lingerMs = 30_000;

/** A tray on the session bus, as main/tray/ has it. */
export interface DesktopTray extends AsyncDisposable {
  set(model: TrayModel): boolean;
  onActivate(listener: () => void): void;
}

export interface DesktopParts {
  tray: DesktopTray | undefined;
  /** @returns whether the desktop shows it */
  notify(notice: Notice, act?: () => void): Promise<boolean>;
  openExternal(address: string): Promise<void>;
}

export class ChromiumShell implements Shell {
  readonly kind = 'chromium';
  // Neither X11 nor Wayland lets a page have keys while another window is in front.
  readonly canGlobalShortcut = false;
  readonly #server: WebServer;
  readonly #desktop: DesktopParts;
  readonly #options: ChromiumOptions;
  /** Window by target. */
  readonly #windows = new Map<string, string>();
  #chromium: Chromium | undefined;
  /** One after the other: two requests for one place open one window. */
  #opening: Promise<void> = Promise.resolve();
  #lingering: NodeJS.Timeout | undefined;
  #hasEnded = false;

  constructor(server: WebServer, desktop: DesktopParts, options: ChromiumOptions) {
    this.#server = server;
    this.#desktop = desktop;
    this.#options = options;
    desktop.tray?.onActivate(() => {
      this.open({ kind: 'home' }).catch((error: Error) => console.error(`torpor: ${error.message}`));
    });
  }

  async open(place: Place, placement?: WindowPlacement): Promise<void> {
    const opened = this.#opening.then(() => this.#open(place));
    this.#opening = opened.then(
      () => {},
      () => {},
    );
    // The next one is opened meanwhile.
    if ((await opened) && placement !== undefined) await this.#put(windowOf(place), placement);
  }

  async placementOf(window: string): Promise<WindowPlacement | undefined> {
    const target = this.#targetOf(window);
    if (target === undefined) return undefined;
    return (await placementOnX(isShown(window))) ?? (await this.#chromium?.placementOf(target));
  }

  async close(window: string): Promise<void> {
    const target = this.#targetOf(window);
    if (target !== undefined) await this.#chromium?.close(target);
  }

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
    this.#hasEnded = true;
    clearTimeout(this.#lingering);
    await this.#opening;
    await this.#chromium?.[Symbol.asyncDispose]();
    await this.#desktop.tray?.[Symbol.asyncDispose]();
  }

  async #put(window: string, placement: WindowPlacement): Promise<void> {
    // A place is known from an X server alone, so where none was known it is not asked again.
    if (placement.position !== undefined && (await placeOnX(isShown(window), placement))) return;
    const target = this.#targetOf(window);
    if (target !== undefined) await this.#chromium?.place(target, placement);
  }

  /** @returns whether it is a new one */
  async #open(place: Place): Promise<boolean> {
    if (this.#hasEnded) return false;
    clearTimeout(this.#lingering);
    const window = windowOf(place);
    const chromium = await this.#running();
    const shown = this.#targetOf(window);
    if (shown !== undefined) {
      if (place.kind !== 'home' && place.kind !== 'screen') await chromium.goTo(shown, hashOf(place));
      await chromium.show(shown);
      return false;
    }
    this.#server.expectWindow(window);
    const path = `/window/${encodeURIComponent(window)}?window=${encodeURIComponent(window)}`;
    this.#windows.set(await chromium.open(`${this.#server.origin}${path}${hashOf(place)}`), window);
    return true;
  }

  async #running(): Promise<Chromium> {
    if (this.#chromium?.isRunning) return this.#chromium;
    this.#windows.clear();
    if (process.getuid?.() === 0)
      console.error('torpor: this is root, so Chromium runs without its sandbox; start Torpor as a user.');
    const chromium = await Chromium.start(this.#options, (target) => this.#closed(target));
    await chromium.setCookie(this.#server.origin, this.#server.cookieName, this.#server.newSession());
    this.#chromium = chromium;
    return chromium;
  }

  #closed(target: string): void {
    const window = this.#windows.get(target);
    this.#windows.delete(target);
    if (window !== undefined) this.#server.forgetWindow(window);
    if (this.#windows.size > 0 || this.#hasEnded) return;
    clearTimeout(this.#lingering);
    this.#lingering = setTimeout(() => void this.#retire(), lingerMs);
  }

  async #retire(): Promise<void> {
    if (this.#windows.size > 0) return;
    const chromium = this.#chromium;
    this.#chromium = undefined;
    const retired = this.#opening.then(() => chromium?.[Symbol.asyncDispose]());
    this.#opening = retired;
    await retired;
  }

  #targetOf(window: string): string | undefined {
    for (const [target, each] of this.#windows) if (each === window) return target;
    return undefined;
  }
}

/** By what Chromium calls the windows of an address in app mode. */
function isShown(window: string): IsMeant {
  return ({ instance, group }) => group === 'Torpor' && instance.endsWith(`__window_${window}`);
}
