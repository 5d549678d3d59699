/** By what a start is the same one, and what its application has read counts. */
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { changedInput, countsAsInput, hashOfNames, recordInputs } from '../../engine/warm/inputs.ts';
import { keyOf } from '../../engine/warm/key.ts';
import { markOf, markText } from '../../engine/warm/mark.ts';
import type { CapsuleSpec } from '../../proto/manifest.ts';

const capsule: CapsuleSpec = {
  command: ['gimp'],
  cwd: '/home/a',
  env: { LANG: 'C.UTF-8', TERM: 'xterm' },
  root: '/',
  user: { uid: 1000, gid: 1000, groups: [], name: 'a', home: '/home/a', shell: '/bin/sh' },
  hostMounts: [],
  hostname: 'here',
  geometry: '1280x800',
  display: 4711,
};

it('takes starts for the same one that differ in what an application does not see', () => {
  const same = [{ display: 4712 }, { hostname: 'there' }, { env: { TERM: 'linux', LANG: 'C.UTF-8' } }];
  for (const each of same) expect(keyOf({ ...capsule, ...each }, '1')).toBe(keyOf(capsule, '1'));
  const others = [
    { command: ['gimp', 'a.png'] },
    { cwd: '/' },
    { env: { LANG: 'de_DE.UTF-8' } },
    { user: { ...capsule.user, uid: 1001 } },
    { geometry: '800x600' },
    { cpuBaseline: true as const },
  ];
  const keys = [...others.map((each) => keyOf({ ...capsule, ...each }, '1')), keyOf(capsule, '1')];
  expect(new Set([...keys, keyOf(capsule, '2')]).size).toBe(others.length + 2);
});

it.each([
  ['/usr/lib/libgimp.so', true],
  ['/home/a/.config/GIMP/2.10/gimprc', true],
  ['/home/a/.config/GIMP/2.10/', true],
  ['/etc/fonts/fonts.conf', true],
  ['/home/a/documents/blog.log.d/file', true],
  ['/home/a/.cache/fontconfig/x', false],
  ['/tmp/a', false],
  ['/var/tmp/a', false],
  ['/proc/1/status', false],
  ['/home/a/.mozilla/firefox/x/.parentlock', false],
  ['/home/a/.mozilla/firefox/x/places.sqlite-wal', false],
  ['/home/a/.local/share/recently-used.xbel', false],
  ['/home/a/.config/x/out.log', false],
])('%s counts: %s', (path, counts) => {
  expect(countsAsInput(path)).toBe(counts);
});

it('knows a folder by the names in it that matter, in any order', () => {
  expect(hashOfNames(['b', 'a', 'lock'])).toBe(hashOfNames(['a', 'b', 'c.tmp', '.parentlock']));
  expect(hashOfNames(['a', 'b'])).not.toBe(hashOfNames(['ab']));
});

it('reads the mark that it has written, and no other', () => {
  expect(markOf({ warm: markText('key', []) })).toEqual({ version: 1, key: 'key', inputs: [] });
  for (const warm of [undefined, '', '{}', '{"version":2,"key":"key","inputs":[]}'])
    expect(markOf({ warm })).toBeUndefined();
});

let folder: string;
beforeEach(async () => {
  // Not below a folder whose files do not count.
  folder = await mkdtemp('/root/torpor-warm-');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const opened = () => [Buffer.from(join(folder, 'settings')), Buffer.from(`${folder}/`)];

it('finds what is not as it was, and what was written anew the same', async () => {
  const path = join(folder, 'settings');
  await writeFile(path, 'one');
  const inputs = await recordInputs([...opened(), Buffer.from(join(folder, 'gone'))]);
  expect(inputs).toHaveLength(2);
  expect(await changedInput(inputs)).toBeUndefined();
  await writeFile(join(folder, 'new'), 'one');
  await rename(join(folder, 'new'), path);
  expect(await changedInput(inputs)).toBeUndefined();
  await writeFile(path, 'two');
  expect(await changedInput(inputs)).toBe(path);
  await writeFile(path, 'one');
  await mkdir(join(folder, 'plug-in'));
  expect(await changedInput(inputs)).toBe(`${folder}/`);
  await rm(join(folder, 'plug-in'), { recursive: true });
  await rm(path);
  expect(await changedInput(inputs)).toBe(path);
});
