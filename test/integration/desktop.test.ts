/** What the app knows of a desktop: files that the test writes, and this machine's own applications. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InstalledApplications } from '../../main/desktop/applications.ts';
import { parseDesktopEntry } from '../../main/desktop/desktop-entry.ts';
import { xdgFolders } from '../../main/desktop/folders.ts';
import { installEntries, removeEntries, setAutostart } from '../../main/desktop/integration.ts';
import { availablePercent, MemoryWatch } from '../../main/desktop/memory-watch.ts';
import { openExternal } from '../../main/desktop/open-external.ts';
import { AppStore } from '../../main/desktop/store.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'torpor-desktop-'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

async function put(path: string, text: string): Promise<string> {
  const whole = join(home, path);
  await mkdir(dirname(whole), { recursive: true });
  await writeFile(whole, text);
  return whole;
}

const own = () =>
  xdgFolders({ HOME: home, XDG_DATA_DIRS: join(home, 'system'), XDG_CONFIG_DIRS: join(home, 'etc') });
const installed = (folders = own()) =>
  new InstalledApplications(folders, { language: 'de' }, [], new AppStore(folders));
const entry = (name: string, more = '') =>
  `[Desktop Entry]\nType=Application\nName=${name}\nExec=true %F\n${more}`;

describe('the applications of a user', () => {
  it('are those of all folders, the user’s own first, with ids of subfolders', async () => {
    await put('system/applications/a.desktop', entry('System A'));
    await put('.local/share/applications/a.desktop', entry('Own A', 'Name[de]=Eigenes A'));
    await put('system/applications/kde/b.desktop', entry('B'));
    await put('system/applications/c.desktop', entry('C'));
    await put(
      '.local/share/applications/c.desktop',
      '[Desktop Entry]\nType=Application\nName=C\nExec=x\nHidden=true',
    );
    await put('system/applications/d.desktop', entry('D', 'NoDisplay=true'));
    await put('system/applications/e.desktop', entry('E', 'TryExec=/nowhere/at/all'));
    await put('system/applications/broken.desktop', 'nonsense');
    const applications = installed();
    const list = await applications.list();
    expect(list.map(({ id, name }) => [id, name])).toEqual([
      ['kde-b.desktop', 'B'],
      ['a.desktop', 'Eigenes A'],
      ['broken.desktop', 'broken'],
    ]);
    expect(list[2]?.problem).toMatch(
      /system\/applications\/broken\.desktop cannot be used: its line 1 is not understood\./,
    );
    await expect(applications.commandFor('broken.desktop', {})).rejects.toThrow(/cannot be used/);
    await expect(applications.commandFor('none.desktop', {})).rejects.toMatchObject({ code: 'not-found' });
    expect(await applications.commandFor('a.desktop', { files: ['/x y'] })).toEqual({
      name: 'true',
      argv: ['true', '/x y'],
    });
  });

  it('are known anew when one is installed, and recently used ones come first', async () => {
    await put('system/applications/a.desktop', entry('A'));
    await put('system/applications/b.desktop', entry('B'));
    const applications = installed();
    expect((await applications.list()).map(({ name }) => name)).toEqual(['A', 'B']);
    await put('system/applications/c.desktop', entry('C'));
    await vi.waitFor(
      async () => expect((await applications.list()).map(({ name }) => name)).toEqual(['A', 'B', 'C']),
      { timeout: 5000 },
    );
    await applications.used('c.desktop');
    expect((await applications.list()).map(({ name }) => name)).toEqual(['C', 'A', 'B']);
  });

  it('open files by type, the default first, and parents of the type after it', async () => {
    await put('system/applications/text.desktop', entry('Text', 'MimeType=text/plain;'));
    await put('system/applications/py.desktop', entry('Python', 'MimeType=text/x-python;'));
    await put('system/applications/other.desktop', entry('Other', 'MimeType=text/x-python;'));
    await put('system/applications/image.desktop', entry('Image', 'MimeType=image/png;'));
    await put('.config/mimeapps.list', '[Default Applications]\ntext/x-python=py.desktop;\n');
    const file = await put('my script.py', 'print(1)\n');
    const ids = async () => {
      const applications = installed();
      return (await applications.forFile(file)).map(({ id }) => id);
    };
    expect(await ids()).toEqual(['py.desktop', 'other.desktop', 'text.desktop']);
    await put('.config/mimeapps.list', '[Removed Associations]\ntext/x-python=py.desktop;\n');
    expect(await ids()).toEqual(['other.desktop', 'text.desktop']);
    const applications = installed();
    await expect(applications.forFile(join(home, 'nothing.txt'))).rejects.toMatchObject({
      code: 'not-found',
    });
  });

  it('have the icon of the nearest size, a tile without one, and none that a link leads out to', async () => {
    await put(
      'system/icons/hicolor/index.theme',
      '[Icon Theme]\nName=H\nDirectories=16x16/apps,64x64/apps\n[16x16/apps]\nSize=16\n[64x64/apps]\nSize=64\n',
    );
    await put('system/icons/hicolor/16x16/apps/a.png', 'small');
    await put('system/icons/hicolor/64x64/apps/a.png', 'large');
    await put('system/applications/a.desktop', entry('A', 'Icon=a'));
    await put('system/applications/b.desktop', entry('Bee', 'Icon=../../../etc/passwd'));
    const applications = installed();
    const icon = async (application: string, size: number) =>
      Buffer.from((await applications.icon({ application, name: 'x' }, size)).bytes).toString();
    expect(await icon('a.desktop', 48)).toBe('large');
    expect(await icon('a.desktop', 16)).toBe('small');
    expect(await icon('b.desktop', 48)).toMatch(/^<svg .*>B<\/text>/);
    expect(await icon('gone.desktop', 48)).toMatch(/^<svg .*>X<\/text>/);
  });
});

describe('this machine’s applications', () => {
  const machine = () =>
    xdgFolders({ HOME: home, XDG_DATA_DIRS: '/usr/local/share:/usr/share', XDG_CONFIG_DIRS: '/etc/xdg' });

  it('can all be read, and GIMP and Mousepad open what is theirs', async () => {
    const applications = installed(machine());
    const list = await applications.list();
    expect(list.filter(({ problem }) => problem !== undefined)).toEqual([]);
    expect(list.map(({ id }) => id)).toEqual(
      expect.arrayContaining(['gimp.desktop', 'org.xfce.mousepad.desktop']),
    );
    const { type, bytes } = await applications.icon({ application: 'gimp.desktop', name: '' }, 128);
    expect(type).toMatch(/^image\/(png|svg\+xml)$/);
    expect(bytes.length).toBeGreaterThan(1000);
    const png = await put('a.png', Buffer.from('89504e470d0a1a0a0000000d', 'hex').toString('latin1'));
    expect((await applications.forFile(png)).map(({ id }) => id)).toContain('gimp.desktop');
    const text = await put('a.txt', 'hello\n');
    expect((await applications.forFile(text)).map(({ id }) => id)).toContain('org.xfce.mousepad.desktop');
    expect(await applications.commandFor('org.xfce.mousepad.desktop', { files: [text] })).toEqual({
      name: 'mousepad',
      argv: ['mousepad', pathToFileURL(text).href],
    });
  });

  it('are recognised by what runs', async () => {
    const applications = installed(machine());
    expect(await applications.of({ command: ['/usr/bin/mousepad', '/x'] })).toMatchObject({
      id: 'org.xfce.mousepad.desktop',
    });
    expect(await applications.of({ command: ['xterm'], application: 'gimp.desktop' })).toMatchObject({
      id: 'gimp.desktop',
    });
    expect(await applications.of({ command: ['gimp'] })).toMatchObject({ id: 'gimp.desktop' });
    expect(await applications.of({ command: ['/opt/unknown'] })).toBeUndefined();
    expect(await applications.of({ command: [] })).toBeUndefined();
  });
});

describe('what the app remembers', () => {
  it('is there again, and a value that does not fit is refused or not used', async () => {
    const store = new AppStore(own());
    expect(store.value.diskLimitBytes).toBe(0);
    expect(await store.set({ diskLimitBytes: 5, language: undefined })).toMatchObject({ diskLimitBytes: 5 });
    await expect(store.set({ lowMemoryPercent: 99 })).rejects.toMatchObject({ code: 'usage' });
    const again = new AppStore(own());
    expect(again.value.diskLimitBytes).toBe(5);
    const path = join(home, '.config/torpor/app.json');
    const kept = JSON.parse(await readFile(path, 'utf8')) as { settings: Record<string, unknown> };
    kept.settings.lowMemoryPercent = 'much';
    kept.settings.unknown = 1;
    await writeFile(path, JSON.stringify(kept));
    expect(new AppStore(own()).value).toMatchObject({ lowMemoryPercent: 8, diskLimitBytes: 5 });
  });

  it('has where windows were, the latest ones, and nothing that is no place', async () => {
    const store = new AppStore(own());
    const size = { width: 700, height: 500 };
    const placement = { position: { x: -20, y: 40 }, size, state: 'normal', workspace: 2 } as const;
    store.placements.keep('first', placement);
    store.placements.keep('second', { size, state: 'maximised' });
    store.placements.keep('second', undefined);
    expect(new AppStore(own()).placements.of('first')).toEqual(placement);
    expect(new AppStore(own()).placements.of('second')).toBeUndefined();
    const path = join(home, '.config/torpor/app.json');
    const kept = JSON.parse(await readFile(path, 'utf8')) as { placements: Record<string, unknown> };
    kept.placements.broken = { size: { width: 'wide' } };
    await writeFile(path, JSON.stringify(kept));
    const again = new AppStore(own());
    expect(again.placements.of('broken')).toBeUndefined();
    for (let id = 0; id < 110; id++) again.placements.keep(`id ${id}`, placement);
    expect(again.placements.of('first')).toBeUndefined();
    expect(again.placements.of('id 10')).toEqual(placement);
  });

  it('is put aside where it is damaged, and that is told', async () => {
    await put('.config/torpor/app.json', '{ half');
    const store = new AppStore(own());
    expect(store.value.atLowMemory).toBe('ask');
    expect(store.problem?.message).toContain('app.json could not be read');
    expect(await readFile(join(home, '.config/torpor/app.json.damaged'), 'utf8')).toBe('{ half');
  });
});

it('short memory is told once, and again when it has been enough in between', async () => {
  let told = 0;
  const meminfo = await put('meminfo', '');
  const say = (available: number) =>
    writeFile(meminfo, `MemTotal:       1000 kB\nMemAvailable:    ${available} kB\n`);
  using watch = new MemoryWatch({ leastPercent: () => 10, short: () => told++, meminfo });
  await watch.look();
  for (const [available, times] of [
    [500, 0],
    [90, 1],
    [80, 1],
    [120, 1],
    [90, 1],
    [200, 1],
    [50, 2],
  ] as const) {
    await say(available);
    await watch.look();
    expect(told).toBe(times);
  }
  expect(await availablePercent('/proc/meminfo')).toBeGreaterThan(0);
});

it.each(['file:///etc/passwd', 'javascript:alert(1)', 'nonsense', 'ssh://host'])(
  '%s is not opened',
  (address) => expect(openExternal(address)).rejects.toMatchObject({ code: 'usage' }),
);

it('an address is handed to the desktop’s own opener', async () => {
  const said = join(home, 'said');
  const program = await put('bin/xdg-open', `#!/bin/sh\nprintf '%s' "$1" > ${said}\n`);
  await chmod(program, 0o755);
  vi.stubEnv('PATH', `${dirname(program)}:${process.env.PATH}`);
  await openExternal('https://example.org/a?b=c d');
  await vi.waitFor(async () => expect(await readFile(said, 'utf8')).toBe('https://example.org/a?b=c%20d'), {
    timeout: 20_000,
  });
  vi.unstubAllEnvs();
});

it('starts with the log-in by the unit of a package, where that starts this very program', async () => {
  const packaged = new URL('../../packaging/systemd/user/torpor-app.service', import.meta.url).pathname;
  const path = join(home, '.config/autostart/torpor.desktop');
  const link = join(home, '.config/systemd/user/graphical-session.target.wants/torpor-app.service');
  await setAutostart(own(), '/elsewhere/torpor', true, packaged);
  expect(existsSync(link)).toBe(false);
  expect(await readFile(path, 'utf8')).not.toContain('systemd');
  await setAutostart(own(), '/usr/bin/torpor', true, packaged);
  expect(await readlink(link)).toBe(packaged);
  // A desktop that has systemd start its entries does not start it a second time.
  expect(await readFile(path, 'utf8')).toContain('X-systemd-skip=true');
  await setAutostart(own(), '/usr/bin/torpor', true, packaged);
  await setAutostart(own(), '/usr/bin/torpor', false, packaged);
  expect([path, link].filter(existsSync)).toEqual([]);
});

it('entries are written that other programs accept, run what they say, and are removed', async () => {
  const texts = [
    { language: 'en', comment: 'Suspend', openIn: 'Open in Torpor', suspendAll: 'Suspend all' },
    { language: 'de', comment: 'Anhalten', openIn: 'In Torpor öffnen', suspendAll: 'Alle anhalten' },
  ];
  await put('system/applications/a.desktop', entry('A', 'MimeType=image/png;text/plain;'));
  const said = join(home, 'said');
  const command = await put("my 'torpor'/torpor", `#!/bin/sh\nprintf '%s|' "$@" > ${said}\n`);
  const fileManager = await put('bin/nautilus', '#!/bin/sh\n');
  for (const path of [command, fileManager]) await chmod(path, 0o755);
  vi.stubEnv('PATH', `${dirname(fileManager)}:${process.env.PATH}`);
  const installation = { folders: own(), command, icon: '<svg/>', texts };
  await installEntries(installation);
  await installEntries(installation);
  await setAutostart(own(), command, true);
  const inData = ['applications/torpor.desktop', 'kio/servicemenus/torpor-open.desktop'];
  const script = join(home, '.local/share/nautilus/scripts/Open in Torpor');
  const written = [...inData.map((path) => join(home, '.local/share', path)), script];
  written.push(join(home, '.config/autostart/torpor.desktop'));
  const entryOfOwn = parseDesktopEntry(await readFile(written[0] ?? '', 'utf8'), { language: 'de' });
  expect(entryOfOwn).toMatchObject({
    comment: 'Anhalten',
    mimeTypes: [],
    actions: [{ id: 'suspend-all', name: 'Alle anhalten' }],
  });
  execFileSync(script, ['/a b', "/c'd"]);
  expect(await readFile(said, 'utf8')).toBe("ui|--|/a b|/c'd|");
  // Torpor is not an application of its own.
  expect((await installed().list()).map(({ id }) => id)).toEqual(['a.desktop']);
  await removeEntries(own());
  await setAutostart(own(), 'x', false);
  expect(written.filter(existsSync)).toEqual([]);
  vi.unstubAllEnvs();
});
