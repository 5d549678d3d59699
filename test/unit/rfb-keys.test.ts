import { describe, expect, it } from 'vitest';
import { keysymsOfChord, keysymsOfText } from '../../api/rfb/keys.ts';

describe('keysymsOfText', () => {
  it('sends Latin-1 as it is and the rest of Unicode beyond it', () => {
    expect(keysymsOfText('aÄ€')).toEqual([0x61, 0xc4, 0x01_00_20_ac]);
  });

  it('keeps a character of two code units whole', () => {
    expect(keysymsOfText('😀')).toEqual([0x0101_f600]);
  });

  it('sends every kind of line end as one Return', () => {
    expect(keysymsOfText('\r\n\n\r\t\b')).toEqual([0xff0d, 0xff0d, 0xff0d, 0xff09, 0xff08]);
  });

  it.each([
    ['\0', 'U+0000'],
    ['\u007f', 'U+007F'],
    ['\u009b', 'U+009B'],
    ['\ud800', 'U+D800'],
  ])('refuses %j', (character, name) => {
    expect(() => keysymsOfText(`a${character}`)).toThrow(name);
  });
});

describe('keysymsOfChord', () => {
  it.each([
    ['Return', [0xff0d]],
    ['ctrl+shift+S', [0xffe3, 0xffe1, 0x53]],
    ['+', [0x2b]],
    ['ctrl++', [0xffe3, 0x2b]],
    ['alt+F12', [0xffe9, 0xffc9]],
    ['ctrl+ß', [0xffe3, 0xdf]],
  ])('%s', (chord, keysyms) => {
    expect(keysymsOfChord(chord)).toEqual(keysyms);
  });

  it.each(['', 'hyper', 'ctrl+', 'ctrl++a', '++', 'constructor', 'ctrl+toString'])('refuses %j', (chord) => {
    expect(() => keysymsOfChord(chord)).toThrow('There is no key named');
  });
});
