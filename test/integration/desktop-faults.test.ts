/** Applications whose entries change, are half broken, or are Torpor's own. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import { InstalledApplications } from '../../main/desktop/applications.ts';
import { xdgFolders } from '../../main/desktop/folders.ts';
import { installEntries } from '../../main/desktop/integration.ts';
import { AppStore } from '../../main/desktop/store.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'torpor-desktop-'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

const folders = () =>
  xdgFolders({ HOME: home, XDG_DATA_DIRS: join(home, 'system'), XDG_CONFIG_DIRS: join(home, 'etc') });
const installed = () => new InstalledApplications(folders(), { language: 'en' }, [], new AppStore(folders()));

async function put(path: string, text: string): Promise<string> {
  const whole = join(home, path);
  await mkdir(dirname(whole), { recursive: true });
  await writeFile(whole, text);
  return whole;
}

const entry = (name: string, exec: string, more = '') =>
  `[Desktop Entry]\nType=Application\nName=${name}\nExec=${exec}\n${more}`;

it('an entry that is edited in place is known anew', async () => {
  await put('system/applications/a.desktop', entry('Before', 'true'));
  const applications = installed();
  expect((await applications.list()).map(({ name }) => name)).toEqual(['Before']);
  await put('system/applications/a.desktop', entry('After it', 'true'));
  await vi.waitFor(
    async () => expect((await applications.list()).map(({ name }) => name)).toEqual(['After it']),
    { timeout: 5000 },
  );
});

it('a broken action says which file and what is wrong, and the application itself still starts', async () => {
  const action = '[Desktop Action new]\nName=New\nExec=true "half\n';
  const path = await put('system/applications/a.desktop', entry('A', 'true', `Actions=new;\n${action}`));
  const applications = installed();
  const refused = applications.commandFor('a.desktop', { action: 'new' });
  await expect(refused).rejects.toBeInstanceOf(TorporError);
  await expect(refused).rejects.toThrow(
    `${path} cannot be used: a quotation mark in its Exec is not closed.`,
  );
  expect((await applications.commandFor('a.desktop', {})).argv).toEqual(['true']);
});

it('“Open in Torpor” is never what Torpor itself opens a file with', async () => {
  await put('system/applications/viewer.desktop', entry('Viewer', 'true %f', 'MimeType=text/plain;'));
  const texts = [{ language: 'en', comment: 'c', openIn: 'Open in Torpor', suspendAll: 's' }];
  await installEntries({ folders: folders(), command: '/bin/true', icon: '<svg/>', texts });
  await put('.config/mimeapps.list', '[Default Applications]\ntext/plain=torpor.desktop;\n');
  const file = await put('a.txt', 'hello\n');
  expect((await installed().forFile(file)).map(({ id }) => id)).toEqual(['viewer.desktop']);
});

it('a command that many applications are started by does not stand for one of them', async () => {
  await put('system/applications/script.desktop', entry('Script', 'python3 /opt/script.py'));
  await put('system/applications/env.desktop', entry('Wrapped', 'env LANG=C /usr/bin/wrapped %U'));
  const applications = installed();
  expect(await applications.of({ command: ['python3', '/home/me/other.py'] })).toBeUndefined();
  expect(await applications.of({ command: ['env', 'A=b', 'other'] })).toBeUndefined();
  expect(await applications.of({ command: ['python3', '/opt/script.py'] })).toMatchObject({ name: 'Script' });
  expect(await applications.of({ command: ['/usr/bin/wrapped'] })).toMatchObject({ name: 'Wrapped' });
});

it('a settings folder that cannot be used is named in a sentence', async () => {
  const path = await put('.config/torpor', 'a file where the folder should be');
  expect(() => new AppStore(folders())).toThrow(TorporError);
  expect(() => new AppStore(folders())).toThrow(`The settings in ${path}/app.json cannot be read or kept`);
});
