/**
 * What shows the user interface: Electron, or the system's Chromium, or nothing but a browser that the user opens.
 * Everything the app does lies above this interface; a shell only shows, and tells what the user did.
 */
import type { CallError, CallName, EventName, EventValue } from '../ipc/schema.ts';
import type { Notice, Place } from '../ipc/view.ts';
import type { WindowPlacement } from './placement.ts';

/** One entry of the tray's menu. `id` is unique in the menu and stays the same as long as it means the same. */
export type TrayItem =
  | { kind: 'separator'; id: string }
  | { kind: 'label'; id: string; label: string }
  | { kind: 'command'; id: string; label: string; enabled: boolean; icon?: Uint8Array; act: () => void }
  | { kind: 'check'; id: string; label: string; enabled: boolean; checked: boolean; act: () => void }
  | { kind: 'submenu'; id: string; label: string; icon?: Uint8Array; items: TrayItem[] };

export interface TrayModel {
  /** `busy`: something is being suspended or resumed; `attention`: something failed and was not seen yet. */
  status: 'idle' | 'busy' | 'paused' | 'attention';
  /** While busy: how much of it is done, from 0 to 1; absent where that is not known. */
  progress?: number;
  title: string;
  tooltip: string;
  items: TrayItem[];
}

/** What the shell has the app do, whichever way a window's message came. */
export interface WindowHost {
  /** Checks and answers a call of the window `window`; never rejects. */
  call(
    window: string,
    name: CallName | string,
    args: unknown[],
  ): Promise<{ result: unknown } | { error: CallError }>;
  /** Path of the RFB socket of a capsule of the user's. @throws TorporError where it does not run. */
  screenSocket(workload: string): Promise<string>;
  /** A window has come or gone, so that the app knows what is shown. */
  windowOpened(window: string, send: <E extends EventName>(event: E, value: EventValue<E>) => void): void;
  windowClosed(window: string): void;
  /** Pages, scripts, icons and pictures, for the shell's own scheme or its HTTP server. */
  fetch(request: Request): Promise<Response>;
}

export interface Shell extends AsyncDisposable {
  readonly kind: 'electron' | 'chromium' | 'browser';
  readonly canGlobalShortcut: boolean;
  /**
   * Opens a window there, or brings the one that is there to the front.
   * @param placement where a new one is put on the desktop, as far as that lets it be
   */
  open(place: Place, placement?: WindowPlacement): Promise<void>;
  /** Where a window is on the desktop; undefined where it is not open, or its place is not the shell's to know. */
  placementOf(window: string): Promise<WindowPlacement | undefined>;
  close(window: string): Promise<void>;
  /** Shows or changes the tray. @returns whether the desktop has one */
  setTray(model: TrayModel): Promise<boolean>;
  notify(notice: Notice, act?: () => void): Promise<void>;
  /** Opens an address in the user's browser; it was checked before. */
  openExternal(address: string): Promise<void>;
  /** @param accelerator such as `Control+Alt+S`; undefined for none. @returns whether it could be had */
  setShortcut(accelerator: string | undefined, act: () => void): Promise<boolean>;
}
