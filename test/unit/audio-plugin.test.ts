/** The parts of the audio plugin that only read and write files. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { appearanceOf } from '../../plugins/audio/application.ts';
import { Consents } from '../../plugins/audio/consents.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-audio-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('answers about the microphone', () => {
  it('are remembered for each application', async () => {
    const consents = new Consents({ XDG_CONFIG_HOME: folder });
    expect(await consents.of('org.example.Recorder.desktop')).toBeUndefined();
    await consents.remember('org.example.Recorder.desktop', true);
    await consents.remember('sh -c record', false);
    const later = new Consents({ XDG_CONFIG_HOME: folder });
    expect(await later.of('org.example.Recorder.desktop')).toBe(true);
    expect(await later.of('sh -c record')).toBe(false);
    expect(await later.of('sh')).toBeUndefined();
  });

  it.each(['', '{"version":2,"applications":{}}', '{"version":1,"applications":{"a":"perhaps"}}'])(
    'are not guessed at from %j, which is left as it is',
    async (text) => {
      const consents = new Consents({ XDG_CONFIG_HOME: folder });
      await mkdir(dirname(consents.file), { recursive: true });
      await writeFile(consents.file, text);
      await expect(consents.of('a')).rejects.toThrow(consents.file);
      await expect(consents.remember('a', true)).rejects.toThrow('Mend or remove it');
      expect(await readFile(consents.file, 'utf8')).toBe(text);
    },
  );
});

describe('the appearance of an application in the mixer', () => {
  const entry = `[Desktop Entry]
Name = Recorder
Icon=org.example.Recorder
[Desktop Action new]
Name=New Recording
`;

  it.each(['org.example.Recorder', 'org.example.Recorder.desktop'])(
    'is that of its desktop entry %s',
    async (id) => {
      await mkdir(join(folder, 'applications'));
      await writeFile(join(folder, 'applications', 'org.example.Recorder.desktop'), entry);
      const env = { XDG_DATA_HOME: '/nowhere', XDG_DATA_DIRS: `/nowhere/else:${folder}` };
      expect(await appearanceOf(id, 'recorder', env)).toEqual({
        name: 'Recorder',
        icon: 'org.example.Recorder',
      });
    },
  );

  it.each([undefined, 'gone.desktop', '../../secret'])(
    'is its name alone where the entry is %s',
    async (id) => {
      expect(await appearanceOf(id, 'recorder', { XDG_DATA_HOME: folder, XDG_DATA_DIRS: folder })).toEqual({
        name: 'recorder',
        icon: '',
      });
    },
  );
});
