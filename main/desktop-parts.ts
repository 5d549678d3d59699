/** What the app needs to know of the user's desktop, apart from how that is found out. */
import type { Application, Notice, ProgramView, Settings } from './ipc/view.ts';
import type { WindowPlacement } from './shells/placement.ts';

export interface LaunchCommand {
  /** Of the workload. */
  name: string;
  argv: string[];
  /** The user's home where it is absent. */
  cwd?: string;
}

export interface Icon {
  /** Media type. */
  type: string;
  bytes: Uint8Array;
}

/** The installed applications. */
export interface Applications {
  /** Recently used first, then by name. */
  list(): Promise<Application[]>;
  /** Those that open the file, the default one first. @throws TorporError where there is no such file. */
  forFile(path: string): Promise<Application[]>;
  /** @throws TorporError where there is no such application or action, or its entry is broken. */
  commandFor(id: string, options: { action?: string; files?: readonly string[] }): Promise<LaunchCommand>;
  /** A command line in a terminal window. @throws TorporError where no terminal is installed. */
  inTerminal(argv: readonly string[]): Promise<LaunchCommand>;
  /** The one that has started a workload, where it can be told. */
  of(workload: {
    application?: string | undefined;
    command: readonly string[];
  }): Promise<Application | undefined>;
  /** Of an application by its id, or for a name a picture of our own. */
  icon(of: { application?: string; name: string }, sizePx: number): Promise<Icon>;
  /** It has just been started. */
  used(id: string): Promise<void>;
}

export interface SettingsStore {
  readonly value: Settings;
  /** @throws TorporError `usage` where it does not fit. */
  set(change: { [K in keyof Settings]?: Settings[K] | undefined }): Promise<Settings>;
  onChange(listener: (settings: Settings) => void): void;
}

/** Where windows were, by the workloads that they show. */
export interface PlacementStore {
  of(workload: string): WindowPlacement | undefined;
  keep(workload: string, placement: WindowPlacement | undefined): void;
}

/** A window on the user's desktop. */
export interface OpenWindow {
  id: number;
  /** Of the process whose it is, on this machine; undefined where neither the display nor the window says. */
  pid: number | undefined;
  title: string;
  isMinimised: boolean;
}

/** The windows of all programs on the user's desktop. */
export interface UserWindows {
  all(): readonly OpenWindow[];
  /** The one that the user is in. */
  readonly active: OpenWindow | undefined;
  on(event: 'changed', listener: () => void): unknown;
}

/** What the machine tells of its power. */
export interface Power {
  readonly onBattery: boolean;
  readonly knowsBattery: boolean;
  readonly knowsSleep: boolean;
  /** `battery`: it has come to run on it, or on the mains again; `lid`: it was closed. */
  on(event: 'battery' | 'lid', listener: () => void): unknown;
  /** Just before the machine sleeps, which waits for it where {@link delaySleep} wants that. There is one listener. */
  onSleep(listener: () => Promise<void>): void;
  delaySleep(isWanted: boolean): void;
}

export interface Desktop {
  applications: Applications;
  /** Undefined where the desktop does not tell of them, as under Wayland. */
  windows: UserWindows | undefined;
  /** Undefined where there is no system bus. */
  power: Power | undefined;
  /** Where what the app writes down lies. */
  stateFolder: string;
  settings: SettingsStore;
  placements: PlacementStore;
  /** Such as `de_DE`. */
  locale: string;
  /** What runs in the user's terminals, without what `isKnown` says of a pid, the newest first. */
  programs(isKnown: (pid: number) => boolean): Promise<ProgramView[]>;
  openExternal(address: string): Promise<void>;
  /** Where the shell cannot. @returns whether somebody shows it */
  notify(notice: Notice): Promise<boolean>;
}
