/** The terminal of a job in an element: connected for as long as it is wanted, and as large as the element. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { RawChannel } from '@novnc/novnc';
import { openChannel } from '../screen/channel.ts';
import { whileAdopting, withAdoptedStyles } from './adopted-styles.ts';
import { sized, TerminalStream, typed, typedBytes } from './stream.ts';

const retryMs = 500;

export interface LiveTerminalOptions {
  workload: string;
  host: HTMLElement;
  /** Read out for what is typed into. */
  label: string;
  connected(isConnected: boolean): void;
  titled(title: string): void;
}

export class LiveTerminal implements Disposable {
  readonly #options: LiveTerminalOptions;
  readonly #terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #resized: ResizeObserver;
  #channel: RawChannel | undefined;
  #isWanted = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LiveTerminalOptions) {
    this.#options = options;
    this.#terminal = new Terminal({
      documentOverride: withAdoptedStyles(document),
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", monospace',
      fontSize: 14,
      scrollback: 5000,
      cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches,
      screenReaderMode: true,
      theme: { background: '#1b1c1f', foreground: '#e8e6e1' },
    });
    this.#terminal.loadAddon(this.#fit);
    whileAdopting(document, () => this.#terminal.open(options.host));
    this.#terminal.textarea?.setAttribute('aria-label', options.label);
    this.#terminal.onData((text) => this.#send(typed(text)));
    this.#terminal.onBinary((text) => this.#send(typedBytes(text)));
    this.#terminal.onResize(({ cols, rows }) => this.#send(sized(cols, rows)));
    this.#terminal.onTitleChange(options.titled);
    this.#resized = new ResizeObserver(() => this.#fit.fit());
    this.#resized.observe(options.host);
    this.#fit.fit();
  }

  /** Whether the job runs, so that there is something to connect to. */
  set wanted(isWanted: boolean) {
    if (isWanted === this.#isWanted) return;
    this.#isWanted = isWanted;
    if (isWanted) void this.#connect();
    else this.#disconnect();
  }

  focus(): void {
    this.#terminal.focus();
  }

  async #connect(): Promise<void> {
    let isOver = false;
    const channel = await openChannel(this.#options.workload, () => {
      isOver = true;
      this.#lost(channel);
    });
    if (channel === undefined || isOver) return;
    if (!this.#isWanted) {
      channel.close();
      return;
    }
    this.#channel = channel;
    channel.binaryType = 'arraybuffer';
    const stream = new TerminalStream();
    channel.onmessage = ({ data }) => {
      for (const frame of stream.push(new Uint8Array(data as ArrayBuffer))) {
        if (frame.kind === 'data') this.#terminal.write(frame.bytes);
      }
    };
    const begin = () => {
      this.#options.connected(true);
      this.#send(sized(this.#terminal.cols, this.#terminal.rows));
    };
    if ((channel.readyState as unknown) === WebSocket.CONNECTING) channel.onopen = begin;
    else begin();
  }

  #send(bytes: Uint8Array<ArrayBuffer>): void {
    const channel = this.#channel;
    const isOpen =
      channel !== undefined &&
      (channel.readyState === 'open' || (channel.readyState as unknown) === WebSocket.OPEN);
    if (isOpen) channel.send(bytes);
  }

  #lost(channel: RawChannel | undefined): void {
    if (this.#channel !== channel) return;
    this.#channel = undefined;
    this.#options.connected(false);
    clearTimeout(this.#retry);
    if (this.#isWanted) this.#retry = setTimeout(() => this.#isWanted && void this.#connect(), retryMs);
  }

  #disconnect(): void {
    clearTimeout(this.#retry);
    const channel = this.#channel;
    this.#channel = undefined;
    channel?.close();
    this.#options.connected(false);
  }

  [Symbol.dispose](): void {
    this.#isWanted = false;
    this.#disconnect();
    this.#resized.disconnect();
    this.#terminal.dispose();
  }
}
