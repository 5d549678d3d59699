/** Keys as X and RFB name them: of characters, and of the keys that the menu of key combinations sends. */

/** Keysyms of keys that are no characters (X11/keysymdef.h), with the name of the key in the browser. */
export const keys = {
  Escape: 0xff1b,
  Tab: 0xff09,
  Enter: 0xff0d,
  Delete: 0xffff,
  PrintScreen: 0xff61,
  F4: 0xffc1,
  F11: 0xffc8,
  ControlLeft: 0xffe3,
  ShiftLeft: 0xffe1,
  AltLeft: 0xffe9,
  MetaLeft: 0xffeb,
} as const;

const highestLatin1 = 0xff;
const firstPrintable = 0x20;
/** Keysyms of Unicode characters beyond Latin 1 begin here. */
const unicodeKeysyms = 0x01000000;

/** The keysym that types a character, or undefined where none does. */
export function keysymOfCharacter(character: string): number | undefined {
  const code = character.codePointAt(0);
  if (code === undefined) return undefined;
  if (character === '\n' || character === '\r') return keys.Enter;
  if (character === '\t') return keys.Tab;
  if (code < firstPrintable || (code >= 0x7f && code < 0xa0)) return undefined;
  return code <= highestLatin1 ? code : unicodeKeysyms | code;
}

/** Keys that are no characters, and those of ASCII. */
export function isOnEveryLayout(keysym: number): boolean {
  const firstFunctionKey = 0xfd00;
  return keysym < 0x7f || (keysym >= firstFunctionKey && keysym <= 0xffff);
}
