/**
 * What is sent for a key: X11 keysyms (RFC 6143 section 7.5.4; names and values from keysymdef.h). The server finds the
 * key and the shift state that make a keysym, so that no keyboard layout is known here. Pure.
 */
import { TorporError } from '../errors.ts';

const named: Readonly<Record<string, number>> = {
  ctrl: 0xffe3,
  shift: 0xffe1,
  alt: 0xffe9,
  super: 0xffeb,
  return: 0xff0d,
  enter: 0xff0d,
  tab: 0xff09,
  escape: 0xff1b,
  backspace: 0xff08,
  delete: 0xffff,
  insert: 0xff63,
  home: 0xff50,
  end: 0xff57,
  left: 0xff51,
  up: 0xff52,
  right: 0xff53,
  down: 0xff54,
  pageup: 0xff55,
  pagedown: 0xff56,
  menu: 0xff67,
  space: 0x20,
  plus: 0x2b,
  ...Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`f${index + 1}`, 0xffbe + index])),
};

/** Control characters that a keyboard has a key for. */
const controls: Readonly<Record<string, number>> = {
  '\b': 0xff08,
  '\t': 0xff09,
  '\n': 0xff0d,
  '\r': 0xff0d,
  '\u001b': 0xff1b,
};

/** Added to a code point beyond Latin-1 (keysymdef.h, "Unicode keysyms"). */
const unicodeBase = 0x0100_0000;

function keysymOf(character: string): number | undefined {
  const control = controls[character];
  if (control !== undefined) return control;
  const code = character.codePointAt(0) ?? 0;
  const isControl = code < 0x20 || (code >= 0x7f && code < 0xa0);
  const isHalfCharacter = code >= 0xd800 && code < 0xe000;
  if (isControl || isHalfCharacter) return undefined;
  return code < 0x100 ? code : unicodeBase + code;
}

/**
 * The keysyms that type a text, a character each; any kind of line end is one Return.
 * @throws TorporError `usage` on a character that no key stands for.
 */
export function keysymsOfText(text: string): number[] {
  return [...text.replaceAll('\r\n', '\n')].map((character) => {
    const keysym = keysymOf(character);
    if (keysym === undefined) {
      const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
      throw new TorporError('usage', `The character U+${code} cannot be typed.`, 'Leave it out.');
    }
    return keysym;
  });
}

/**
 * The keysyms of keys that are held together, as in `ctrl+shift+s`, `Return` or `ctrl++`, in the order of pressing.
 * @throws TorporError `usage` on an unknown name.
 */
export function keysymsOfChord(chord: string): number[] {
  return chord
    .replace(/(^|\+)\+$/, '$1plus')
    .split('+')
    .map((name) => {
      const isCharacter = [...name].length === 1;
      const lower = name.toLowerCase();
      const keysym = Object.hasOwn(named, lower) ? named[lower] : isCharacter ? keysymOf(name) : undefined;
      if (keysym === undefined) {
        throw new TorporError(
          'usage',
          `There is no key named "${name}".`,
          `Use a character or one of ${Object.keys(named).join(', ')}.`,
        );
      }
      return keysym;
    });
}
