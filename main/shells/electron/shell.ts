/**
 * The shell that is made of Electron: the app runs in its main process, windows load their pages over a scheme of our own
 * from the same handler that the loopback server has, and no port is open. A page is sandboxed, sees nothing of Node, may
 * use the clipboard and the whole screen and nothing else, and cannot leave.
 */
import {
  BrowserWindow,
  globalShortcut,
  type IpcMainEvent,
  type IpcMainInvokeEvent,
  ipcMain,
  MessageChannelMain,
  Notification,
  protocol,
  type Session,
  session,
  type WebContents,
} from 'electron';
import { sentenceOf } from '../../../api/errors.ts';
import { hashOf } from '../../ipc/address.ts';
import type { CallName } from '../../ipc/schema.ts';
import type { Notice, Place } from '../../ipc/view.ts';
import { Pages } from '../../web/pages.ts';
import type { WindowPlacement } from '../placement.ts';
import type { Shell, TrayModel, WindowHost } from '../shell.ts';
import { windowOf } from '../windows.ts';
import { type IsMeant, placementOnX, placeOnX } from '../x11/windows.ts';
import { channels, origin, type ScreenAnswer, type ScreenRequest, scheme } from './channels.ts';
import { serveScreenPort } from './screen-port.ts';
import { ElectronTray } from './tray.ts';

export interface ElectronShellOptions {
  /** The renderer, as built. */
  pages: string;
  /** The preload script, as built. */
  preload: string;
  /** A picture for the windows, until their pages have one. */
  icon: string;
  openExternal(address: string): Promise<void>;
}

/** What a page may do that asks the user's browser for leave. */
const permissions = ['clipboard-read', 'clipboard-sanitized-write', 'fullscreen', 'keyboardLock'];
/** So that a page that ends at once does not keep the machine busy. */
const reloadPauseMs = 1000;
const firstSize = { width: 1060, height: 780 };

/** To be called before Electron is ready: schemes are fixed then. */
export function registerScheme(): void {
  protocol.registerSchemesAsPrivileged([
    { scheme, privileges: { standard: true, secure: true, supportFetchAPI: true, stream: true } },
  ]);
}

export class ElectronShell implements Shell {
  readonly kind = 'electron';
  readonly canGlobalShortcut = true;
  readonly #host: WindowHost;
  readonly #options: ElectronShellOptions;
  readonly #session: Session;
  readonly #tray: ElectronTray;
  readonly #windows = new Map<string, BrowserWindow>();
  readonly #notifications = new Set<Notification>();
  #shortcut: string | undefined;

  /** To be made when Electron is ready. @throws TorporError where the windows are not built */
  constructor(host: WindowHost, options: ElectronShellOptions) {
    this.#host = host;
    this.#options = options;
    // Nothing of a page is left on the disk.
    this.#session = session.fromPartition('torpor');
    this.#tray = new ElectronTray(() => void this.open({ kind: 'home' }));
    const pages = new Pages(options.pages, host);
    this.#session.protocol.handle(scheme, (request) => pages.answer(request));
    this.#session.setPermissionRequestHandler((_contents, permission, answer, { requestingUrl }) =>
      answer(permissions.includes(permission) && isOurs(requestingUrl)),
    );
    this.#session.setPermissionCheckHandler(
      (_contents, permission, requestingOrigin) =>
        permissions.includes(permission) && isOurs(`${requestingOrigin.replace(/\/$/, '')}/`),
    );
    ipcMain.handle(channels.call, (event, name: unknown, args: unknown) => this.#call(event, name, args));
    ipcMain.on(channels.opened, (event) => this.#opened(event));
    ipcMain.on(channels.openScreen, (event, request: unknown) => void this.#openScreen(event, request));
  }

  async open(place: Place, placement?: WindowPlacement): Promise<void> {
    const id = windowOf(place);
    const known = this.#windows.get(id);
    if (known === undefined) {
      const window = this.#newWindow(id);
      await window
        .loadURL(`${origin}/window/${encodeURIComponent(id)}${hashOf(place)}`)
        .catch((error: unknown) => {
          // Closed before it was there: that was the user's wish.
          if (!window.isDestroyed()) throw error;
        });
      if (placement !== undefined && !window.isDestroyed()) await put(window, placement);
      return;
    }
    if (place.kind !== 'home' && place.kind !== 'screen') known.webContents.send(channels.event, 'go', place);
    if (known.isMinimized()) known.restore();
    known.show();
    known.focus();
  }

  async placementOf(window: string): Promise<WindowPlacement | undefined> {
    const shown = this.#windows.get(window);
    if (shown === undefined) return undefined;
    const known = await placementOnX(isShown(shown));
    if (known !== undefined || shown.isDestroyed()) return known;
    const { width, height } = shown.getBounds();
    const state = shown.isFullScreen() ? 'full-screen' : shown.isMaximized() ? 'maximised' : 'normal';
    return { size: { width, height }, state };
  }

  async close(window: string): Promise<void> {
    // Not close(): the page has asked already, and would be asked again.
    this.#windows.get(window)?.destroy();
  }

  async setTray(model: TrayModel): Promise<boolean> {
    this.#tray.set(model);
    return true;
  }

  async notify({ level, message, hint }: Notice, act?: () => void): Promise<void> {
    if (!Notification.isSupported()) {
      console.error(`torpor: ${message} ${hint}`.trimEnd());
      return;
    }
    const urgency = level === 'error' ? 'critical' : 'normal';
    const notification = new Notification({ title: message, body: hint, urgency, icon: this.#options.icon });
    if (act !== undefined) notification.on('click', act);
    // Held until it is gone: one that is collected loses its click.
    this.#notifications.add(notification);
    for (const end of ['click', 'close', 'failed'] as const)
      notification.once(end as 'close', () => this.#notifications.delete(notification));
    notification.show();
  }

  openExternal(address: string): Promise<void> {
    return this.#options.openExternal(address);
  }

  async setShortcut(accelerator: string | undefined, act: () => void): Promise<boolean> {
    if (this.#shortcut !== undefined) globalShortcut.unregister(this.#shortcut);
    this.#shortcut = undefined;
    if (accelerator === undefined) return true;
    try {
      if (!globalShortcut.register(accelerator, act)) return false;
    } catch {
      // It is no name of keys.
      return false;
    }
    this.#shortcut = accelerator;
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.setShortcut(undefined, () => {});
    this.#tray[Symbol.dispose]();
    for (const window of this.#windows.values()) window.destroy();
    ipcMain.removeHandler(channels.call);
    ipcMain.removeAllListeners(channels.opened);
    ipcMain.removeAllListeners(channels.openScreen);
    this.#session.protocol.unhandle(scheme);
  }

  #newWindow(id: string): BrowserWindow {
    const window = new BrowserWindow({
      ...firstSize,
      icon: this.#options.icon,
      autoHideMenuBar: true,
      webPreferences: {
        session: this.#session,
        preload: this.#options.preload,
        contextIsolation: true,
        sandbox: true,
        nodeIntegration: false,
        webSecurity: true,
        webviewTag: false,
        spellcheck: false,
      },
    });
    window.setMenu(null);
    this.#windows.set(id, window);
    window.on('closed', () => {
      this.#windows.delete(id);
      this.#host.windowClosed(id);
    });
    window.webContents.on('render-process-gone', (_event, { reason }) => {
      if (reason === 'clean-exit') return;
      console.error(`torpor: the page of a window ended (${reason}); it is loaded again`);
      setTimeout(() => {
        if (!window.isDestroyed()) window.webContents.reload();
      }, reloadPauseMs);
    });
    this.#keepInside(window.webContents);
    return window;
  }

  /** A page goes nowhere else: a link to the web opens in the user's browser. */
  #keepInside(contents: WebContents): void {
    contents.setWindowOpenHandler(({ url }) => {
      this.#openLink(url);
      return { action: 'deny' };
    });
    contents.on('will-navigate', (event) => {
      if (isOurs(event.url)) return;
      event.preventDefault();
      this.#openLink(event.url);
    });
    contents.on('will-attach-webview', (event) => event.preventDefault());
  }

  #openLink(address: string): void {
    this.openExternal(address).catch((error) => console.error(`torpor: ${sentenceOf(error)}`));
  }

  /** The window that a message comes from; undefined for what is no page of ours. */
  #senderOf({ sender, senderFrame }: IpcMainEvent | IpcMainInvokeEvent): string | undefined {
    if (senderFrame === null || senderFrame !== sender.mainFrame || !isOurs(senderFrame.url))
      return undefined;
    for (const [id, window] of this.#windows) if (window.webContents === sender) return id;
    return undefined;
  }

  async #call(event: IpcMainInvokeEvent, name: unknown, args: unknown): Promise<unknown> {
    const window = this.#senderOf(event);
    if (window === undefined || typeof name !== 'string' || !Array.isArray(args)) {
      return { error: { code: 'usage', message: 'That was no call of a window.', hint: '' } };
    }
    return this.#host.call(window, name as CallName, args);
  }

  /** Also when a page was loaded again. */
  #opened(event: IpcMainEvent): void {
    const window = this.#senderOf(event);
    if (window === undefined) return;
    const { sender } = event;
    this.#host.windowOpened(window, (name, value) => {
      if (!sender.isDestroyed()) sender.send(channels.event, name, value);
    });
  }

  async #openScreen(event: IpcMainEvent, asked: unknown): Promise<void> {
    const { request, workload } = (asked ?? {}) as Partial<ScreenRequest>;
    if (this.#senderOf(event) === undefined || typeof request !== 'number' || typeof workload !== 'string')
      return;
    const { sender } = event;
    try {
      const path = await this.#host.screenSocket(workload);
      if (sender.isDestroyed()) return;
      const { port1, port2 } = new MessageChannelMain();
      serveScreenPort(port1, path);
      sender.postMessage(channels.screen, { request } satisfies ScreenAnswer, [port2]);
    } catch (error) {
      if (sender.isDestroyed()) return;
      sender.postMessage(channels.screen, { request, error: sentenceOf(error) } satisfies ScreenAnswer);
    }
  }
}

/** By its window's number, which under Wayland is no number of an X server's window. */
function isShown(window: BrowserWindow): IsMeant {
  const handle = window.getNativeWindowHandle();
  const number = handle.length >= 4 ? handle.readUInt32LE(0) : 0;
  return ({ id }) => id === number;
}

async function put(window: BrowserWindow, placement: WindowPlacement): Promise<void> {
  const { position, size, state } = placement;
  // A place is known from an X server alone, so where none was known it is not asked again.
  if (position !== undefined && (await placeOnX(isShown(window), placement))) return;
  if (window.isDestroyed()) return;
  if (state === 'maximised') window.maximize();
  else if (state === 'full-screen') window.setFullScreen(true);
  else window.setSize(size.width, size.height);
}

function isOurs(address: string): boolean {
  return URL.canParse(address) && address.startsWith(`${origin}/`);
}
