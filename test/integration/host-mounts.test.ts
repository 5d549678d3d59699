/** What is mounted on the host reaches into capsules; here, mounts that only a test's own engine sees. */
import { chmod, cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { Counter, expectTidy, traces } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-mounts-');
  await chmod(folder, 0o755);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** An engine all of whose commands see `source` in the place of `target`. */
const withMount = (source: string, target: string) =>
  TestEngine.create({
    prefix: ['unshare', '-m', 'sh', '-c', 'mount --bind "$0" "$1" && shift && exec "$@"', source, target],
  });

it('takes a single file that is mounted over another along', async () => {
  const file = join(folder, 'hosts');
  await writeFile(file, '127.0.0.1 mounted-in-its-place\n');
  await using engine = await withMount(file, '/etc/hosts');
  await using counter = await Counter.start(engine);
  const seen = async () => (await engine.run(['exec', counter.id, '--', 'cat', '/etc/hosts'])).stdout;
  expect(await seen()).toContain('mounted-in-its-place');
  await engine.json<Workload>('suspend', counter.id);
  await engine.json<Workload>('resume', counter.id);
  await counter.expectCounting();
  expect(await seen()).toContain('mounted-in-its-place');
});

describe('an X server that does not start', () => {
  it.each<[string, string, RegExp]>([
    ['is killed', 'kill -9 $$', /xterm could not be started: .*ended/],
    ['fails', 'echo "no screen here" >&2; exit 1', /Xvnc ended at once\. It said: no screen here\.$/m],
    ['hangs', 'exec sleep 1000', /Xvnc did not come up in time\.$/m],
  ])('where it %s', async (_how, body, words) => {
    const server = join(folder, 'Xvnc');
    await writeFile(server, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    const alternatives = join(folder, 'alternatives');
    await cp('/etc/alternatives', alternatives, { recursive: true, verbatimSymlinks: true });
    await rm(join(alternatives, 'Xvnc'));
    await symlink(server, join(alternatives, 'Xvnc'));
    await using engine = await withMount(alternatives, '/etc/alternatives');
    const outcome = await engine.run(['run', '--', 'xterm']);
    expect(outcome).toMatchObject({ code: 1, stdout: '' });
    expect(outcome.stderr).toMatch(words);
    expect(outcome.stderr).toContain('torpor doctor');
    expect(await engine.json('ps')).toEqual([]);
    await expectTidy(engine);
    expect(await traces(engine)).toMatchObject({ capsules: [], cgroups: [], mounts: [] });
  });
});
