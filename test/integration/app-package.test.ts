/** electron-builder.yml and the scripts of the app's packages, as far as they can be judged without the packager. */
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const root = new URL('../..', import.meta.url).pathname;

interface Resource {
  from: string;
  to: string;
  filter?: string[];
}

interface Config {
  appId: string;
  files: string[];
  extraMetadata: { main: string };
  extraResources: Resource[];
  linux: {
    icon: string;
    executableName: string;
    target: string[];
    desktop: { entry: Record<string, string> };
  };
  deb: Target;
  rpm: Target;
}

interface Target {
  afterInstall: string;
  afterRemove: string;
  depends: string[];
  fpm: string[];
}

let config: Config;

beforeAll(async () => {
  const script = 'import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)';
  const { stdout } = await run('python3', ['-c', script, join(root, 'electron-builder.yml')]);
  config = JSON.parse(stdout);
});

const isThere = (path: string) => existsSync(join(root, path));
/** Whether a file below the folder fits a pattern: `*` within a name, two of them over folders. */
function finds(folder: string, pattern: string): boolean {
  const form = pattern
    .replace(/[.+]/g, '\\$&')
    .replaceAll('**/', '@')
    .replaceAll('*', '[^/]*')
    .replaceAll('@', '(.*/)?');
  const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
  return files.some((file) => new RegExp(`^${form}$`).test(file));
}

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
      const files = fpm.filter((word) => !word.startsWith('-')).map((word) => word.split('='));
      for (const [from = '', to = ''] of files) {
        expect(isThere(from)).toBe(true);
        // Each of them says itself where it goes.
        const [, folder = 'none'] = /Goes to (\/\S*\/)/.exec(readFileSync(join(root, from), 'utf8')) ?? [];
        expect(`${to.slice(0, to.lastIndexOf('/'))}/`).toBe(folder);
      }
      expect(files).toHaveLength(3);
      const [before = ''] = fpm.filter((word) => word.startsWith('--before-remove='));
      for (const script of [afterInstall, afterRemove, before.split('=')[1] ?? '']) {
        expect(statSync(join(root, script)).mode & 0o111).not.toBe(0);
        // The packager would take it for a name of its own.
        expect(readFileSync(join(root, script), 'utf8')).not.toContain('${');
      }
    },
  );

  it('brings every program of the engine, and starts it where the service says', () => {
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
  });
});

describe('the removal of a package', () => {
  /** In a root of its own, so that this machine's is not touched. */
  async function remove(folder: string, argument: string): Promise<string> {
    const script = readFileSync(join(root, 'packaging/app/after-remove.sh'), 'utf8').replace(
      /(?<=[ "'])\/(usr|var|run)\//g,
      `${folder}/$1/`,
    );
    const { stdout } = await run('sh', ['-c', script, 'after-remove', argument]);
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
