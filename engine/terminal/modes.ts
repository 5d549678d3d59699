/**
 * What a program has set in its terminal and the serializer of xterm.js leaves out: whether the cursor is to be seen and
 * how it looks, how the mouse is reported, and which lines scroll. Listened for on its way to the terminal itself.
 */
import type { Terminal } from '@xterm/headless';

/** DEC private modes by which mouse positions are encoded; at most one counts. */
const mouseEncodings = new Set([1005, 1006, 1015, 1016]);
const cursorVisible = 25;
const alternateScreen = new Set([47, 1047, 1049]);

interface Region {
  top: number;
  bottom: number;
}

export class TerminalModes {
  readonly #terminal: Terminal;
  #isCursorHidden = false;
  #cursorStyle = 0;
  #mouseEncoding: number | undefined;
  /** Each of the two screens has its own. */
  #regions: { normal?: Region; alternate?: Region } = {};

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    const { parser } = terminal;
    const numbers = (params: readonly (number | number[])[]) => params.map(Number);
    // `false`: the terminal is to see it too.
    parser.registerCsiHandler({ prefix: '?', final: 'h' }, (params) => this.#set(numbers(params), true));
    parser.registerCsiHandler({ prefix: '?', final: 'l' }, (params) => this.#set(numbers(params), false));
    parser.registerCsiHandler({ final: 'r' }, (params) => this.#scroll(numbers(params)));
    parser.registerCsiHandler({ intermediates: ' ', final: 'q' }, ([style = 0]) => {
      this.#cursorStyle = Number(style);
      return false;
    });
    parser.registerCsiHandler({ intermediates: '!', final: 'p' }, () => this.#softReset());
    parser.registerEscHandler({ final: 'c' }, () => {
      this.#mouseEncoding = undefined;
      return this.#softReset();
    });
  }

  /** To be called with a change of the size, after which all lines scroll. */
  resized(): void {
    this.#regions = {};
  }

  /** What sets them in a terminal in which none is set and that shows the same. */
  sequence(): string {
    const { type, cursorX, cursorY } = this.#terminal.buffer.active;
    const region = this.#regions[type];
    return [
      // Setting it moves the cursor, which is counted from its first line where origin mode is on.
      ...(region === undefined ? [] : [`\x1b[${region.top};${region.bottom}r`]),
      ...(region === undefined || this.#terminal.modes.originMode
        ? []
        : [`\x1b[${cursorY + 1};${cursorX + 1}H`]),
      ...(this.#mouseEncoding === undefined ? [] : [`\x1b[?${this.#mouseEncoding}h`]),
      ...(this.#cursorStyle === 0 ? [] : [`\x1b[${this.#cursorStyle} q`]),
      ...(this.#isCursorHidden ? ['\x1b[?25l'] : []),
    ].join('');
  }

  /** What takes back what {@link sequence} sets, as far as terminals have no common way. */
  reset(): string {
    return this.#cursorStyle === 0 ? '' : '\x1b[0 q';
  }

  #set(modes: readonly number[], isOn: boolean): boolean {
    for (const mode of modes) {
      if (mode === cursorVisible) this.#isCursorHidden = !isOn;
      if (mouseEncodings.has(mode)) this.#mouseEncoding = isOn ? mode : undefined;
      // It is empty, and all of it scrolls, each time it is entered.
      if (alternateScreen.has(mode)) delete this.#regions.alternate;
    }
    return false;
  }

  #scroll([top = 0, bottom = 0]: readonly number[]): boolean {
    const { rows, buffer } = this.#terminal;
    const last = bottom === 0 ? rows : Math.min(bottom, rows);
    const first = Math.max(top, 1);
    if (first === 1 && last === rows) delete this.#regions[buffer.active.type];
    else if (first < last) this.#regions[buffer.active.type] = { top: first, bottom: last };
    return false;
  }

  #softReset(): boolean {
    this.#isCursorHidden = false;
    this.#cursorStyle = 0;
    this.#regions = {};
    return false;
  }
}
