/** What a caller may choose for a new capsule, and what an application may make of its windows' titles. */
import { describe, expect, it } from 'vitest';
import { chooseDisplay } from '../../engine/capsule/display.ts';
import { applicationOf, geometryOf } from '../../engine/capsule/run-options.ts';
import { readableTitle } from '../../engine/screen/windows.ts';
import { capsuleSpecSchema } from '../../proto/manifest.ts';

describe('the size of a screen', () => {
  it.each([
    [undefined, '1280x800'],
    ['800x600', '800x600'],
    ['0800x0600', '800x600'],
    ['64x64', '64x64'],
    ['7680x4320', '7680x4320'],
  ])('%s is %s', (wanted, size) => expect(geometryOf(wanted)).toBe(size));

  it.each([
    '',
    'x',
    '800',
    '800x',
    '63x800',
    '800x63',
    '8193x100',
    '8192x8192',
    '-800x600',
    '8e2x600',
    '800x600+0+0',
    ' 800x600',
    '99999999x10',
  ])('%j is refused', (wanted) =>
    expect(() => geometryOf(wanted)).toThrow(expect.objectContaining({ code: 'usage' })),
  );
});

describe('the id of a desktop entry', () => {
  it.each(['org.gnome.Calculator.desktop', 'a', 'kde4-kate.desktop', 'über.desktop', 'x'.repeat(255)])(
    'may be %j',
    (id) => expect(applicationOf(id)).toBe(id),
  );
  it.each(['', '.', '..', '../x.desktop', 'a/b', 'a\nb', 'a\0b', 'x'.repeat(256), 'ü'.repeat(128)])(
    'may not be %j',
    (id) => expect(() => applicationOf(id)).toThrow(expect.objectContaining({ code: 'usage' })),
  );
});

it('a capsule of an earlier version, without application and display, is still understood', () => {
  const old = {
    command: ['xterm'],
    cwd: '/',
    env: {},
    root: '/',
    user: { uid: 0, gid: 0, groups: [], name: 'root', home: '/root', shell: '/bin/sh' },
    hostMounts: [],
    hostname: 'here',
    geometry: '1280x800',
  };
  expect(capsuleSpecSchema.parse(old)).toEqual(old);
  expect(capsuleSpecSchema.parse({ ...old, application: 'a.desktop' }).application).toBe('a.desktop');
});

it('a display number is one that no X server of the machine listens to', () => {
  const line = (number: number) =>
    `0000: 00000002 00000000 00010000 0001 01 20179 @/tmp/.X11-unix/X${number}\n`;
  const free = new Set([1003, 40_000]);
  const taken = Array.from({ length: 58_000 }, (_, index) => 1000 + index).filter(
    (number) => !free.has(number),
  );
  const table = taken.map(line).join('');
  expect(free).toContain(chooseDisplay(table));
  expect(chooseDisplay('')).toBeGreaterThanOrEqual(1000);
});

describe('a title', () => {
  it.each([
    ['  plain ', 'plain'],
    ['two\nlines\tand\u001b[2J', 'two lines and [2J'],
    ['\u0085\u2028', ''],
    ['Größe ✓ 🎨', 'Größe ✓ 🎨'],
    ['🎨'.repeat(400), `${'🎨'.repeat(299)}…`],
  ])('%j is shown as %j', (text, shown) => expect(readableTitle(text)).toBe(shown));
});
