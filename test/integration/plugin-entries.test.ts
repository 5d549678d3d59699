/** The files of plugins in real folders, one of which is the user's own. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type PluginFolders, readEntries, userFolder } from '../../engine/plugin-host/entries.ts';

const name = 'org.example.X';

/** Folders of each kind, and a user. */
class Folders implements AsyncDisposable {
  readonly #root: string;
  readonly folders: PluginFolders;

  private constructor(root: string) {
    this.#root = root;
    this.folders = {
      torpor: join(root, 'torpor'),
      own: { places: {}, environment: {} },
      machine: [join(root, 'packages'), join(root, 'admin')],
    };
  }

  static async create(): Promise<Folders> {
    const all = new Folders(await mkdtemp('/var/tmp/torpor-entries-'));
    for (const folder of ['torpor', 'packages', 'admin', userFolder])
      await mkdir(join(all.#root, folder), { recursive: true });
    return all;
  }

  async add(folder: string, policy: string, text = `[D-BUS Service]\nName=${name}\nExec=/bin/${policy}\n`) {
    await writeFile(join(this.#root, folder, 'x.service'), `${text}X-Torpor-Policy=${policy}\n`);
    return join(this.#root, folder, 'x.service');
  }

  read() {
    const user = { name: 'root', uid: 0, gid: 0, groups: [], home: this.#root, shell: '/bin/sh' };
    return readEntries(this.folders, user);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#root, { recursive: true, force: true });
  }
}

describe('plugins of one name', () => {
  it('are the user’s where the machine does not require its own', async () => {
    await using all = await Folders.create();
    await all.add('torpor', 'optional');
    await all.add('admin', 'optional');
    const file = await all.add(userFolder, 'required');
    const { entries, problems } = await all.read();
    expect(entries).toMatchObject([{ name, file, policy: 'required' }]);
    expect(problems).toEqual([]);
  });

  it.each(['torpor', 'packages', 'admin'])('are the one of %s where that is required', async (folder) => {
    await using all = await Folders.create();
    const required = await all.add(folder, 'required');
    const file = await all.add(userFolder, 'optional');
    const { entries, problems } = await all.read();
    expect(entries).toMatchObject([{ name, file: required, policy: 'required' }]);
    expect(problems).toEqual([
      { file, line: 0, what: `${name} is required on this machine, by ${required}, and is not replaced` },
    ]);
  });

  it('are the administrator’s, who may do without what a package requires', async () => {
    await using all = await Folders.create();
    await all.add('packages', 'required');
    const file = await all.add('admin', 'optional');
    const { entries, problems } = await all.read();
    expect(entries).toMatchObject([{ file, policy: 'optional' }]);
    expect(problems).toEqual([]);
  });
});
