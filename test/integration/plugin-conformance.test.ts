/** Torpor's own plugins and the templates, by the rules that hold for all plugins; and what the templates do. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Finding } from '../../api/types.ts';
import { conformance } from '../plugin/conformance.ts';
import { findSubject } from '../plugin/subject.ts';
import { TestEngine } from '../support/engine.ts';
import { TestPlugins } from '../support/plugins.ts';
import { canCheckpoint } from './criu-fixture.ts';

const root = new URL('../..', import.meta.url).pathname;
const own = join(root, 'build/plugins');
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
  for (const name of Object.values(templates))
    conformance(await findSubject(join(folder, `${name}.service`), 'root', env));
  for (const file of existsSync(own) ? readdirSync(own).filter((each) => each.endsWith('.service')) : [])
    conformance(await findSubject(join(own, file), 'root', env));
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
  const run = (...args: string[]) => {
    const command = ['tsx', 'scripts/test-plugin.ts', ...args];
    const { status, stdout, stderr } = spawnSync('npx', command, { cwd: root, encoding: 'utf8' });
    return { status, said: stdout + stderr };
  };

  it('says of a bad plugin which rules it breaks, and how', { timeout: 240_000 }, async () => {
    await using plugins = await TestPlugins.create();
    const name = 'org.example.Bad';
    await plugins.add(name, { bad: { Abort: 'exit', PostResume: 'wrong-type' } });
    const { status, said } = run('--file', join(plugins.folder, `${name}.service`));
    expect(status).toBe(1);
    expect(said).toMatch(/^ok {2}registers within/m);
    expect(said).toMatch(
      /^NO {2}does its part in a suspend and a resume of an application\n {6}In `torpor resume`: .+its answer to PostResume is of the form "s", not "aa\{sv\}"/m,
    );
    expect(said).toMatch(/^NO {2}takes an Abort without a PreSuspend before it\n {6}Abort failed: /m);
    expect(said).toMatch(/^\d+ rules kept, \d+ broken, \d+ do not apply$/m);
  });

  it.each([
    [['org.example.Nobody'], 1, /No service file in .+ has the key Name=org\.example\.Nobody\./],
    [['--file', '/nowhere'], 1, /\/nowhere cannot be read: /],
    [['--file', '/etc/hostname'], 1, /\/etc\/hostname/],
    [['org.example.A', 'org.example.B'], 2, /^usage: /m],
    [[], 2, /^usage: /m],
  ])('says what is wrong with its arguments %j', (args, code, sentence) => {
    const { status, said } = run(...args);
    expect(said).toMatch(sentence);
    expect(status).toBe(code);
  });
});
