/**
 * noVNC 1.7.0 as far as it is used here. It has no types of its own. What begins with an underscore is not its public
 * interface: it is used in `live-view.ts` alone, and the version is pinned.
 */
declare module '@novnc/novnc' {
  /** What noVNC sends and receives by: a WebSocket, or anything that has these of an RTCDataChannel. */
  export interface RawChannel {
    send(bytes: Uint8Array<ArrayBuffer>): void;
    close(): void;
    binaryType: string;
    onerror: ((event: Event) => void) | null;
    onmessage: ((event: MessageEvent) => void) | null;
    onopen: ((event: Event) => void) | null;
    onclose: ((event: CloseEvent) => void) | null;
    readonly protocol: string;
    readonly readyState: string | number;
  }

  /** Bytes received and not yet understood, and bytes to send. */
  type ByteQueue = object;

  interface Display {
    scale: number;
  }

  interface Keyboard {
    _target: HTMLElement;
    _allKeysUp(): void;
  }

  export default class RFB extends EventTarget {
    constructor(target: HTMLElement, channel: RawChannel, options?: { shared?: boolean });
    resizeSession: boolean;
    background: string;
    disconnect(): void;
    focus(options?: FocusOptions): void;
    sendKey(keysym: number, code: string, down?: boolean): void;
    clipboardPasteFrom(text: string): void;

    protected readonly _screen: HTMLDivElement;
    protected readonly _canvas: HTMLCanvasElement;
    protected readonly _display: Display;
    protected readonly _sock: ByteQueue;
    protected readonly _keyboard: Keyboard;
    protected readonly _cursorImage: { w: number; h: number; hotx: number; hoty: number };
    protected readonly _fbWidth: number;
    protected readonly _fbHeight: number;
    protected readonly _FBU: { x: number; y: number; width: number; height: number };
    protected readonly _rfbConnectionState:
      | ''
      | 'connecting'
      | 'connected'
      | 'disconnecting'
      | 'disconnected';
    protected _requestRemoteResize(): void;
    protected _screenSize(): { w: number; h: number };
    protected _handleResize(): void;
    protected _updateScale(): void;
    protected _fixScrollbars(): void;
    protected _resize(width: number, height: number): void;
    protected _handleDataRect(): boolean;
    protected _framebufferUpdate(): boolean;
    protected _handleMouse(event: MouseEvent): void;
    protected _handleWheel(event: WheelEvent): void;
    protected _refreshCursor(): void;
    protected _sendEncodings(): void;

    static messages: {
      clientEncodings(queue: ByteQueue, encodings: readonly number[]): void;
      pointerEvent(queue: ByteQueue, x: number, y: number, mask: number): void;
    };
  }
}
