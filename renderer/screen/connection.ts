/**
 * Keeps a view of an application's screen connected for as long as it is wanted. When it is cut, such as by a suspend, its
 * last picture stays, and is taken away only when the next view has drawn a whole one in the window's size.
 */
import { type Ending, openChannel } from './channel.ts';
import { LiveView } from './live-view.ts';
import type { Size } from './size.ts';

/** The first pause lets the news that it is being suspended arrive before it is tried again. */
const firstPauseMs = 250;
const longestPauseMs = 4000;
/** An application that does not take the window's size is shown in its own after this. */
const fitLimitMs = 800;

export type ConnectionState =
  | { kind: 'idle' }
  | { kind: 'connecting' }
  | { kind: 'live'; view: LiveView }
  | { kind: 'forbidden'; reason: string };

export interface ConnectionOptions {
  workload: string;
  /** Where views are put, and the pictures that they leave. */
  live: HTMLElement;
  still: HTMLElement;
  keys: HTMLTextAreaElement;
  changed(state: ConnectionState): void;
  /** The application has copied this. */
  copied(text: string): void;
  /** A view is connected, though nothing may have been drawn yet. */
  connected(): void;
}

export class ScreenConnection implements Disposable {
  readonly #options: ConnectionOptions;
  #isWanted = false;
  #view: LiveView | undefined;
  #box: { size: Size; ratio: number } | undefined;
  #pauseMs = firstPauseMs;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #late: ReturnType<typeof setTimeout> | undefined;
  /** Counts attempts, so that what belongs to an earlier one is known. */
  #attempt = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** The view that is connected, drawn or not. */
  get view(): LiveView | undefined {
    return this.#view;
  }

  /** Whether the application runs, so that there is something to connect to. */
  set wanted(isWanted: boolean) {
    if (isWanted === this.#isWanted) return;
    this.#isWanted = isWanted;
    clearTimeout(this.#retry);
    this.#pauseMs = firstPauseMs;
    if (!isWanted) {
      // A view that still is connected is about to be cut by the engine, and its picture kept.
      if (this.#view === undefined) this.#options.changed({ kind: 'idle' });
    } else if (this.#view === undefined) void this.#connect();
  }

  /** The window's size in pixels of the device. */
  fit(size: Size, ratio: number): void {
    this.#box = { size, ratio };
    this.#view?.fit(size, ratio);
  }

  async #connect(): Promise<void> {
    const attempt = ++this.#attempt;
    const isCurrent = () => attempt === this.#attempt;
    this.#options.changed({ kind: 'connecting' });
    let ending: Ending = { kind: 'lost' };
    const channel = await openChannel(this.#options.workload, (how) => {
      ending = how;
      // The view, where there is one, tells it by itself when it has closed.
      if (isCurrent() && this.#view === undefined) this.#lost(ending);
    });
    if (channel === undefined) return;
    if (!isCurrent() || !this.#isWanted) {
      channel.close();
      return;
    }
    let isLive = false;
    const becomeLive = () => {
      if (isLive || this.#view !== view) return;
      isLive = true;
      clearTimeout(this.#late);
      this.#pauseMs = firstPauseMs;
      this.#options.still.replaceChildren();
      this.#options.changed({ kind: 'live', view });
    };
    const view = new LiveView(this.#options.live, channel, this.#options.keys, {
      whole: () => {
        if (view.isFitting) becomeLive();
        else this.#late ??= setTimeout(becomeLive, fitLimitMs);
      },
      drawn: () => {
        if (!isLive && view.isFitting) becomeLive();
      },
    });
    this.#view = view;
    if (this.#box !== undefined) view.fit(this.#box.size, this.#box.ratio);
    view.addEventListener('connect', () => this.#options.connected());
    view.addEventListener('clipboard', (event) => {
      // What it had copied before it was connected, such as before a suspend, is older than what the desktop has.
      if (view.isUsed) this.#options.copied((event as CustomEvent<{ text: string }>).detail.text);
    });
    view.addEventListener('disconnect', () => {
      clearTimeout(this.#late);
      this.#late = undefined;
      if (this.#view !== view) return;
      this.#view = undefined;
      if (isLive) this.#keepPicture(view.canvas);
      // The socket's own closing event, which knows why, may come after noVNC's.
      setTimeout(() => {
        if (isCurrent()) this.#lost(ending);
      }, 0);
    });
  }

  #keepPicture(canvas: HTMLCanvasElement): void {
    canvas.style.cursor = '';
    this.#options.still.replaceChildren(canvas);
  }

  #lost(ending: Ending): void {
    if (ending.kind === 'forbidden') {
      this.#options.changed({ kind: 'forbidden', reason: ending.reason });
      return;
    }
    if (!this.#isWanted) {
      this.#options.changed({ kind: 'idle' });
      return;
    }
    this.#options.changed({ kind: 'connecting' });
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#connect(), this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, longestPauseMs);
  }

  [Symbol.dispose](): void {
    this.#attempt++;
    this.#isWanted = false;
    clearTimeout(this.#retry);
    clearTimeout(this.#late);
    const view = this.#view;
    this.#view = undefined;
    view?.disconnect();
  }
}
