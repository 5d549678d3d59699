/** One window's WebSocket: calls in, answers and events out, by main/ipc/schema.ts. */
import type { WebSocket } from 'ws';
import { z } from 'zod';
import type { EventName, EventValue, ToWindow } from '../ipc/schema.ts';
import type { WindowHost } from '../shells/shell.ts';

/** A window that has not read this much is stuck; it connects anew when it is not. */
const mostUnreadBytes = 32 << 20;
/** A window that does not answer within this time has gone, such as with a laptop's lid over a forwarded port. */
const pingMs = 20_000;

export const closeCodes = { notUnderstood: 4400, noSession: 4401, noScreen: 4404 } as const;

const toAppSchema = z.object({
  id: z.number().int().nonnegative(),
  call: z.string().max(100),
  args: z.array(z.unknown()).max(20),
});

/**
 * Serves the window until its socket closes.
 * @param used called with a way to tell the window something, whenever its user does something there
 */
export function serveWindow(
  socket: WebSocket,
  window: string,
  host: WindowHost,
  used: (tell: Channel['tell']) => void,
): void {
  const channel = new Channel(socket);
  const tell: Channel['tell'] = (event, value) => channel.tell(event, value);
  socket.on('message', async (data, isBinary) => {
    const message = isBinary ? undefined : parse(String(data));
    if (message === undefined) {
      socket.close(closeCodes.notUnderstood, 'That was no message of a window.');
      return;
    }
    used(tell);
    channel.send({ id: message.id, ...(await host.call(window, message.call, message.args)) });
  });
  socket.once('close', () => host.windowClosed(window));
  // A frame that is too large or broken; the close that follows says so to the other side.
  socket.on('error', () => {});
  keepAlive(socket);
  host.windowOpened(window, tell);
  used(tell);
}

function parse(text: string): z.infer<typeof toAppSchema> | undefined {
  try {
    return toAppSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

export class Channel {
  readonly #socket: WebSocket;
  #isTelling = false;
  #nextState: EventValue<'state'> | undefined;

  constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  tell<E extends EventName>(event: E, value: EventValue<E>): void {
    if (event === 'state') this.#tellState(value as EventValue<'state'>);
    else this.send({ event, value });
  }

  send(message: ToWindow, sent?: () => void): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    if (this.#socket.bufferedAmount > mostUnreadBytes) {
      this.#socket.terminate();
      return;
    }
    this.#socket.send(JSON.stringify(message), sent);
  }

  /** States come often and only the last one counts: a slow window gets fewer. */
  #tellState(state: EventValue<'state'>): void {
    this.#nextState = state;
    if (this.#isTelling) return;
    this.#isTelling = true;
    const value = this.#nextState;
    this.#nextState = undefined;
    this.send({ event: 'state', value }, () => {
      this.#isTelling = false;
      if (this.#nextState !== undefined) this.#tellState(this.#nextState);
    });
  }
}

/** Asks the other side from time to time whether it is there, and ends the connection where it does not answer. */
export function keepAlive(socket: WebSocket): void {
  let isThere = true;
  const timer = setInterval(() => {
    if (!isThere) {
      socket.terminate();
      return;
    }
    isThere = false;
    socket.ping();
  }, pingMs);
  timer.unref();
  socket.on('pong', () => {
    isThere = true;
  });
  socket.once('close', () => clearInterval(timer));
}
