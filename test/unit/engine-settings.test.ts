/** The engine's settings last, and a damaged file does not keep it from starting. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseBytes } from '../../cli/format.ts';
import { EngineSettings } from '../../engine/settings.ts';
import { silent } from '../support/store.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-settings-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it('are there again for the next engine', async () => {
  const settings = await EngineSettings.open(folder, silent);
  expect(settings.now).toEqual({});
  await settings.replace({ quotaBytes: 1024 });
  expect((await EngineSettings.open(folder, silent)).now).toEqual({ quotaBytes: 1024 });
});

it('are as they come where their file is damaged', async () => {
  await writeFile(join(folder, 'settings.json'), '{"version":1,"settings":{"quotaBytes":-1}}');
  expect((await EngineSettings.open(folder, silent)).now).toEqual({});
});

it.each([
  ['20G', 20 * 1024 ** 3],
  ['1.5t', 1.5 * 1024 ** 4],
  ['512 MiB', 512 * 1024 ** 2],
  ['100MB', 100 * 1024 ** 2],
  ['4096', 4096],
  ['12B', 12],
  ['much', undefined],
  ['-1G', undefined],
  ['', undefined],
  ['1e9', undefined],
])('reads %s as an amount', (word, expected) => {
  expect(parseBytes(word)).toBe(expected);
});
