/** What a terminal emulator shows and has been told, given all that a terminal has shown: xterm.js without a window. */
import xterm from '@xterm/headless';

export interface Emulated {
  /** The lines of the screen. */
  lines: string[];
  isAlternate: boolean;
  /** Cursor keys are the application's. */
  applicationKeys: boolean;
  mouse: string;
  cursor: { x: number; y: number };
  /** Above the screen. */
  scrollback: string[];
}

export async function emulate(shown: string, columns = 80, rows = 24): Promise<Emulated> {
  const terminal = new xterm.Terminal({ cols: columns, rows, scrollback: 1000, allowProposedApi: true });
  await new Promise<void>((resolve) => terminal.write(shown, resolve));
  const { active } = terminal.buffer;
  const all = Array.from(
    { length: active.length },
    (_, index) => active.getLine(index)?.translateToString(true) ?? '',
  );
  return {
    lines: all.slice(active.baseY),
    scrollback: all.slice(0, active.baseY),
    isAlternate: active.type === 'alternate',
    applicationKeys: terminal.modes.applicationCursorKeysMode,
    mouse: terminal.modes.mouseTrackingMode,
    cursor: { x: active.cursorX, y: active.cursorY },
  };
}
