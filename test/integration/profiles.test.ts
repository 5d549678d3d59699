/** Application profiles with the real engine: found, matched, applied, agreed to, and broken. */
import { chmod, chown, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { DoctorCheck, ProfileReport, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';

/** A user that every Debian has. Its home cannot be written to, so the profiles of users are those of the tests' own. */
const ordinary = 'games';

let folder: string;
let machine: string;
let own: string;
let kept: string | undefined;
let engine: TestEngine;

beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/torpor-profiles-');
  await chmod(folder, 0o755);
  machine = join(folder, 'machine');
  await mkdir(machine);
  engine = await TestEngine.create({ env: { TORPOR_PROFILES: machine } });
  own = join(userInfo().homedir, '.config/torpor/profiles');
  kept = join(folder, 'kept');
  await cp(own, kept, { recursive: true }).catch(() => {
    kept = undefined;
  });
  await rm(own, { recursive: true, force: true });
});
afterEach(async () => {
  await rm(own, { recursive: true, force: true });
  await rm(machine, { recursive: true, force: true });
  await mkdir(machine);
});
afterAll(async () => {
  if (kept !== undefined) await cp(kept, own, { recursive: true });
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const put = (place: string, name: string, text: string) =>
  mkdir(place, { recursive: true }).then(() => writeFile(join(place, name), text));

async function report(...args: string[]): Promise<ProfileReport> {
  const { stdout } = await engine.run(['profiles', '--json', ...args]);
  return JSON.parse(stdout) as ProfileReport;
}

/** An application that writes its environment and arguments, and stays. */
async function writer(path: string): Promise<string> {
  const script = `#!/bin/sh\n{ env; for word; do echo "word=$word"; done; } > ${folder}/written\nsleep 300\n`;
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, script);
  await chmod(path, 0o755);
  return path;
}

async function written(
  command: readonly string[],
  ...options: string[]
): Promise<{ workload: Workload; lines: string[] }> {
  await rm(join(folder, 'written'), { force: true });
  const workload = await engine.start(command, ...options);
  const read = () => readFile(join(folder, 'written'), 'utf8').catch(() => '');
  await expect.poll(read).toContain('HOME=');
  const lines = (await read()).split('\n');
  await engine.run(['end', workload.id]);
  return { workload, lines };
}

const example = (more: string) => `title: Example\nmatch:\n  - executable: example-app\n${more}`;

describe('profiles', () => {
  it('are listed with where they come from, and one of the user’s replaces the machine’s, and that ours', async () => {
    const shipped = (await report()).profiles.find(({ name }) => name === 'mozilla');
    expect(shipped).toMatchObject({ origin: 'torpor' });
    await put(machine, 'mozilla.yaml', example(''));
    expect((await report()).profiles.find(({ name }) => name === 'mozilla')).toMatchObject({
      origin: 'machine',
    });
    await put(own, 'mozilla.yaml', example(''));
    const found = (await report()).profiles.find(({ name }) => name === 'mozilla');
    expect(found).toMatchObject({ origin: 'user', file: join(own, 'mozilla.yaml'), title: 'Example' });
    await put(own, 'mozilla.yaml', 'title: No\ndisabled: true\n');
    expect((await report()).profiles.find(({ name }) => name === 'mozilla')).toBeUndefined();
  });

  it('give an application environment and options, and the user’s own words stand', async () => {
    const app = await writer(join(folder, 'bin/example-app'));
    await put(
      own,
      'example.yaml',
      example(
        'environment: {FROM_PROFILE: "1", OVERRIDDEN: profile}\narguments: [--added, --decided=profile]\nnote: It is an example.\n',
      ),
    );
    const outcome = await engine.run(['profiles', app, '--decided=user']);
    expect(outcome.stdout).toContain(`example: it starts ${app}`);
    const { workload, lines } = await written([app, '--decided=user'], '--env', 'OVERRIDDEN=user');
    expect(lines).toEqual(
      expect.arrayContaining(['FROM_PROFILE=1', 'OVERRIDDEN=user', 'word=--added', 'word=--decided=user']),
    );
    expect(lines).not.toContain('word=--decided=profile');
    expect(workload.profiles).toEqual(['example']);
    const without = await written([app], '--no-profiles');
    expect(without.lines).not.toContain('FROM_PROFILE=1');
    expect(without.workload.profiles).toBeUndefined();
  });

  it('are told of on standard error, and not in the result', async () => {
    const app = await writer(join(folder, 'bin/example-app'));
    await put(own, 'example.yaml', example('note: It is an example.\n'));
    const outcome = await engine.run(['run', '--json', '--', app]);
    expect(outcome.stderr).toContain('It is an example.');
    const { id } = JSON.parse(outcome.stdout) as Workload;
    await engine.run(['end', id]);
  });

  it('add findings to inspections, also after a resume', async () => {
    const app = await writer(join(folder, 'bin/example-app'));
    await put(
      own,
      'example.yaml',
      example('findings: [{tie: example, verdict: degraded, what: It is slower., hint: Wait.}]\n'),
    );
    const { id } = await engine.start([app]);
    const finding = {
      tie: 'example',
      verdict: 'degraded',
      by: 'profile example',
      what: 'It is slower.',
      hint: 'Wait.',
    };
    const findings = async () => (await engine.json<{ findings: unknown[] }>('inspect', id)).findings;
    expect(await findings()).toContainEqual(finding);
    await engine.json('suspend', id);
    // Its snapshot says it, whatever becomes of the profile.
    await rm(join(own, 'example.yaml'));
    await engine.json('resume', id);
    expect(await findings()).toContainEqual(finding);
    await engine.run(['end', id]);
  });

  it('refuse what cannot run in a capsule, with the reason', async () => {
    const app = await writer(join(folder, 'bin/example-app'));
    await put(
      machine,
      'example.yaml',
      example('findings: [{tie: x, verdict: blocking, what: It cannot., hint: Do not.}]\n'),
    );
    expect(await engine.failure(3, 'run', '--', app)).toMatchObject({
      code: 'blocked',
      message: 'It cannot.',
      hint: 'Do not.',
    });
    const flatpak = await writer(join(folder, 'bin/flatpak'));
    const { message } = await engine.failure(3, 'run', '--', flatpak, 'run', 'org.example.App');
    expect(message).toContain('container of its own');
  });
});

describe('consent', () => {
  const asking = example(
    'consent: {id: example-shield, what: {en: It gives up its shield., de: Es gibt seinen Schild auf.}, unless: --unshielded}\n',
  );

  it('is asked once for each application, remembered, and can be taken back', async () => {
    const app = await writer(join(folder, 'bin/example-app'));
    const other = await writer(join(folder, 'opt/example-app'));
    await put(own, 'example.yaml', asking);
    const refused = await engine.failure(3, 'run', '--', app, 'a file');
    expect(refused).toMatchObject({
      code: 'blocked',
      message: 'It gives up its shield.',
      hint: expect.stringContaining(`torpor run --agree example-shield -- ${app} 'a file'`),
      consents: [
        {
          id: 'example-shield',
          profile: 'example',
          program: app,
          what: { de: 'Es gibt seinen Schild auf.' },
        },
      ],
    });
    expect(await engine.failure(2, 'run', '--agree', 'something', '--', app)).toMatchObject({
      code: 'usage',
    });
    await written([app], '--agree', 'example-shield');
    await written([app]);
    // Also for an engine that was started anew.
    await engine.kill('SIGTERM');
    await written([app]);
    await engine.failure(3, 'run', '--', other);
    expect((await report(app)).start?.consents).toMatchObject([{ id: 'example-shield', given: true }]);
    expect((await report(other)).start?.consents).toMatchObject([{ given: false }]);
    await engine.json('profiles', '--disagree', 'example-shield');
    await engine.failure(3, 'run', '--', app);
    expect(await engine.failure(4, 'profiles', '--disagree', 'example-shield')).toMatchObject({
      code: 'not-found',
    });
  });

  it('is no matter where the command line has decided already', async () => {
    const app = await writer(join(folder, 'bin/example-app'));
    await put(own, 'example.yaml', asking);
    await written([app, '--unshielded']);
  });

  it('of one user is not that of another', async () => {
    const app = await writer(join(folder, 'bin/example-app'));
    await put(machine, 'example.yaml', asking);
    await written([app], '--agree', 'example-shield');
    const { consents } = (await engine.failure(3, 'run', '--user', ordinary, '--', app)) as unknown as {
      consents: unknown[];
    };
    expect(consents).toHaveLength(1);
    await engine.json('profiles', '--disagree', 'example-shield');
  });
});

describe('a profile with a mistake in it', () => {
  it('is told with file, line and what was expected, and stops no application', async () => {
    const app = await writer(join(folder, 'bin/example-app'));
    await put(own, 'example.yaml', `${example('')}enviroment:\n  A: b\n`);
    await put(machine, 'broken.yaml', 'title: "A\n');
    const listed = await engine.run(['profiles']);
    expect(listed.code).toBe(1);
    expect(listed.stdout).toContain(`${own}/example.yaml:4:1: expected one of the keys title,`);
    expect(listed.stdout).toContain('found "enviroment".');
    expect(listed.stdout).toContain(`${machine}/broken.yaml:`);
    expect((await report()).problems).toContainEqual(
      expect.objectContaining({
        file: `${own}/example.yaml`,
        line: 4,
        column: 1,
        origin: 'user',
        found: '"enviroment"',
      }),
    );

    const outcome = await engine.run(['run', '--', app]);
    expect(outcome.code).toBe(0);
    expect(outcome.stderr).toContain(`A profile has a mistake and is left out: ${own}/example.yaml:4:1`);
    await engine.run(['end', outcome.stdout.trim()]);

    const checks = await engine.json<DoctorCheck[]>('doctor');
    const check = checks.find(({ name }) => name === 'profiles');
    expect(check).toMatchObject({ status: 'warning', found: expect.stringContaining('example.yaml:4:1') });
    expect(check?.fix).toContain(`${own}/example.yaml`);
  });

  it('leaves in force what it was to replace', async () => {
    await put(own, 'mozilla.yaml', 'title: [\n');
    expect((await report()).profiles.find(({ name }) => name === 'mozilla')).toMatchObject({
      origin: 'torpor',
    });
  });

  it('is not read further than it may be long, nor at all where it is no file', async () => {
    await put(own, 'large.yaml', `title: ${'a'.repeat(200_000)}\n`);
    await mkdir(join(own, 'folder.yaml'));
    await symlink('/dev/zero', join(own, 'zero.yaml'));
    await symlink('/nowhere', join(own, 'nowhere.yaml'));
    await put(own, 'notes.txt', 'no profile');
    await put(own, 'odd\nname.yaml', 'title: 5\n');
    const { problems } = await report();
    expect(problems.map(({ file }) => file.slice(own.length + 1)).sort()).toEqual([
      'large.yaml',
      'odd\nname.yaml',
    ]);
    expect(problems.find(({ file }) => file.endsWith('large.yaml'))?.expected).toContain('at most 64 KiB');
  });
});

describe('the profiles of a user', () => {
  it('are read with that user’s rights alone', async () => {
    // As root reads them, a link in a user's folder would open what only root may see.
    const home = join(folder, 'home');
    await put(join(home, 'secret'), 'file.yaml', 'title: secret\n');
    await chmod(join(home, 'secret'), 0o700);
    const place = join(home, '.config/torpor/profiles');
    await mkdir(place, { recursive: true });
    await symlink(join(home, 'secret/file.yaml'), join(place, 'link.yaml'));
    await writeFile(join(place, 'own.yaml'), 'title: 5\nmatch: []\n');
    for (const path of ['', '.config', '.config/torpor', '.config/torpor/profiles'])
      await chown(join(home, path), 5, 60);
    const { readProfiles } = await import('../../engine/profiles/folders.ts');
    const user = { uid: 5, gid: 60, groups: [60], name: ordinary, home, shell: '/bin/sh' };
    const { problems } = await readProfiles({ torpor: machine, machine }, user);
    expect([...new Set(problems.map(({ file }) => file))]).toEqual([join(place, 'own.yaml')]);
  });
});
