/**
 * The way to the app: what the shell put into this window, or a WebSocket to where the page came from. The WebSocket
 * connects again by itself, and says meanwhile whether the app is gone or does not know this window any more.
 */
import type {
  CallArguments,
  CallError,
  CallName,
  CallResult,
  EventName,
  EventValue,
  ToApp,
  ToWindow,
  WindowBridge,
} from '../main/ipc/schema.ts';

declare global {
  interface Window {
    torpor?: WindowBridge;
  }
}

export type Connection = 'connecting' | 'open' | 'lost' | 'refused';

/** One event of the app, with its value. */
export type AppEvent = { [N in EventName]: { name: N; value: EventValue<N> } }[EventName];

/** What a call failed with: the app's sentence and hint; the code `disconnected` where there was no app to ask. */
export class CallFailed extends Error {
  override readonly name = 'CallFailed';
  readonly code: string;
  readonly hint: string;
  /** To what the user would have to agree for it to be done. */
  readonly consents: NonNullable<CallError['consents']>;

  constructor({ code, message, hint, consents = [] }: CallError) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.consents = consents;
  }
}

export interface Bridge {
  readonly connection: Connection;
  /** @throws CallFailed */
  call<N extends CallName>(name: N, ...args: CallArguments<N>): Promise<CallResult<N>>;
  onEvent(listener: (event: AppEvent) => void): void;
  onConnection(listener: (connection: Connection) => void): void;
  /** Tries to connect at once instead of when the next try is due. */
  retry(): void;
}

export function openBridge(): Bridge {
  return window.torpor === undefined ? new SocketBridge() : new ShellBridge(window.torpor);
}

const disconnected = () => new CallFailed({ code: 'disconnected', message: '', hint: '' });

class ShellBridge implements Bridge {
  readonly connection = 'open';
  readonly #shell: WindowBridge;

  constructor(shell: WindowBridge) {
    this.#shell = shell;
  }

  async call<N extends CallName>(name: N, ...args: CallArguments<N>): Promise<CallResult<N>> {
    const answer = await this.#shell.call(name, args);
    if ('error' in answer) throw new CallFailed(answer.error);
    return answer.result as CallResult<N>;
  }

  onEvent(listener: (event: AppEvent) => void): void {
    this.#shell.listen((name, value) => listener({ name, value } as AppEvent));
  }

  onConnection(listener: (connection: Connection) => void): void {
    listener(this.connection);
  }

  retry(): void {}
}

const firstDelayMs = 250;
const longestDelayMs = 4000;

class SocketBridge implements Bridge {
  connection: Connection = 'connecting';
  readonly #events: ((event: AppEvent) => void)[] = [];
  readonly #connections: ((connection: Connection) => void)[] = [];
  readonly #waiting = new Map<number, { name: CallName; settle: PromiseWithResolvers<unknown> }>();
  #unsent: ToApp[] = [];
  #socket: WebSocket | undefined;
  #lastId = 0;
  #delayMs = firstDelayMs;
  #timer = 0;

  constructor() {
    this.#connect();
  }

  call<N extends CallName>(name: N, ...args: CallArguments<N>): Promise<CallResult<N>> {
    if (this.connection === 'lost' || this.connection === 'refused') return Promise.reject(disconnected());
    const message: ToApp = { id: ++this.#lastId, call: name, args };
    const settle = Promise.withResolvers<unknown>();
    this.#waiting.set(message.id, { name, settle });
    if (this.connection === 'open') this.#socket?.send(JSON.stringify(message));
    else this.#unsent.push(message);
    return settle.promise as Promise<CallResult<N>>;
  }

  onEvent(listener: (event: AppEvent) => void): void {
    this.#events.push(listener);
  }

  onConnection(listener: (connection: Connection) => void): void {
    this.#connections.push(listener);
    listener(this.connection);
  }

  retry(): void {
    if (this.#socket !== undefined) return;
    clearTimeout(this.#timer);
    this.#delayMs = firstDelayMs;
    this.#connect();
  }

  #connect(): void {
    const socket = new WebSocket(new URL(`/ipc${location.search}`, location.href.replace(/^http/, 'ws')));
    this.#socket = socket;
    socket.onopen = () => {
      this.#delayMs = firstDelayMs;
      this.#become('open');
      for (const message of this.#unsent) socket.send(JSON.stringify(message));
      this.#unsent = [];
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(String(data)) as ToWindow);
    socket.onclose = () => void this.#closed();
  }

  #receive(message: ToWindow): void {
    if ('event' in message) {
      for (const listener of this.#events)
        listener({ name: message.event, value: message.value } as AppEvent);
      return;
    }
    const settle = this.#waiting.get(message.id)?.settle;
    this.#waiting.delete(message.id);
    if ('error' in message) settle?.reject(new CallFailed(message.error));
    else settle?.resolve(message.result);
  }

  async #closed(): Promise<void> {
    this.#socket = undefined;
    this.#unsent = [];
    for (const { settle } of this.#waiting.values()) settle.reject(disconnected());
    this.#waiting.clear();
    this.#timer = window.setTimeout(() => this.#connect(), this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, longestDelayMs);
    const refused = await isRefused();
    if (this.#delayMs > firstDelayMs) this.#become(refused ? 'refused' : 'lost');
  }

  #become(connection: Connection): void {
    if (connection === this.connection) return;
    this.connection = connection;
    for (const listener of this.#connections) listener(connection);
  }
}

/** A refused WebSocket does not say why; the same server's answer to a plain request does. */
async function isRefused(): Promise<boolean> {
  try {
    const { status } = await fetch('/', { method: 'HEAD', cache: 'no-store' });
    return status === 401 || status === 403;
  } catch {
    return false;
  }
}
