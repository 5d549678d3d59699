/**
 * The set-up scripts, run as a user runs them: in this checkout, or in a copy of its scripts in a temporary folder where
 * a run changes what is built. Needs a checkout that is set up; nothing here uses the network.
 */

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const checkout = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const criu = join(checkout, 'build/criu/criu');
const privateCriu = existsSync(criu) && !lstatSync(criu).isSymbolicLink();

type Result = { code: number; stdout: string; stderr: string };

function run(
  file: string,
  args: string[],
  env: Record<string, string> = {},
  cwd = checkout,
): Promise<Result> {
  return new Promise((resolve) => {
    execFile(
      file,
      args,
      { cwd, env: { ...process.env, ...env }, encoding: 'utf8', maxBuffer: 1 << 26 },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

/** Runs a line of bash that may use the functions of the named script of scripts/setup. */
function withFunctions(script: string, line: string, env: Record<string, string> = {}): Promise<Result> {
  return run('bash', ['-c', `. scripts/setup/${script}; ${line}`], env);
}

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "torpor set-up 'ü "));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A checkout of its own in the temporary folder: the scripts alone, nothing built. */
function bareCheckout(): string {
  const root = realpathSync(folder);
  cpSync(join(checkout, 'scripts'), join(root, 'scripts'), { recursive: true });
  return root;
}

describe('versions', () => {
  it.each([
    ['4.2.1', '4.2.1', true],
    ['4.2', '4.2.1', false],
    ['4.10', '4.2.1', true],
    ['4.1.1', '4.2.1', false],
    ['3.17.1', '4.2.1', false],
    ['5', '4.2.1', true],
  ])('%s is at least %s: %s', async (version, minimum, expected) => {
    const { code } = await withFunctions('common.sh', `version_at_least ${version} ${minimum}`);
    expect(code === 0).toBe(expected);
  });

  it.each([
    ['ID=debian\nVERSION_ID="12"', 0],
    ['ID=debian\nVERSION_ID="13"', 0],
    ['ID=debian\nPRETTY_NAME="Debian testing"', 0],
    ['ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"', 1],
    ['ID=fedora\nVERSION_ID="44"\nPRETTY_NAME="Fedora 44"', 1],
  ])('accepts or refuses the system described by %j', async (text, expected) => {
    writeFileSync(join(folder, 'os-release'), text);
    const { code, stderr } = await withFunctions('common.sh', `require_debian "$FOLDER/os-release"`, {
      FOLDER: folder,
    });
    expect(code).toBe(expected);
    if (expected === 1) {
      expect(stderr).toContain(/PRETTY_NAME="(.*)"/.exec(text)?.[1]);
      expect(stderr).toContain('Next: ');
    }
  });

  it.each([
    ['v20.0.0', 0],
    ['v24.1.0', 0],
    ['v18.20.4', 1],
    ['', 1],
  ])('accepts or refuses Node %j', async (version, expected) => {
    const { code, stderr } = await withFunctions('common.sh', `require_node "${version}"`);
    expect(code).toBe(expected);
    if (expected === 1) expect(stderr).toMatch(/Node.*\n.*Next: install Node 20/);
  });
});

describe('setup.sh', () => {
  it('refuses an unknown option in one sentence with the usage, and does nothing', async () => {
    const root = bareCheckout();
    const { code, stdout, stderr } = await run('bash', [join(root, 'scripts/setup.sh'), '--everything']);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^setup: unknown option "--everything"\nusage: /);
    expect(existsSync(join(root, 'build'))).toBe(false);
  });

  it('prints its usage on demand', async () => {
    const { code, stdout } = await run('bash', ['scripts/setup.sh', '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^usage: /);
  });
});

describe('criu.sh', () => {
  it('has left a CRIU that is new enough, and a second run changes nothing', {
    timeout: 60_000,
  }, async () => {
    const version = /^Version: (\S+)/m.exec((await run(criu, ['--version'])).stdout)?.[1];
    expect((await withFunctions('common.sh', `version_at_least ${version} 4.2.1`)).code).toBe(0);
    const before = statSync(criu);
    const { code, stderr } = await run('bash', ['scripts/setup/criu.sh']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const after = statSync(criu);
    expect([after.ino, after.mtimeMs]).toEqual([before.ino, before.mtimeMs]);
  });

  it.runIf(privateCriu)(
    'mends a copied checkout, whose CRIU still names the loader of the original',
    async () => {
      const root = bareCheckout();
      cpSync(join(checkout, 'build/criu'), join(root, 'build/criu'), { recursive: true });
      const { code, stderr } = await run('bash', [join(root, 'scripts/setup/criu.sh')]);
      expect(stderr).toContain('follows the checkout');
      expect(code).toBe(0);
      const moved = join(root, 'build/criu/criu');
      expect((await run('patchelf', ['--print-interpreter', moved])).stdout.trim()).toBe(
        join(root, 'build/criu/ld.so'),
      );
      expect((await run(moved, ['check'])).code).toBe(0);
      expect(readdirSync(join(root, 'build')).sort()).toEqual(['criu', 'criu.lock']);
    },
  );

  it("takes the system's CRIU where that will do", async () => {
    const root = bareCheckout();
    mkdirSync(join(root, 'bin'));
    symlinkSync(realpathSync(criu), join(root, 'bin/criu'));
    const { code } = await run('bash', [join(root, 'scripts/setup/criu.sh')], {
      PATH: `${join(root, 'bin')}:${process.env.PATH}`,
    });
    expect(code).toBe(0);
    expect(readlinkSync(join(root, 'build/criu/criu'))).toBe(join(root, 'bin/criu'));
  });

  it('waits for another run in the same checkout, and says so', async () => {
    const root = bareCheckout();
    mkdirSync(join(root, 'bin'));
    mkdirSync(join(root, 'build'));
    symlinkSync(realpathSync(criu), join(root, 'bin/criu'));
    const holder = spawn('flock', [join(root, 'build/criu.lock'), 'sh', '-c', 'echo held; read -r line'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    await once(holder.stdout, 'data');
    const setup = spawn('bash', [join(root, 'scripts/setup/criu.sh')], {
      env: { ...process.env, PATH: `${join(root, 'bin')}:${process.env.PATH}` },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const [line] = await once(setup.stderr, 'data');
    expect(String(line)).toContain('waiting for it');
    expect(existsSync(join(root, 'build/criu'))).toBe(false);
    holder.stdin.end('\n');
    const [code] = await once(setup, 'exit');
    expect(code).toBe(0);
    expect(existsSync(join(root, 'build/criu/criu'))).toBe(true);
  });

  it("reads the machine's package sources in both formats, the running release's first", async () => {
    const parts = join(folder, 'parts');
    const out = join(folder, 'out');
    mkdirSync(parts);
    mkdirSync(out);
    const codename = /^VERSION_CODENAME=(\S+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'none';
    writeFileSync(
      join(folder, 'sources.list'),
      [
        '# deb http://commented.invalid/debian any main',
        'deb [arch=amd64 signed-by=/keys/one.gpg,/keys/two.gpg check-valid-until=no] http://one.invalid/debian any main contrib # note',
        'deb http://flat.invalid/debian ./',
        'deb-src http://source.invalid/debian any main',
        '',
      ].join('\n'),
    );
    writeFileSync(
      join(parts, 'a.sources'),
      [
        '# The release.',
        'Types: deb deb-src',
        'URIs: http://two.invalid/debian',
        '  http://three.invalid/debian',
        `Suites: ${codename} ${codename}-updates`,
        'Components: main',
        'Signed-By:',
        ' -----BEGIN PGP PUBLIC KEY BLOCK-----',
        ' .',
        ' mDMEabc',
        ' -----END PGP PUBLIC KEY BLOCK-----',
        '',
        'Types: deb',
        'URIs: http://security.invalid/debian',
        `Suites: ${codename}-security`,
        'Components: main',
        '',
        'Enabled: No',
        'Types: deb',
        'URIs: http://disabled.invalid/debian',
        'Suites: any',
        'Components: main',
        '',
      ].join('\n'),
    );
    writeFileSync(
      join(folder, 'apt.conf'),
      `Dir::Etc::sourcelist "${join(folder, 'sources.list')}";\nDir::Etc::sourceparts "${parts}";\n`,
    );
    const { code, stderr } = await withFunctions('criu.sh', 'write_candidate_sources "$OUT"', {
      OUT: out,
      APT_CONFIG: join(folder, 'apt.conf'),
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const texts = readdirSync(out)
      .sort()
      .map((name) => readFileSync(join(out, name), 'utf8'));
    expect(texts).toEqual([
      'Types: deb\nURIs: http://two.invalid/debian http://three.invalid/debian\nSuites: @SUITE@\nComponents: main\n' +
        'Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEabc\n -----END PGP PUBLIC KEY BLOCK-----\n',
      'Types: deb\nURIs: http://one.invalid/debian\nSuites: @SUITE@\nComponents: main\n' +
        'Signed-By: /keys/one.gpg /keys/two.gpg\nCheck-Valid-Until: no\n',
    ]);
  });
});

describe('bin/torpor', () => {
  it('says how to set up a checkout that is not, also when called through a link', async () => {
    const root = realpathSync(folder);
    mkdirSync(join(root, 'bin'));
    cpSync(join(checkout, 'bin/torpor'), join(root, 'bin/torpor'));
    chmodSync(join(root, 'bin/torpor'), 0o755);
    symlinkSync(join(root, 'bin/torpor'), join(root, 'link'));
    const { code, stderr } = await run(join(root, 'link'), ['ps']);
    expect(code).toBe(1);
    expect(stderr).toContain(`Next: run bash ${join(root, 'scripts/setup.sh')}`);
  });
});

describe.runIf(existsSync(join(checkout, '.git')))('the repository', () => {
  it('names no host from which this machine takes its packages', async () => {
    const apt = await run('apt-get', ['indextargets', '--format', '$(SITE)']);
    const npm = await run('npm', ['config', 'list', '--long', '--json']);
    const settings = Object.entries(JSON.parse(npm.stdout) as Record<string, unknown>)
      .filter(([name]) => name.endsWith('registry') || name.endsWith('proxy'))
      .map(([, value]) => String(value));
    const hosts = new Set(
      [...apt.stdout.split('\n'), ...settings]
        .filter((address) => URL.canParse(address))
        .map((address) => new URL(address).hostname)
        // A bare word such as `localhost` or `mirror` would be found in any prose.
        .filter((host) => host.includes('.')),
    );
    expect(hosts.size).toBeGreaterThan(0);
    for (const host of hosts) {
      const found = await run('git', ['-c', 'safe.directory=*', 'grep', '-lF', '-e', host]);
      expect({ host, code: found.code, files: found.stdout }).toEqual({ host, code: 1, files: '' });
    }
  });
});
