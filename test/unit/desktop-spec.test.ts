/** Corners of the specifications that are easily got wrong, and what follows for a user when they are. */
import { describe, expect, it } from 'vitest';
import { parseDesktopEntry } from '../../main/desktop/desktop-entry.ts';
import { expandExec } from '../../main/desktop/exec.ts';
import { mergeAssociations, openersOf } from '../../main/desktop/mime.ts';

const about = { files: [], name: 'N', icon: '', entryPath: '/x.desktop' };
const app = (id: string, ...mimeTypes: string[]) => ({ id, mimeTypes });
const general = (text: string) => ({ text, desktopSpecific: false });

it('a deprecated field code is no argument, not an empty one that would be opened as a file', () => {
  expect(expandExec('prog %m -x %v', about)).toEqual(['prog', '-x']);
  expect(expandExec('prog "" %d', about)).toEqual(['prog', '']);
});

it('a backslash at the end of an item does not swallow the semicolon after it', () => {
  const parsed = parseDesktopEntry(
    '[Desktop Entry]\nType=Application\nName=x\nExec=x\nKeywords=a\\\\;b\\;c;d\\se;',
    { language: 'en' },
  );
  expect(parsed).toMatchObject({ keywords: ['a\\', 'b;c', 'd e'] });
});

describe('associations', () => {
  const apps = [app('own.desktop', 'a/b'), app('other.desktop', 'a/b'), app('added.desktop')];

  it('that the user made are not undone by a removal in a less important file', () => {
    const files = [
      general('[Added Associations]\na/b=added.desktop;'),
      general('[Removed Associations]\na/b=added.desktop;own.desktop;'),
    ];
    expect(openersOf(['a/b'], mergeAssociations(files), apps)).toEqual(['added.desktop', 'other.desktop']);
  });

  it('that the user removed are not brought back by a less important file', () => {
    const files = [
      general('[Removed Associations]\na/b=other.desktop;'),
      general('[Default Applications]\na/b=other.desktop;\n[Added Associations]\na/b=other.desktop;'),
    ];
    expect(openersOf(['a/b'], mergeAssociations(files), apps)).toEqual(['own.desktop']);
  });

  it('are not changed, but for defaults, by a file of one desktop only', () => {
    const text =
      '[Default Applications]\na/b=other.desktop;\n[Added Associations]\na/b=added.desktop;\n[Removed Associations]\na/b=own.desktop;';
    const merged = mergeAssociations([{ text, desktopSpecific: true }]);
    expect(openersOf(['a/b'], merged, apps)).toEqual(['other.desktop', 'own.desktop']);
  });

  it('in a broken file have no say, and those after it still do', () => {
    const files = [general('nonsense'), general('[Default Applications]\na/b=other.desktop;')];
    expect(openersOf(['a/b'], mergeAssociations(files), apps)[0]).toBe('other.desktop');
  });
});
