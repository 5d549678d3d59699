/** What whoever attaches to a job's terminal is shown, and what is given back to the terminal they attached in. */
import { describe, expect, it } from 'vitest';
import { nearestSize } from '../../api/terminal-stream.ts';
import { Screen } from '../../engine/terminal/screen.ts';
import { emulate } from '../support/emulator.ts';

async function screenOf(written: string): Promise<Screen> {
  const screen = new Screen({ columns: 80, rows: 24 });
  await screen.write(written);
  return screen;
}

describe('whoever attaches', () => {
  it.each<[string, string, string]>([
    ['a hidden cursor', '\x1b[?25l', '\x1b[?25l'],
    ['the way in which the mouse is reported', '\x1b[?1002h\x1b[?1006h', '\x1b[?1006h'],
    ['the form of the cursor', '\x1b[5 q', '\x1b[5 q'],
    ['the lines that scroll', '\x1b[3;20r', '\x1b[3;20r'],
  ])('is told of %s', async (_what, written, told) => {
    const screen = await screenOf(written);
    expect(screen.firstDraw()).toContain(told);
    // Also one that was suspended and resumed in between.
    const later = await screenOf(screen.contents());
    expect(later.firstDraw()).toContain(told);
  });

  it.each<[string, string, string]>([
    ['a cursor that is shown again', '\x1b[?25l\x1b[?25h', '\x1b[?25l'],
    ['a mouse that is not reported any more', '\x1b[?1006h\x1b[?1006l', '\x1b[?1006h'],
    ['lines that scroll all', '\x1b[3;20r\x1b[r', '\x1b[3;20r'],
    ['a terminal that was reset', '\x1b[?25l\x1b[?1006h\x1b[3;20r\x1bc', '\x1b[3;20r'],
    ['a screen that was left', '\x1b[?1049h\x1b[3;20r\x1b[?1049l', '\x1b[3;20r'],
  ])('is not told of %s', async (_what, written, told) => {
    expect((await screenOf(written)).contents()).not.toContain(told);
  });

  it('finds the cursor where it was, whichever lines scroll', async () => {
    const screen = await screenOf('\x1b[3;20r\x1b[7;9Hx');
    const { cursor, lines } = await emulate(screen.firstDraw());
    expect(cursor).toEqual({ x: 9, y: 6 });
    expect(lines[6]).toBe('        x');
  });

  it('keeps what their own terminal showed before', async () => {
    const screen = await screenOf('job');
    const { lines, scrollback } = await emulate(`mine 1\r\nmine 2\r\n${screen.firstDraw()}`);
    expect(lines[0]).toBe('job');
    expect(scrollback).toEqual(expect.arrayContaining(['mine 1', 'mine 2']));
  });

  it('gets the cursor back behind what the job has shown', async () => {
    const screen = await screenOf('one\r\ntwo\r\n');
    const { cursor } = await emulate(`${screen.firstDraw()}${screen.farewell()}`);
    expect(cursor).toEqual({ x: 0, y: 2 });
  });
});

it.each([
  [{}, { columns: 80, rows: 24 }],
  [
    { columns: 0, rows: 0 },
    { columns: 80, rows: 24 },
  ],
  [
    { columns: 1, rows: 1 },
    { columns: 2, rows: 1 },
  ],
  [
    { columns: 3000, rows: 2000 },
    { columns: 1000, rows: 1000 },
  ],
])('a terminal of %j is shown as one of %j', (size, nearest) => {
  expect(nearestSize(size)).toEqual(nearest);
});
