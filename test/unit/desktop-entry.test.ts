/** Desktop entries: parsing, languages, and their command lines. */
import { describe, expect, it } from 'vitest';
import { BrokenEntry, type DesktopEntry, parseDesktopEntry } from '../../main/desktop/desktop-entry.ts';
import { expandExec, splitExec, takesFiles } from '../../main/desktop/exec.ts';
import { execLine } from '../../main/desktop/integration.ts';
import { localizedKeys, parseLocale, userLocale } from '../../main/desktop/locale.ts';
import { letterTile } from '../../main/desktop/tile.ts';

const english = { language: 'en' };
const entry = (lines: string, locale: Parameters<typeof parseDesktopEntry>[1] = english): DesktopEntry => {
  const parsed = parseDesktopEntry(`[Desktop Entry]\nType=Application\n${lines}`, locale);
  if (parsed === 'other-type') throw new Error('another type');
  return parsed;
};

describe('an entry', () => {
  it('has its values, with escapes and lists', () => {
    const parsed = entry(
      'Name=A\\sB\\nC\\\\D\nExec=prog --x\nKeywords=one;two\\;three;;\nTerminal=true\nNoDisplay=true\nMimeType=a/b;c/d;',
    );
    expect(parsed).toMatchObject({
      name: 'A B\nC\\D',
      keywords: ['one', 'two;three'],
      terminal: true,
      mimeTypes: ['a/b', 'c/d'],
    });
    expect(parsed.isShown([])).toBe(false);
  });

  it('is in the language that fits best', () => {
    const lines = 'Name=plain\nName[de]=deutsch\nName[de_AT]=österreichisch\nName[sr@latin]=latin\nExec=x';
    expect(entry(lines, { language: 'de', country: 'AT' }).name).toBe('österreichisch');
    expect(entry(lines, { language: 'de', country: 'DE' }).name).toBe('deutsch');
    expect(entry(lines, { language: 'sr', country: 'RS', modifier: 'latin' }).name).toBe('latin');
    expect(entry(lines, { language: 'fr' }).name).toBe('plain');
  });

  it('is shown on the desktops that it names', () => {
    expect(entry('Name=x\nExec=x\nOnlyShowIn=GNOME;').isShown(['KDE'])).toBe(false);
    expect(entry('Name=x\nExec=x\nOnlyShowIn=GNOME;').isShown(['ubuntu', 'GNOME'])).toBe(true);
    expect(entry('Name=x\nExec=x\nNotShowIn=KDE;').isShown(['KDE'])).toBe(false);
    expect(entry('Name=x\nExec=x').isShown([])).toBe(true);
    expect(entry('Name=x\nIcon=x\nNoDisplay=true')).toMatchObject({ exec: '' });
  });

  it('has the actions that are whole', () => {
    const { actions } = entry(
      'Name=x\nExec=x\nActions=new;gone;\n[Desktop Action new]\nName=New\nExec=x --new\n[Desktop Action other]\nName=O\nExec=o',
    );
    expect(actions).toEqual([{ id: 'new', name: 'New', exec: 'x --new' }]);
  });

  it.each([
    ['', /no group/],
    ['[Desktop Entry]\nName=x', /no Type/],
    ['[Desktop Entry]\nType=Application\nExec=x', /no Name/],
    ['[Desktop Entry]\nType=Application\nName=x', /no Exec/],
    ['[Desktop Entry]\nType=Application\nName=x\nwhat is this', /line 4 is not understood/],
    ['Name=x\n[Desktop Entry]', /line 1 is not understood/],
  ])('that is broken says how: %j', (text, fault) => {
    expect(() => parseDesktopEntry(text, english)).toThrow(BrokenEntry);
    expect(() => parseDesktopEntry(text, english)).toThrow(fault);
  });

  it('of a link is not an application', () => {
    expect(parseDesktopEntry('[Desktop Entry]\nType=Link\nName=x\nURL=http://x', english)).toBe('other-type');
  });
});

describe('a command line', () => {
  const about = { files: ['/a b', '/c'], name: 'The Name', icon: 'pic', entryPath: '/x.desktop' };

  it.each([
    ['prog %F --end', ['prog', '/a b', '/c', '--end']],
    ['prog %f', ['prog', '/a b']],
    ['prog %U', ['prog', 'file:///a%20b', 'file:///c']],
    ['prog %u x', ['prog', 'file:///a%20b', 'x']],
    ['prog %i -t %c %k', ['prog', '--icon', 'pic', '-t', 'The Name', '/x.desktop']],
    ['prog 100%% --of=%f %d%D%v', ['prog', '100%', '--of=/a b']],
    ['"my prog" "a \\"b\\" \\$c \\`d\\` \\\\ %f"', ['my prog', 'a "b" $c `d` \\ %f']],
    ['prog ""', ['prog', '']],
  ])('%s', (exec, argv) => {
    expect(expandExec(exec, about)).toEqual(argv);
  });

  it('without files leaves their places out', () => {
    expect(expandExec('prog %U -x %f', { ...about, files: [] })).toEqual(['prog', '-x']);
  });

  it('with a quotation mark that is not closed, or without a program, is refused', () => {
    expect(() => splitExec('prog "half')).toThrow(/not closed/);
    expect(() => expandExec('  ', about)).toThrow(/no program/);
  });

  it('says how many files it takes', () => {
    expect(['prog', 'prog "%f"', 'prog %f', 'prog --x=%u', 'prog %F', 'prog %U'].map(takesFiles)).toEqual([
      'none',
      'none',
      'one',
      'one',
      'many',
      'many',
    ]);
  });

  it('that we write is read as it was meant', () => {
    const argv = ['/opt/my "app"/$x`y\\z', '--100%', 'plain-1.2'];
    expect(expandExec(execLine(argv), { ...about, files: [] })).toEqual(argv);
  });
});

describe('the language', () => {
  it.each([
    [{ LANG: 'de_DE.UTF-8' }, { language: 'de', country: 'DE' }],
    [
      { LANG: 'en_US.UTF-8', LC_MESSAGES: 'fr_CA' },
      { language: 'fr', country: 'CA' },
    ],
    [
      { LANG: 'en_US', LC_ALL: 'sr_RS.UTF-8@latin' },
      { language: 'sr', country: 'RS', modifier: 'latin' },
    ],
    [{ LANG: 'en_US.UTF-8', LANGUAGE: 'de:en' }, { language: 'de' }],
    [{ LANG: 'C', LANGUAGE: 'de' }, { language: 'en' }],
    [{ LANG: 'C.UTF-8' }, { language: 'en' }],
    [{}, { language: 'en' }],
  ])('of %j', (env, locale) => {
    expect(userLocale(env)).toEqual(locale);
  });

  it('gives keys in the order of the specification', () => {
    expect(localizedKeys('Name', parseLocale('sr_RS@latin') ?? english)).toEqual([
      'Name[sr_RS@latin]',
      'Name[sr_RS]',
      'Name[sr@latin]',
      'Name[sr]',
      'Name',
    ]);
  });
});

it('draws a tile with the first letter, whatever the name', () => {
  expect(letterTile('éclair')).toContain('>É<');
  expect(letterTile('<script>')).toContain('>S<');
  expect(letterTile('')).toContain('>?<');
  expect(letterTile('a')).toBe(letterTile('a'));
});
