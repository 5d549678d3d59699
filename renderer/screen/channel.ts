/**
 * The way to the screen of a capsule: a WebSocket to the app, or in Electron a MessagePort. Both carry the bytes of the
 * RFB protocol as they are; noVNC is given either as if it were an RTCDataChannel.
 */
import type { RawChannel } from '@novnc/novnc';

/** Why a channel was closed from the other side. */
export type Ending =
  /** The capsule, the app or the engine ended it, such as for a suspend; trying again makes sense. */
  | { kind: 'lost' }
  /** The application does not run, so it has no screen. */
  | { kind: 'absent'; reason: string }
  | { kind: 'forbidden'; reason: string };

/** Codes by which the app closes the WebSocket. */
const closeCode = { forbidden: 4401, absent: 4404 } as const;

/** @param ended called at most once, when the other side closes it */
export async function openChannel(
  workload: string,
  ended: (ending: Ending) => void,
): Promise<RawChannel | undefined> {
  const bridge = window.torpor;
  if (bridge === undefined) return openWebSocket(workload, ended);
  try {
    const port = await bridge.openScreen(workload);
    return new PortChannel(port as MessagePort, ended);
  } catch (error) {
    ended({ kind: 'absent', reason: error instanceof Error ? error.message : String(error) });
    return undefined;
  }
}

function openWebSocket(workload: string, ended: (ending: Ending) => void): RawChannel {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const socket = new WebSocket(`${scheme}//${location.host}/screen/${encodeURIComponent(workload)}`);
  socket.addEventListener(
    'close',
    ({ code, reason }) => {
      if (code === closeCode.absent) ended({ kind: 'absent', reason });
      else if (code === closeCode.forbidden) ended({ kind: 'forbidden', reason });
      else ended({ kind: 'lost' });
    },
    { once: true },
  );
  return socket as unknown as RawChannel;
}

/** Its fields have the names that noVNC looks for in a channel. */
class PortChannel implements RawChannel {
  readonly #port: MessagePort;
  readonly #ended: (ending: Ending) => void;
  binaryType = 'arraybuffer';
  protocol = '';
  readyState: 'open' | 'closed' = 'open';
  onopen: RawChannel['onopen'] = null;
  onclose: RawChannel['onclose'] = null;
  onerror: RawChannel['onerror'] = null;

  constructor(port: MessagePort, ended: (ending: Ending) => void) {
    this.#port = port;
    this.#ended = ended;
    this.onmessage = null;
  }

  /** The port keeps what comes until somebody listens. */
  set onmessage(listener: RawChannel['onmessage']) {
    this.#port.onmessage =
      listener === null
        ? null
        : (event) => {
            if (event.data === null) this.#end();
            else listener(event);
          };
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    // noVNC uses its buffer again at once, so it cannot be transferred.
    this.#port.postMessage(bytes.slice().buffer);
  }

  close(): void {
    if (this.readyState === 'closed') return;
    this.readyState = 'closed';
    this.#port.postMessage(null);
    this.#port.close();
    this.onclose?.(new CloseEvent('close'));
  }

  #end(): void {
    if (this.readyState === 'closed') return;
    this.readyState = 'closed';
    this.#port.close();
    this.onclose?.(new CloseEvent('close'));
    this.#ended({ kind: 'lost' });
  }
}
