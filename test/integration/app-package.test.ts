/** electron-builder.yml and the scripts of the app's packages, as far as they can be judged without the packager. */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import type { PluginReport, Snapshot } from '../../api/types.ts';
import { findInstallation } from '../../engine/installation.ts';
import { parseEntry } from '../../engine/plugin-host/entry.ts';
import { readLinked } from '../../engine/profiles/elf.ts';
import {
  filesBelow,
  fits,
  InstalledPackage,
  installedFiles,
  readPackageConfig,
} from '../support/app-package.ts';
import { TestEngine } from '../support/engine.ts';
import { typeInShell } from '../support/job.ts';
import { TestTerminal } from '../support/terminal.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);
const root = new URL('../..', import.meta.url).pathname;

/** Games, which Debian has everywhere. */
const otherUser = 5;

const config = readPackageConfig();
const isThere = (path: string) => existsSync(join(root, path));
/** Whether a file below the folder fits a pattern. */
const finds = (folder: string, pattern: string) => filesBelow(folder).some((file) => fits(pattern, file));
const wanted = (patterns: string[]) => patterns.filter((pattern) => !pattern.startsWith('!'));

describe('electron-builder.yml', () => {
  it('makes deb, rpm and AppImage, whose windows the desktop groups with the menu entry', () => {
    expect(config.linux.target).toEqual(['deb', 'rpm', 'AppImage']);
    expect(config.linux.desktop.entry).toMatchObject({ Name: 'Torpor', StartupWMClass: 'Torpor' });
  });

  it('names only files that a build leaves', () => {
    expect(isThere(config.extraMetadata.main)).toBe(true);
    const named = wanted(config.files).map((pattern) => ({
      pattern,
      found: pattern.startsWith('build/') ? finds('build', pattern.slice('build/'.length)) : isThere(pattern),
    }));
    expect(named.filter(({ found }) => !found)).toEqual([]);
    for (const { from, filter = ['**/*'] } of config.extraResources) {
      const missing = wanted(filter).filter((pattern) => !finds(from, pattern));
      expect({ from, missing }).toEqual({ from, missing: [] });
    }
    const icons = readdirSync(join(root, config.linux.icon));
    expect(icons.length).toBeGreaterThan(3);
    for (const icon of icons) expect(icon).toMatch(/(\d+)x\1\.png$/);
  });

  it.each(['deb', 'rpm'] as const)(
    "installs the engine's service files with %s where they belong",
    (target) => {
      const { fpm, afterInstall, afterRemove } = config[target];
      const files = installedFiles(config[target]);
      for (const { from, to } of files) {
        expect(isThere(from)).toBe(true);
        // Each of them says itself where it goes.
        const [, folder = 'none'] = /Goes to (\/\S*\/)/.exec(readFileSync(join(root, from), 'utf8')) ?? [];
        expect(`${to.slice(0, to.lastIndexOf('/'))}/`).toBe(folder);
      }
      // And all of them are installed.
      const folders = ['dbus', 'polkit', 'systemd', ...(target === 'deb' ? ['dpkg'] : [])];
      const service = folders.flatMap((folder) =>
        filesBelow(`packaging/${folder}`).map((file) => `packaging/${folder}/${file}`),
      );
      expect(files.map(({ from }) => from).sort()).toEqual(service.sort());
      const [before = ''] = fpm.filter((word) => word.startsWith('--before-remove='));
      for (const script of [afterInstall, afterRemove, before.split('=')[1] ?? '']) {
        expect(statSync(join(root, script)).mode & 0o111).not.toBe(0);
        // The packager would take it for a name of its own.
        expect(readFileSync(join(root, script), 'utf8')).not.toContain('${');
      }
    },
  );

  it('has dpkg go on where the package is gone', async () => {
    const settings = readFileSync(join(root, 'packaging/dpkg/torpor'), 'utf8');
    const [, hook = ''] = /^pre-invoke=(.*)$/m.exec(settings) ?? [];
    const program = '/usr/lib/torpor/native/torpor-keep';
    expect(hook).toBe(`if test -x ${program}; then ${program} /var/lib/torpor || true; fi`);
    expect(config.deb.fpm).toContain('--deb-no-default-config-files');
    if (existsSync(program)) return;
    expect(await run('sh', ['-c', hook])).toEqual({ stdout: '', stderr: '' });
  });

  it('starts the engine where the service says', () => {
    const engine = config.extraResources.find(({ from }) => from === 'packaging/app/bin');
    expect(engine?.to).toBe('engine');
    const service = readFileSync(join(root, 'packaging/systemd/torpord.service'), 'utf8');
    const [, program = ''] = /ExecStart=(\S+)/.exec(service) ?? [];
    expect(program).toBe('/usr/lib/torpor/torpord');
    expect(isThere('packaging/app/bin/torpord')).toBe(true);
    const install = readFileSync(join(root, config.deb.afterInstall), 'utf8');
    expect(install).toContain('ln -sfn "$root/resources/engine" /usr/lib/torpor');
    const built = config.extraResources.find(({ from }) => from === 'build')?.filter ?? [];
    const bundles = readdirSync(join(root, 'build')).filter((name) => name.endsWith('.mjs'));
    expect(bundles).toContain('torpord.mjs');
    expect(built).toEqual(expect.arrayContaining(bundles));
    expect(new Set(built).size).toBe(built.length);
  });
});

/** All that is said in text below a value. */
function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : [];
}

describe('an installed package', () => {
  const installed = new InstalledPackage(config, process.execPath);
  afterAll(() => installed[Symbol.dispose]());
  const { engine: there } = installed;
  const build = join(root, 'build');
  const { plugins, ...others } = findInstallation({});
  /** As an engine that is installed there has it. */
  const own = { places: { '@NODE@': join(installed.folder, config.linux.executableName), '@BUILD@': there } };

  it('has all that the engine looks for, whole', () => {
    const paths = textsIn([others, plugins.torpor]).flatMap((path) =>
      [build, root.replace(/\/$/, '')]
        .filter((folder) => path.startsWith(`${folder}/`))
        .slice(0, 1)
        .map((folder) => ({ path, name: path.slice(folder.length + 1) })),
    );
    expect(paths.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['criu/criu', 'torpor-terminal.mjs', 'plugins', 'profiles']),
    );
    const has = (path: string): string[] => {
      if (!existsSync(path)) return ['nothing'];
      if (!statSync(path).isDirectory()) return ['a file'];
      return readdirSync(path, { recursive: true, encoding: 'utf8' })
        .filter((file) => !file.endsWith('.map'))
        .sort();
    };
    for (const { path, name } of paths) {
      expect({ name, has: has(join(there, name)) }).toEqual({ name, has: has(path) });
      if (has(path).join() === 'a file')
        expect({ name, mode: statSync(join(there, name)).mode }).toEqual({ name, mode: statSync(path).mode });
    }
    // What the command line starts.
    for (const name of ['torpord.mjs', 'torpor-app.mjs']) expect(has(join(there, name))).toEqual(['a file']);
  });

  it("has every program that its own plugins' service files name, and none of the machine that built it", () => {
    const files = readdirSync(join(there, 'plugins')).filter((file) => file.endsWith('.service'));
    const entries = files.map((file) => {
      const text = readFileSync(join(there, 'plugins', file), 'utf8');
      for (const foreign of [root, process.execPath]) expect(text).not.toContain(foreign);
      return parseEntry(text, file, { ...own, environment: {} });
    });
    expect(entries).toMatchObject([{ name: 'io.github.torpor.Audio' }, { name: 'io.github.torpor.Bridge' }]);
    for (const entry of entries) {
      const words = 'exec' in entry ? entry.exec : [];
      expect(words.length).toBeGreaterThan(1);
      for (const word of words) expect({ word, isThere: existsSync(word) }).toEqual({ word, isThere: true });
    }
  });

  it('depends on what its native parts are linked to', async () => {
    // What every system has that has a C library and a shell, and what holds the libraries otherwise.
    const everywhere = /^(lib(c|m|gcc_s)\.so|ld-linux)/;
    const packages: Record<string, { deb: string; rpm: string }> = {
      'libpulse.so.0': { deb: 'libpulse0', rpm: 'pulseaudio-libs' },
      'libstdc++.so.6': { deb: 'libstdc++6', rpm: 'libstdc++' },
      'libcrypto.so.3': { deb: 'libssl3', rpm: 'openssl-libs' },
      'liblz4.so.1': { deb: 'liblz4-1', rpm: 'lz4-libs' },
      'libzstd.so.1': { deb: 'libzstd1', rpm: 'libzstd' },
    };
    const native = readdirSync(there, { recursive: true, encoding: 'utf8' }).filter(
      // CRIU has its libraries beside it; koffi brings itself for systems with another C library, too.
      (file) => !/^criu\/|musl/.test(file) && statSync(join(there, file)).isFile(),
    );
    const needed = new Set<string>();
    for (const file of native) {
      await using opened = await open(join(there, file));
      for (const library of (await readLinked(opened))?.needed ?? []) needed.add(library);
    }
    const named = [...needed].filter((library) => !everywhere.test(library)).sort();
    expect(named).toEqual(Object.keys(packages).sort());
    for (const target of ['deb', 'rpm'] as const)
      expect(config[target].depends).toEqual(
        expect.arrayContaining(named.map((library) => packages[library]?.[target])),
      );
  });

  it('starts its own plugins by what runs the engine, for root and for others who can reach it', async () => {
    await using engine = await TestEngine.create({ torpor: join(there, 'torpor') });
    await engine.json('ps');
    // Where the plugins of a user whose home folder is root's can write.
    const session = mkdtempSync('/var/tmp/torpor-session-');
    chownSync(session, otherUser, otherUser);
    const other = { uid: otherUser, env: { XDG_RUNTIME_DIR: session, XDG_STATE_HOME: session } };
    onTestFinished(() => rmSync(session, { recursive: true }));
    const report = async (options: Parameters<TestEngine['run']>[1]) =>
      JSON.parse((await engine.run(['plugins', '--json'], options)).stdout) as PluginReport;
    // Where root keeps a folder to itself.
    chmodSync(join(there, 'plugins'), 0o700);
    const closed = await report(other);
    expect(closed.plugins.map(({ name, problem }) => [name, problem])).toEqual([
      ['io.github.torpor.Audio', undefined],
      [
        'io.github.torpor.Bridge',
        expect.stringContaining(`: games may not enter ${there}/plugins; have Torpor`),
      ],
    ]);
    chmodSync(join(there, 'plugins'), 0o755);
    for (const options of [{}, other]) {
      const { plugins: all, problems } = await report(options);
      expect(problems).toEqual([]);
      expect(all.map(({ name, problem }) => [name, problem])).toEqual([
        ['io.github.torpor.Audio', undefined],
        ['io.github.torpor.Bridge', undefined],
      ]);
    }
    const log = await readFile(join(engine.paths.stateDir, 'log/torpord.log'), 'utf8');
    const registered = log
      .split('\n')
      .filter((line) => line.includes('"plugin registered"'))
      .map((line) => JSON.parse(line) as { plugin: string; uid: number; pid: number });
    expect(registered.map(({ plugin, uid }) => `${plugin} ${uid}`).sort()).toEqual([
      'io.github.torpor.Audio 0',
      `io.github.torpor.Audio ${otherUser}`,
      'io.github.torpor.Bridge 0',
      `io.github.torpor.Bridge ${otherUser}`,
    ]);
    for (const { pid } of registered) {
      const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
      expect(words[0]).toBe(own.places['@NODE@']);
      expect(words[1]?.startsWith(`${there}/`)).toBe(true);
      // Electron, which is there in its place, is Node by this alone.
      expect((await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0')).toContain(
        'ELECTRON_RUN_AS_NODE=1',
      );
    }
  });

  it.skipIf(!canCheckpoint)('suspends and resumes applications, and jobs in a terminal', async () => {
    const torpor = join(there, 'torpor');
    await using engine = await TestEngine.create({ torpor });
    const { id } = await engine.start(['sleep', '100000']);
    // They are no part of Electron, and may be made with it.
    const { stdout } = await engine.run(['exec', id, '--', 'env']);
    expect(stdout).toContain('DISPLAY=');
    expect(stdout).not.toContain('ELECTRON_RUN_AS_NODE');
    await engine.json('suspend', id);
    expect(await engine.json('resume', id)).toMatchObject({ state: 'running' });

    await using job = await typeInShell('cat');
    const { workload } = await engine.json<Snapshot>('suspend', `${job.pid}`);
    await engine.json('resume', workload);
    await using viewer = await TestTerminal.start([torpor, 'attach', workload], { env: engine.env });
    viewer.type('said again\n');
    // By the terminal, and by the job.
    await viewer.until(/said again\s+said again/);
  });
});

describe('the removal of a package', () => {
  /** In a root of its own, so that this machine's is not touched. */
  async function remove(folder: string, argument: string): Promise<string> {
    const script = readFileSync(join(root, 'packaging/app/after-remove.sh'), 'utf8').replace(
      /(?<=[ "'])\/(usr|var|run)\//g,
      `${folder}/$1/`,
    );
    // What is enabled on this machine is not the test's to disable.
    const apart = 'mount -t tmpfs tmpfs /etc/systemd && exec sh -c "$0" after-remove "$1"';
    const command = ['--mount', '--propagation', 'private', 'sh', '-c', apart, script, argument];
    const { stdout } = await run('unshare', command);
    return stdout;
  }

  it.each([
    ['remove', true],
    ['purge', true],
    ['0', true],
    ['upgrade', false],
    ['1', false],
  ])('by "%s" says that snapshots stay, and they do: %s', async (argument, isRemoval) => {
    const folder = mkdtempSync(join(tmpdir(), 'torpor-remove-'));
    try {
      for (const each of ['usr/bin', 'usr/lib', 'var/lib/torpor/snapshots/1', 'run'])
        mkdirSync(join(folder, each), { recursive: true });
      symlinkSync('/nowhere/engine', join(folder, 'usr/lib/torpor'));
      symlinkSync('/nowhere/torpor', join(folder, 'usr/bin/torpor'));
      const said = await remove(folder, argument);
      expect(existsSync(join(folder, 'var/lib/torpor/snapshots/1'))).toBe(true);
      expect(said.includes('snapshots are still in')).toBe(isRemoval);
      const link = await run('sh', ['-c', `test -L ${folder}/usr/bin/torpor && echo there || echo gone`]);
      expect(link.stdout.trim()).toBe(isRemoval ? 'gone' : 'there');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
