/** Which applications a profile is for, told from what they are: files made for it, and programs of this machine. */
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserFiles } from '../../engine/files/user-files.ts';
import { adjust } from '../../engine/profiles/adjust.ts';
import { readProfiles } from '../../engine/profiles/folders.ts';
import { librariesOf } from '../../engine/profiles/libraries.ts';
import { fits, matchProfile } from '../../engine/profiles/match.ts';
import { parseProfile } from '../../engine/profiles/parse.ts';
import type { Profile } from '../../engine/profiles/profile.ts';
import { type Program, programsOf } from '../../engine/profiles/programs.ts';
import { importsIn, pythonModulesOf } from '../../engine/profiles/python-modules.ts';
import { programsIn } from '../../engine/profiles/shell-script.ts';

const root = { uid: 0, gid: 0, groups: [] };
const nobody = { uid: 65534, gid: 65534, groups: [] };
/** The start of any 64-bit ELF program. */
const elf = Buffer.concat([Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]), Buffer.alloc(57)]);
const appImage = Buffer.from(elf);
appImage.write('AI\u0002', 8, 'latin1');

let at: string;
beforeAll(async () => {
  at = await mkdtemp('/var/tmp/torpor-profiles-');
  await chmod(at, 0o755);
});
afterAll(() => rm(at, { recursive: true, force: true }));

/** A program at this place below the test's folder. */
async function place(path: string, contents: string | Buffer, mode = 0o755): Promise<string> {
  const whole = join(at, path);
  await mkdir(dirname(whole), { recursive: true });
  await writeFile(whole, contents);
  await chmod(whole, mode);
  return whole;
}

const programs = (command: string[], user = root, env: Record<string, string> = {}) =>
  programsOf(
    { command, cwd: at, env: { PATH: `${at}/bin:/usr/bin:/bin`, ...env } },
    new UserFiles('/', user),
  );
const pathsOf = (found: readonly Program[]) => found.map(({ path }) => path);

function profile(text: string, name = 'test', origin: Profile['origin'] = 'torpor'): Profile {
  const parsed = parseProfile(`title: Test\n${text}`, `/x/${name}.yaml`, origin);
  if (parsed.kind !== 'profile') throw new Error(JSON.stringify(parsed));
  return parsed.profile;
}

async function match(
  text: string,
  command: string[],
  options: { application?: string; user?: typeof root } = {},
) {
  const user = options.user ?? root;
  const files = new UserFiles('/', user);
  return matchProfile(profile(text), {
    command,
    application: options.application,
    isRoot: user.uid === 0,
    programs: await programs(command, user),
    list: (folder) => files.list(folder),
    libraries: (path) => librariesOf(path, files),
    modules: (path) => pythonModulesOf(path, files),
  });
}

async function namesFor(command: string[], user = nobody, application?: string): Promise<string[]> {
  const shipped = new URL('../../profiles', import.meta.url).pathname;
  const { profiles } = await readProfiles({ torpor: shipped, machine: '/nowhere' }, undefined);
  const files = new UserFiles('/', user);
  const candidate = {
    command,
    application,
    isRoot: user.uid === 0,
    programs: await programs(command, user),
    list: (folder: string) => files.list(folder),
    libraries: (path: string) => librariesOf(path, files),
    modules: (path: string) => pythonModulesOf(path, files),
  };
  const found = await Promise.all(profiles.map((each) => matchProfile(each, candidate)));
  return found.flatMap((each) => each?.profile.name ?? []);
}

describe('patterns', () => {
  it.each([
    ['firefox*', 'firefox-esr', true],
    ['firefox*', 'my-firefox', false],
    ['/opt/*/app', '/opt/one/app', true],
    ['/opt/*/app', '/opt/one/two/app', false],
    ['/opt/**/app', '/opt/one/two/app', true],
    ['a?c', 'abc', true],
    ['a.c', 'abc', false],
    ['lib(x)+.so', 'lib(x)+.so', true],
    ['*a*b', 'xaybab', true],
    ['*a*b', 'xay/b', false],
    ['**/x/*.so', '/a/b/x/c/x/d.so', true],
    ['**', '', true],
    ['', '', true],
    ['', 'a', false],
    ['a*', 'a', true],
    ['*?', '', false],
    ['**a'.repeat(50), 'a'.repeat(4000), true],
    [`${'**a'.repeat(50)}b`, 'a'.repeat(4000), false],
    [`${'*a'.repeat(60)}b`, 'a'.repeat(4000), false],
  ])('%s and %s: %s', (pattern, text, expected) => expect(fits(pattern, text)).toBe(expected));
});

describe('the programs that a command leads to', () => {
  it('are found through a link in PATH and a start script, as a browser has them', async () => {
    const binary = await place('lib/browser/browser-bin', elf);
    const script = await place(
      'lib/browser/start.sh',
      `#!/bin/sh\n# exec /usr/bin/wrong\nNAME=browser\nDIR=$(dirname "$(readlink -f "$0")")\nif [ -x /usr/bin/true ]; then\n  export X=1\nfi\nexec "$DIR/\${NAME}-bin" $FLAGS "$@"\n`,
    );
    await mkdir(join(at, 'bin'), { recursive: true });
    await symlink(script, join(at, 'bin/browser'));
    const found = await programs(['browser', 'page.html']);
    expect(pathsOf(found)).toEqual([script, '/usr/bin/dash', binary]);
    expect(found[2]).toMatchObject({ format: 'elf', guessed: false, word: 0 });
  });

  it('are guessed where a start script has several ways to end', async () => {
    const one = await place('bin/one', elf);
    const two = await place('bin/two', elf);
    await place('bin/either', '#!/bin/sh\nif [ "$1" ]; then exec one; fi\nexec two\n');
    const found = await programs(['either']);
    expect(found.filter(({ guessed }) => guessed).map(({ path }) => path)).toEqual([one, two]);
  });

  it('are found behind wrappers, and arguments go where they belong', async () => {
    const app = await place('bin/app', elf);
    const wrapped: [string[], number][] = [
      [['env', '-u', 'A', 'B=c', 'app', '--x'], 4],
      [['nice', '-n', '5', 'app'], 3],
      [['timeout', '-k', '5', '10s', 'app'], 4],
      [['setsid', 'nohup', 'app'], 2],
      [['dbus-run-session', '--', 'app'], 2],
      [['xterm', '-T', 'title', '-e', 'app', '--x'], 4],
    ];
    for (const [command, word] of wrapped) {
      const found = (await programs(command)).find(({ path }) => path === app);
      expect(found, command.join(' ')).toMatchObject({ word, guessed: false });
    }
  });

  it('are found in the command of a shell, where no argument can be added', async () => {
    const app = await place('bin/app', elf);
    for (const line of ['app --x', 'cd /tmp; exec app', 'A=b app', 'true && app | cat']) {
      const found = (await programs(['sh', '-c', line])).find(({ path }) => path === app);
      expect(found, line).toBeDefined();
      expect(found?.word).toBeUndefined();
    }
  });

  it('are what interpreters are given', async () => {
    const script = await place('share/tool.py', 'print(1)\n', 0o644);
    const exe = await place('share/game.exe', 'MZ', 0o644);
    expect(pathsOf(await programs(['python3', '-u', script]))).toContain(script);
    expect(pathsOf(await programs(['bash', '-x', 'share/tool.py']))).toContain(script);
    await place('bin/wine', elf);
    expect(pathsOf(await programs(['wine', 'share/game.exe']))).toContain(exe);
    const shebang = await place('bin/tool', '#!/usr/bin/env python3\nprint(1)\n');
    expect(pathsOf(await programs(['tool']))).toEqual(
      expect.arrayContaining([shebang, expect.stringMatching(/python3/)]),
    );
  });

  it('are none where the command is none, or leads in a circle', async () => {
    expect(await programs(['no-such-program-anywhere'])).toEqual([]);
    expect(await programs([''])).toEqual([]);
    expect(await programs(['/'])).toEqual([]);
    const script = await place('bin/circle', `#!/bin/sh\nexec ${at}/bin/circle\n`);
    expect(pathsOf(await programs(['circle']))).toContain(script);
    await symlink('loop', join(at, 'bin/loop'));
    expect(await programs(['loop'])).toEqual([]);
  });

  it('are none that the user could not reach', async () => {
    const hidden = await place('hidden/app', elf);
    await chmod(join(at, 'hidden'), 0o700);
    expect(await programs([hidden], nobody)).toEqual([]);
    expect(pathsOf(await programs([hidden]))).toEqual([hidden]);
    const unreadable = await place('bin/unreadable', '#!/bin/sh\nexec /usr/bin/env\n', 0o711);
    expect(await programs([unreadable], nobody)).toMatchObject([{ format: 'other' }]);
  });

  it('are read out of scripts without running them', () => {
    const words = (text: string) =>
      programsIn(text, '/opt/x/start', { HOME: '/home/u' }).map(({ word }) => word);
    expect(words('exec "$(dirname "$0")/bin/app" "$@"')).toEqual(['/opt/x/bin/app']);
    expect(words('D=`dirname $0`\n$D/app')).toEqual(['/opt/x/app']);
    expect(words(`HERE="$(cd "$(dirname "\${BASH_SOURCE[0]}")" && pwd)"\nexec "$HERE/app"`)).toEqual([
      '/opt/x/app',
    ]);
    expect(words(`exec -a "$0" "\${0%/*}/app"`)).toEqual(['/opt/x/app']);
    expect(words(`BIN=\${BIN:-/opt/y/app}\nexec $BIN`)).toEqual(['/opt/y/app']);
    expect(words('exec $DEBUGGER /opt/z/app')).toEqual(['/opt/z/app']);
    expect(words('exec "$UNKNOWN/app"')).toEqual([]);
    expect(words('exec $(find / -name app)')).toEqual([]);
    expect(words('echo /opt/x/app\n# /opt/x/app\nrm /opt/x/app')).toEqual([]);
    expect(words('exec env A=b app')).toEqual(['app']);
  });
});

describe('a condition', () => {
  it('asks for what lies beside a program, however that is called', async () => {
    const binary = await place('opt/editor/anything', elf);
    await place('opt/editor/resources/app.asar', '');
    const found = await match('match: [{beside: [no-such-file, resources/*.asar]}]', [binary]);
    expect(found?.why).toBe(`resources/app.asar lies beside ${binary}`);
    expect(await match('match: [{beside: resources/*.zip}]', [binary])).toBeUndefined();
  });

  it('does not take what lies beside any program in /usr/bin for a sign', async () => {
    expect(await match('match: [{beside: env}]', ['env'])).toBeUndefined();
  });

  it('asks for libraries, also those of libraries', async () => {
    const direct = await match('match: [{library: "libc.so.*"}]', ['/usr/bin/env']);
    expect(direct?.why).toMatch(/^\/usr\/bin\/env is linked to libc\.so\.6$/);
    // mousepad is linked to GTK, and by that to cairo.
    const indirect = await match('match: [{library: "libcairo.so.*"}]', ['mousepad']);
    expect(indirect?.why).toContain('libcairo.so.2');
    expect(await match('match: [{library: "libQt5*"}]', ['mousepad'])).toBeUndefined();
  });

  it('asks for what a program in Python imports, itself or in its own packages', async () => {
    expect(
      importsIn(
        'import os, a.b as c # import no\nfrom d import (e,\n  f as g)\n  from h.i import j, k\nfrom . import l\nx = "import y"',
      ),
    ).toEqual(['d', 'd.e', 'd.f', 'h.i', 'h.i.j', 'h.i.k', 'os', 'a.b']);
    const own = await place('opt/tool/main.py', '#!/usr/bin/python3\nimport parts\n');
    await place('opt/tool/parts/__init__.py', '');
    await place('opt/tool/parts/deep/view.py', 'from PyQt5.QtWebEngineWidgets import (\n  QWebEngineView)\n');
    const added = await place(
      'bin/added',
      `#!/usr/bin/python3\nimport sys\nsys.path[:0] = ["${at}/lib/added"]\n`,
    );
    await place('lib/added/added/__init__.py', 'from gi.repository import Gtk, WebKit2\n');
    const venv = await place('venv/bin/made', `#!${at}/venv/bin/python3.11\nfrom made.app import main\n`);
    await place('venv/lib/python3.11/site-packages/made/app.py', 'import PySide6.QtWebEngineCore\n');
    const plain = await place(
      'bin/plain',
      '#!/usr/bin/python3\n# import PyQt5.QtWebEngineWidgets\nimport os\n',
    );
    const pattern = 'match: [{module: "*.QtWebEngine*"}, {module: gi.repository.WebKit2}]';
    expect((await match(pattern, [own]))?.why).toBe(`${own} imports PyQt5.QtWebEngineWidgets`);
    expect((await match(pattern, [added]))?.why).toBe(`${added} imports gi.repository.WebKit2`);
    expect((await match(pattern, [venv]))?.why).toBe(`${venv} imports PySide6.QtWebEngineCore`);
    expect(await match(pattern, [plain])).toBeUndefined();
    expect(await match(pattern, ['/usr/bin/env'])).toBeUndefined();
    const names = await namesFor([own]);
    expect(names).toContain('qtwebengine-unconfined');
    expect(await namesFor([venv])).toContain('qtwebengine');
    expect(await namesFor([plain])).toEqual(['python']);
  });

  it('asks for AppImages', async () => {
    const image = await place('Some.AppImage', appImage);
    expect(await match('match: [{format: appimage}]', [image])).toBeDefined();
    expect(await match('match: [{format: appimage}]', ['/usr/bin/env'])).toBeUndefined();
  });

  it('asks for the desktop entry, with or without its ending', async () => {
    for (const pattern of ['org.example.App', 'org.example.App.desktop', 'org.example.*'])
      expect(
        await match(`match: [{desktop: "${pattern}"}]`, ['x'], { application: 'org.example.App.desktop' }),
      ).toBeDefined();
    expect(await match('match: [{desktop: org.example.App}]', ['x'])).toBeUndefined();
  });

  it('holds only where all of its keys do', async () => {
    const text = 'match: [{executable: env, user: ordinary, argument: "--x=*"}]';
    expect(await match(text, ['env', '--x=1'], { user: nobody })).toBeDefined();
    expect(await match(text, ['env', '--x=1'])).toBeUndefined();
    expect(await match(text, ['env'], { user: nobody })).toBeUndefined();
  });

  it('knows a path from a name', async () => {
    expect(await match('match: [{executable: /usr/bin/env}]', ['env'])).toBeDefined();
    expect(await match('match: [{executable: /opt/**/env}]', ['env'])).toBeUndefined();
  });
});

describe('the profiles that Torpor brings recognise applications that nobody has listed', () => {
  it('by what lies beside them', async () => {
    const electron = await place('opt/Notes 3/notes', elf);
    await place('opt/Notes 3/resources/app.asar', '');
    expect(await namesFor([electron])).toEqual(['chromium']);
    expect(await namesFor([electron], root)).toEqual(['chromium-root']);
    const gecko = await place('opt/surfer/surfer', elf);
    await place('opt/surfer/libxul.so', '');
    expect(await namesFor([gecko])).toEqual(['mozilla']);
    const node = await place('lib/node_modules/electron/cli.js', '#!/usr/bin/env node\n');
    await place('lib/node_modules/electron/dist/chrome-sandbox', '');
    expect(await namesFor([node, '.'])).toEqual(['chromium']);
  });

  it('by a start script elsewhere', async () => {
    await place('share/editor/editor', elf);
    await place('share/editor/chrome_100_percent.pak', '');
    const script = await place(
      'share/editor/bin/start',
      '#!/usr/bin/env sh\nif [ ! -L "$0" ]; then P="$(dirname "$0")/.."; else P="$(dirname "$(readlink -f "$0")")/.."; fi\nELECTRON="$P/editor"\nELECTRON_RUN_AS_NODE=1 "$ELECTRON" "$P/cli.js" "$@"\nexit $?\n',
    );
    expect(await namesFor([script])).toEqual(['chromium']);
  });

  it('by what runs them', async () => {
    const image = await place('Drawing.AppImage', appImage);
    expect(await namesFor([image])).toEqual(['appimage']);
    const exe = await place('games/game.exe', 'MZ');
    await place('bin/wine-9', elf);
    await place('bin/wine', '#!/bin/sh\nexec wine-9 "$@"\n');
    expect(await namesFor(['wine', exe])).toEqual(['wine']);
    const flatpak = await place('bin/flatpak', elf);
    expect(await namesFor([flatpak, 'run', 'org.example.App'])).toEqual(['flatpak']);
    expect(await namesFor([flatpak, 'list'])).toEqual([]);
    expect(await namesFor(['env', 'A=b', 'python3', '-c', 'pass'])).toEqual(['python']);
  });

  it('and leave everything else alone', async () => {
    for (const command of [['env'], ['mousepad', '/x.txt'], ['sh', '-c', 'true']])
      expect(await namesFor(command), command.join(' ')).toEqual([]);
  });
});

describe('what profiles come to', () => {
  const program: Program = { path: '/opt/app', names: [], format: 'elf', word: 1, guessed: false };
  const matched = (text: string, name = 'test', origin: Profile['origin'] = 'torpor', by = program) => ({
    profile: profile(`match: [{executable: x}]\n${text}`, name, origin),
    why: '',
    program: by,
  });

  it('is options behind the program, but for those that the user has decided on', () => {
    const added = matched('arguments: [--one, --two=2, --three, --no-four]');
    expect(adjust([added], ['env', 'app', 'file'], undefined).command).toEqual([
      ...['env', 'app', '--one', '--two=2', '--three', '--no-four', 'file'],
    ]);
    const own = ['env', 'app', '--two=3', '--no-three', '--four'];
    expect(adjust([added], own, undefined).command).toEqual([
      'env',
      'app',
      '--one',
      '--two=3',
      '--no-three',
      '--four',
    ]);
  });

  it('is what the user has written, before what the machine has, before ours', () => {
    const adjusted = adjust(
      [
        matched('environment: {A: user}', 'c', 'user'),
        matched('environment: {A: ours, B: ours}', 'a'),
        matched('environment: {A: machine}', 'b', 'machine'),
      ],
      ['app'],
      undefined,
    );
    expect(adjusted.environment).toEqual({ A: 'user', B: 'ours' });
    expect(adjusted.profiles).toEqual(['a', 'b', 'c']);
  });

  it('is waiting for a network for as long as one of them wants', () => {
    const one = matched('wait-network: 20', 'a');
    const other = matched('wait-network: 60', 'b', 'machine');
    expect(adjust([one, other], ['app'], undefined).waitNetwork).toBe(60);
    expect(adjust([], ['app'], undefined).waitNetwork).toBeUndefined();
  });

  it('is one option of several that contradict each other, by the same order', () => {
    const ours = matched('arguments: [--mode=ours, --one, --list=a, --list=b]', 'a');
    const machine = matched('arguments: [--mode=machine, --no-one]', 'b', 'machine');
    const user = matched('arguments: [--mode=user]', 'c', 'user');
    expect(adjust([user, ours, machine], ['env', 'app', 'file'], undefined).command).toEqual([
      ...['env', 'app', '--list=a', '--list=b', '--no-one', '--mode=user', 'file'],
    ]);
  });

  it('is options behind each of several programs', () => {
    const terminal = matched('arguments: [--quiet]', 'a', 'torpor', { ...program, word: 0 });
    const inside = matched('arguments: [--safe]', 'b', 'torpor', { ...program, word: 2 });
    expect(adjust([terminal, inside], ['term', '-e', 'app', 'file'], undefined).command).toEqual([
      ...['term', '--quiet', '-e', 'app', '--safe', 'file'],
    ]);
  });

  it('asks for consent unless the command line has given it', () => {
    const asking = matched('consent: {id: thing, what: It., unless: --thing}');
    expect(adjust([asking], ['env', 'app'], undefined).consents).toMatchObject([
      { id: 'thing', program: '/opt/app' },
    ]);
    expect(adjust([asking], ['env', 'app', '--thing'], undefined).consents).toEqual([]);
  });

  it('refuses nothing for what was only read out of a script', () => {
    const text = 'findings: [{tie: x, verdict: blocking, what: No.}]';
    expect(adjust([matched(text)], ['app'], undefined).findings).toMatchObject([
      { verdict: 'blocking', by: 'profile test' },
    ]);
    const guessed = matched(text, 'test', 'torpor', { ...program, guessed: true });
    expect(adjust([guessed], ['app'], undefined).findings).toMatchObject([{ verdict: 'degraded' }]);
  });
});
