/** The templates of plugins, by the rules that hold for all; what they do; and the suite of these rules itself. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Finding } from '../../api/types.ts';
import { conformance } from '../plugin/conformance.ts';
import { findSubject } from '../plugin/subject.ts';
import { TestEngine } from '../support/engine.ts';
import { TestPlugins } from '../support/plugins.ts';
import { canCheckpoint } from './criu-fixture.ts';

const root = new URL('../..', import.meta.url).pathname;
const folder = mkdtempSync('/var/tmp/torpor-templates-');
afterAll(() => rm(folder, { recursive: true, force: true }));

const env = { XDG_RUNTIME_DIR: folder, XDG_STATE_HOME: join(folder, 'state') };
const templates = {
  TypeScript: 'org.example.SeatsTypescript',
  Python: 'org.example.SeatsPython',
};
execFileSync('npx', ['tsx', 'scripts/build-plugin.ts', 'plugins/template-typescript', folder], { cwd: root });
const python = join(root, 'plugins/template-python');
writeFileSync(
  join(folder, `${templates.Python}.service`),
  readFileSync(join(python, `${templates.Python}.service`), 'utf8').replaceAll('@FOLDER@', python),
);

if (canCheckpoint) {
  for (const name of Object.values(templates)) {
    const session = { ...env, XDG_STATE_HOME: join(folder, `state-${name}`) };
    const seats = join(session.XDG_STATE_HOME, 'seats');
    conformance(await findSubject(join(folder, `${name}.service`), 'root'), async () => ({
      env: session,
      prepare: async ({ id }) => {
        await mkdir(seats, { recursive: true });
        for (const seat of ['first', 'second']) await writeFile(join(seats, seat), `${id}\n`);
      },
      held: async ({ id }) => {
        const files = (await readdir(seats)).filter((each) => !each.startsWith('.'));
        const owners = files.map((each) => readFile(join(seats, each), 'utf8').catch(() => ''));
        const taken = (await Promise.all(owners)).map((owner) => owner.trim());
        return files.filter((_, index) => taken[index] === id).join(' ');
      },
    }));
  }
}

describe.skipIf(!canCheckpoint).each(Object.entries(templates))('the template in %s', (_, name) => {
  const seats = join(env.XDG_STATE_HOME, 'seats');
  const seat = (which: string) => readFile(join(seats, which), 'utf8').catch(() => undefined);

  it('gives seats back for as long as their application is suspended, and takes what is left of them', async () => {
    await rm(seats, { recursive: true, force: true });
    await mkdir(seats, { recursive: true });
    await using engine = await TestEngine.create({ env: { ...env, TORPOR_PLUGINS: join(folder, name) } });
    await mkdir(join(folder, name));
    await writeFile(
      join(folder, name, `${name}.service`),
      readFileSync(join(folder, `${name}.service`), 'utf8'),
    );
    const { id } = await engine.start(['sleep', '100000']);
    for (const which of ['first', 'second']) await writeFile(join(seats, which), `${id}\n`);
    await writeFile(join(seats, 'other'), 'somebody\n');

    const said = (result: { findings: Finding[] }) =>
      result.findings.filter(({ by }) => by === name).map(({ what }) => what);
    const holding = ['first', 'second'].map(
      (each) => `It holds the seat ${each}, which others can have while it is suspended.`,
    );
    const snapshot = await engine.json<{ id: string; findings: Finding[] }>('suspend', id);
    expect(said(snapshot).sort()).toEqual(holding);
    expect([await seat('first'), await seat('second'), await seat('other')]).toEqual([
      undefined,
      undefined,
      'somebody\n',
    ]);

    await writeFile(join(seats, 'second'), 'somebody\n');
    expect(said(await engine.json('resume', id))).toEqual(['Its seat second has been taken by somebody.']);
    expect([await seat('first'), await seat('second')]).toEqual([`${id}\n`, 'somebody\n']);

    // The copy needs seats of its own, and the first application keeps those that it has.
    expect(said(await engine.json('resume', '--copy', snapshot.id)).sort()).toEqual([
      `Its seat first has been taken by ${id}.`,
      'Its seat second has been taken by somebody.',
    ]);
    await engine.json('suspend', '--leave-running', id);
    expect(await seat('first')).toBe(`${id}\n`);
    expect(readdirSync(seats).sort()).toEqual(['first', 'other', 'second']);
  });
});

describe.skipIf(!canCheckpoint)('the conformance suite', () => {
  const runIn = (more: Record<string, string>, ...args: string[]) =>
    new Promise<{ status: unknown; said: string }>((resolve) => {
      const command = ['tsx', 'scripts/test-plugin.ts', ...args];
      const options = { cwd: root, env: { ...process.env, ...more } };
      execFile('npx', command, options, (error, stdout, stderr) =>
        resolve({ status: error === null ? 0 : error.code, said: stdout + stderr }),
      );
    });
  const run = (...args: string[]) => runIn({}, ...args);

  // Side by side, as each has an engine of its own, and a plugin that breaks rules is mostly waited for.
  it.concurrent('says of a bad plugin which rules it breaks, and how', { timeout: 240_000 }, async () => {
    await using plugins = await TestPlugins.create();
    const name = 'org.example.Bad';
    await plugins.add(name, { bad: { Abort: 'exit', PostResume: 'wrong-type' } });
    const { status, said } = await run('--file', join(plugins.folder, `${name}.service`));
    expect(status).toBe(1);
    expect(said).toMatch(/^ok {2}registers within/m);
    expect(said).toMatch(
      /^NO {2}does its part in a suspend and a resume of an application\n {6}In `torpor resume`: .+its answer to PostResume is of the form "s", not "aa\{sv\}"/m,
    );
    expect(said).toMatch(/^NO {2}takes an Abort without a PreSuspend before it\n {6}Abort failed: /m);
    expect(said).toMatch(/^\d+ rules kept, \d+ broken, \d+ do not apply$/m);
  });

  it.concurrent('says of a plugin that does nothing that it lets go of nothing', {
    timeout: 240_000,
  }, async () => {
    await using plugins = await TestPlugins.create();
    const name = 'org.example.Idle';
    await plugins.add(name);
    const file = ['--file', join(plugins.folder, `${name}.service`)];
    const { status, said } = await run(
      ...file,
      '--application',
      'exec sleep 100000',
      '--held',
      'echo a seat',
    );
    expect(status).toBe(1);
    expect(said).toMatch(
      /^NO {2}lets go in PreSuspend of all that is held, .+\n {6}After PreSuspend it still holds something/m,
    );
    expect(said).toMatch(/^NO {2}answers the same call twice, /m);
  });

  it.concurrent('passes a good plugin by its name, which has let go and brought back', {
    timeout: 240_000,
  }, async () => {
    const name = templates.Python;
    const installed = join(folder, 'installed');
    await mkdir(installed);
    await copyFile(join(folder, `${name}.service`), join(installed, `${name}.service`));
    const session = { XDG_RUNTIME_DIR: folder, XDG_STATE_HOME: join(folder, 'state-by-name') };
    const { status, said } = await runIn(
      { TORPOR_PLUGINS: installed },
      name,
      ...Object.entries(session).flatMap((pair) => ['--env', pair.join('=')]),
      ...['--application', 'exec sleep 100000'],
      '--prepare',
      'mkdir -p "$XDG_STATE_HOME/seats" && echo "$TORPOR_WORKLOAD" > "$XDG_STATE_HOME/seats/first"',
      ...['--held', 'grep -lsx "$TORPOR_WORKLOAD" "$XDG_STATE_HOME"/seats/*'],
    );
    expect(said).toMatch(/^ok {2}lets go in PreSuspend of all that is held, /m);
    expect(said).toMatch(/^ok {2}resumes by what is in the state alone/m);
    expect(said).toMatch(/^\d+ rules kept, 0 broken, 0 do not apply$/m);
    expect(status).toBe(0);
  });

  it.each([
    [['org.example.Nobody', '--env', 'no pair'], 2, /--env no pair is not of the form NAME=VALUE\./],
    [['org.example.Nobody', '--held', 'true'], 2, /--held needs --application or --prepare: /],
    [['org.example.Nobody'], 1, /No service file in .+ has the key Name=org\.example\.Nobody\./],
    [['--file', '/nowhere'], 1, /\/nowhere cannot be read: /],
    [['--file', '/etc/hostname'], 1, /\/etc\/hostname/],
    [['org.example.A', 'org.example.B'], 2, /^usage: /m],
    [[], 2, /^usage: /m],
  ])('says what is wrong with its arguments %j', async (args, code, sentence) => {
    const { status, said } = await run(...args);
    expect(said).toMatch(sentence);
    expect(status).toBe(code);
  });
});
