/** What this window knows: the app's state as it was pushed last, the connection, and what is to be said to the user. */
import { createContext, useContext, useEffect, useState, useSyncExternalStore } from 'react';
import type { AppState, Notice } from '../main/ipc/view.ts';
import { type Bridge, CallFailed, type Connection, openBridge } from './bridge.ts';
import { go } from './place.ts';

export type Toast = Notice & { key: number };

interface Known {
  connection: Connection;
  /** Undefined until it came for the first time; what it was last while there is no connection. */
  state: AppState | undefined;
  toasts: readonly Toast[];
  /** For screen readers only. */
  announcement: string;
}

/** The call could not be made because there is no app; the page says so by itself. */
const isDisconnected = (error: unknown) => error instanceof CallFailed && error.code === 'disconnected';

export class Model {
  readonly bridge: Bridge = openBridge();
  #known: Known = { connection: 'connecting', state: undefined, toasts: [], announcement: '' };
  readonly #listeners = new Set<() => void>();
  #lastToast = 0;

  constructor() {
    this.bridge.onEvent(({ name, value }) => {
      if (name === 'state') this.#change({ state: value });
      else if (name === 'notice') this.notify(value);
      else go(value);
    });
    this.bridge.onConnection((connection) => {
      this.#change({ connection });
      if (connection === 'open') void this.#readState();
    });
  }

  get known(): Known {
    return this.#known;
  }

  readonly listen = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  notify(notice: Notice): void {
    // The same sentence twice is one notice: an engine that is away fails every call with it.
    const others = this.#known.toasts.filter(({ message }) => message !== notice.message);
    this.#change({ toasts: [...others, { ...notice, key: ++this.#lastToast }].slice(-5) });
  }

  dismiss(key: number): void {
    this.#change({ toasts: this.#known.toasts.filter((toast) => toast.key !== key) });
  }

  announce(announcement: string): void {
    this.#change({ announcement });
  }

  /** What was thrown becomes a notice, unless the page says it by itself. */
  fail(error: unknown): void {
    if (isDisconnected(error)) return;
    const hint = error instanceof CallFailed ? error.hint : '';
    this.notify({ level: 'error', message: error instanceof Error ? error.message : String(error), hint });
  }

  async #readState(): Promise<void> {
    try {
      this.#change({ state: await this.bridge.call('state.get') });
    } catch (error) {
      this.fail(error);
    }
  }

  #change(change: Partial<Known>): void {
    this.#known = { ...this.#known, ...change };
    for (const listener of this.#listeners) listener();
  }
}

export const ModelContext = createContext<Model | undefined>(undefined);

export function useModel(): Model {
  const model = useContext(ModelContext);
  if (model === undefined) throw new Error('there is no model above this component');
  return model;
}

export function useKnown(): Known {
  const model = useModel();
  return useSyncExternalStore(model.listen, () => model.known);
}

/** The app's state, in components that are shown only when there is one. */
export function useAppState(): AppState {
  const { state } = useKnown();
  if (state === undefined) throw new Error('there is no state yet');
  return state;
}

/** The time, for figures such as "5 minutes ago"; changes every ten seconds. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 10_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
