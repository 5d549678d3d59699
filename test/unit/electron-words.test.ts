/** What of Electron's command line is the app's, and what Electron's own entry must not do. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ownWords } from '../../main/shells/electron/own-words.ts';

const script = '/opt/torpor/build/electron/main.mjs';

it.each([
  [['/e/electron', script, '--tray'], script, ['--tray']],
  [['/e/electron', '--no-sandbox', script, '--', '/a b'], script, ['--', '/a b']],
  [['/e/electron', '--no-sandbox', script, '--quit'], script, ['--quit']],
  [
    ['/opt/torpor-app', '--no-sandbox', '--ozone-platform=x11', '--place=launch'],
    undefined,
    ['--place=launch'],
  ],
  [['/opt/torpor-app', '--', '--odd name', script], undefined, ['--', '--odd name', script]],
  [['/opt/torpor-app'], undefined, []],
] as const)('of %j', (argv, from, words) => {
  expect(ownWords(argv, from)).toEqual(words);
});

it('the entry awaits nothing at its top, which Electron would never come to', () => {
  const source = readFileSync(new URL('../../main/shells/electron/main.ts', import.meta.url), 'utf8');
  expect(source.split('\n').filter((line) => /^(const .*= )?await /.test(line))).toEqual([]);
});
