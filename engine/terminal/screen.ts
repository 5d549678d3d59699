/** What a terminal shows, kept so that whoever attaches sees it as if they had looked all the time. */
import serializer from '@xterm/addon-serialize';
import xterm from '@xterm/headless';
import type { TerminalSize } from '../../api/terminal-stream.ts';
import { TerminalModes } from './modes.ts';

const scrollbackLines = 2000;

/** Of a terminal in which a program has set what it likes: everything back but which lines scroll. */
const resetModes =
  '\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?2004l\x1b[?1004l\x1b[?1l\x1b>\x1b[?7h\x1b[0m\x1b[?25h';
/** The same for those; it moves the cursor. */
const resetRegion = '\x1b[r';
const saveCursor = '\x1b7';
const restoreCursor = '\x1b8';
const leaveAlternate = '\x1b[?1049l';
const lastLine = '\x1b[999;1H';
const clear = '\x1b[0m\x1b[2J\x1b[H';

export class Screen {
  readonly #terminal: InstanceType<typeof xterm.Terminal>;
  readonly #serializer = new serializer.SerializeAddon();
  readonly #modes: TerminalModes;

  constructor({ columns, rows }: TerminalSize) {
    this.#terminal = new xterm.Terminal({
      cols: columns,
      rows,
      scrollback: scrollbackLines,
      allowProposedApi: true,
    });
    this.#terminal.loadAddon(this.#serializer);
    this.#modes = new TerminalModes(this.#terminal);
  }

  /** Calls the listener with what a terminal answers to questions that programs ask it. */
  onAnswer(listener: (answer: string) => void): void {
    this.#terminal.onData(listener);
  }

  /** Draws it; resolves when it is drawn. */
  write(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve) => this.#terminal.write(bytes, resolve));
  }

  resize({ columns, rows }: TerminalSize): void {
    if (columns === this.#terminal.cols && rows === this.#terminal.rows) return;
    this.#terminal.resize(columns, rows);
    this.#modes.resized();
  }

  /** What makes an empty terminal of the same size show the same, modes and scrollback included. */
  contents(): string {
    return this.#contents(scrollbackLines);
  }

  #contents(scrollback: number): string {
    return `${this.#serializer.serialize({ scrollback })}${this.#modes.sequence()}`;
  }

  /** The same for a terminal that shows something of its user's, which moves out of sight and is not lost. */
  firstDraw(): string {
    const out = '\n'.repeat(this.#terminal.rows);
    return `${resetModes}${resetRegion}${lastLine}${out}${clear}${this.contents()}`;
  }

  /** The same for one that showed an earlier state of this; what was above the screen in between is left out. */
  redraw(): string {
    return `${resetModes}${resetRegion}${leaveAlternate}${clear}${this.#contents(0)}`;
  }

  /** What gives a terminal that showed this back to the shell it belongs to. */
  farewell(): string {
    const isAlternate = this.#terminal.buffer.active.type === 'alternate';
    const region = `${saveCursor}${resetRegion}${restoreCursor}`;
    return `${resetModes}${this.#modes.reset()}${region}${isAlternate ? leaveAlternate : ''}`;
  }
}
