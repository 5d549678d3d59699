/**
 * Bundles between two engines of one machine, each with a state folder and users of its own: the other one knows nothing of
 * the first. What another release of the system adds is in test/e2e/portable.test.ts.
 */
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ExportResult, ImportResult, Workload } from '../../api/types.ts';
import { TestEngine, program as torporProgram } from '../support/engine.ts';
import { SshServer } from '../support/ssh-server.ts';
import { makeUser, type TestUser } from '../support/users.ts';

const passphrase = 'correct horse battery staple';
const waiting = { timeout: 15_000, interval: 50 };
/** Counts in memory, and keeps a document open that it appends to. */
const counter =
  'exec 3>>"$HOME/log"; i=0; while :; do i=$((i+1)); echo $i > "$HOME/count"; echo $i >&3; sleep 0.1; done';

// Where making one fails, those that were made are taken away all the same.
let alice: TestUser;
let bob: TestUser;
let home: TestEngine;
let away: TestEngine;
let key: string;

async function torpor<T>(engine: TestEngine, command: string, ...args: string[]): Promise<T> {
  const outcome = await engine.run([command, '--json', ...args], { input: `${passphrase}\n` });
  expect(outcome, outcome.stdout + outcome.stderr + (await engine.logTail(4))).toMatchObject({ code: 0 });
  return JSON.parse(outcome.stdout) as T;
}

const numberIn = async (path: string) => Number((await readFile(path, 'utf8')).trim());

beforeAll(async () => {
  [alice, bob] = [await makeUser('torpor-alice', 21501), await makeUser('torpor-bob', 21502)];
  [home, away] = [await TestEngine.create(), await TestEngine.create()];
  key = await mkdtemp('/var/tmp/torpor-key-');
});
afterAll(async () => {
  for (const each of [home, away, alice, bob]) await each?.[Symbol.asyncDispose]();
  if (key !== undefined) await rm(key, { recursive: true, force: true });
});

describe('a capsule that goes to another machine and comes home', () => {
  let there: Workload;
  let left: number;

  it('is left running where it could not be written', async () => {
    await mkdir(join(key, 'photos/summer'), { recursive: true });
    const { id } = await torpor<Workload>(home, 'run', '--user', alice.name, '--', 'sleep', '1000');
    const cases: [path: string, input: string, reason: string][] = [
      [join(key, 'photos'), passphrase, 'is not empty, and is no bundle'],
      [join(key, 'nothing/tree.torpor'), passphrase, 'is not there'],
      [join(key, 'short'), 'short', 'fewer than 8 characters'],
      ['/proc/torpor', passphrase, 'not there any more'],
    ];
    for (const [path, input, reason] of cases) {
      const outcome = await home.run(['export', '--json', id, path], { input: `${input}\n` });
      expect(outcome.stdout).toContain(reason);
      expect(outcome.code).not.toBe(0);
    }
    expect(await home.json<Workload[]>('ps')).toMatchObject([{ id, state: 'running' }]);
    expect(await home.snapshots()).toEqual([]);
    expect(await readdir(key)).toEqual(['photos']);
    await home.json('end', id);
    await rm(join(key, 'photos'), { recursive: true });
  });

  it('is written with what it needs, and stays here', async () => {
    await writeFile(join(alice.home, 'letter'), 'dear\n');
    await chown(join(alice.home, 'letter'), alice.uid, alice.uid);
    const env = ['--env', 'SHELL=/bin/sh', '--env', `HOME=${alice.home}`];
    const words = ['--', 'xterm', '-e', 'sh', '-c', counter];
    const { id } = await torpor<Workload>(
      home,
      'run',
      '--name',
      'counter',
      '--user',
      alice.name,
      ...env,
      ...words,
    );
    await vi.waitFor(
      async () => expect(await numberIn(join(alice.home, 'count'))).toBeGreaterThan(3),
      waiting,
    );
    const bundle = join(key, 'session');
    const result = await torpor<ExportResult>(
      home,
      ...['export', '--with', alice.home, 'counter', `${bundle}/`],
    );
    expect(result).toMatchObject({ form: 'folder', generation: 1 });
    expect(result.findings.filter(({ verdict }) => verdict !== 'handled')).toEqual([]);
    expect(result.workloads).toMatchObject([{ id, state: 'suspended' }]);
    left = await numberIn(join(alice.home, 'count'));
    expect(left).toBeGreaterThan(3);
    const names = await readdir(bundle, { recursive: true });
    for (const name of names.filter((each) => each.endsWith('.pack'))) {
      const bytes = await readFile(join(bundle, name));
      expect(bytes.includes('xterm') || bytes.includes('dear')).toBe(false);
    }
  });

  it('is taken in for another user, without anything changing on the machine', async () => {
    const imported = await torpor<ImportResult>(
      away,
      ...['import', '--user', bob.name, join(key, 'session')],
    );
    expect(imported).toMatchObject({ isHome: false, documents: [], workloads: [{ state: 'suspended' }] });
    [there] = imported.workloads as [Workload];
    expect(there).toMatchObject({ name: 'counter', user: bob.name });
    // Somebody else's home folder is no place for what is started for this user, outside the capsule.
    const plugins = join(alice.home, '.local/share/torpor/plugins');
    const trace = join(bob.home, 'trace');
    await mkdir(plugins, { recursive: true });
    const entry = `[D-BUS Service]\nName=org.example.Foreign\nExec=/usr/bin/touch ${trace}\n`;
    await writeFile(join(plugins, 'org.example.Foreign.service'), entry);
    await chmod(alice.home, 0o755);
    const resumed = await torpor<{ workload: Workload }>(away, 'resume', there.id);
    expect(JSON.stringify(resumed)).not.toMatch(/"blocking"|did not do its part/);
    expect(existsSync(trace)).toBe(false);
    await rm(plugins, { recursive: true, force: true });
    const inside = async (...command: string[]) =>
      (await away.run(['exec', there.id, '--', ...command])).stdout.trim();
    await vi.waitFor(
      async () => expect(Number(await inside('cat', join(alice.home, 'count')))).toBeGreaterThan(left + 3),
      waiting,
    );
    expect(await inside('id', '-u')).toBe(String(bob.uid));
    expect(await numberIn(join(alice.home, 'count'))).toBe(left);
    // Some of them last no longer than a tenth of a second.
    const { pids } = await away.workload(there.id);
    const all = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')));
    const identity = new RegExp(`^Uid:(\\s+${bob.uid}){4}$[^]*^CapPrm:\\s+0+$[^]*^NoNewPrivs:\\s+1$`, 'm');
    const lasting = all.filter((status) => status !== '');
    expect(lasting.length).toBeGreaterThan(3);
    for (const status of lasting) expect(status).toMatch(identity);
  });

  it('comes home with what was done there, and says what became of each document', async () => {
    await away.run(['exec', there.id, '--', 'sh', '-c', `echo sir >> ${alice.home}/letter`]);
    const again = await torpor<ExportResult>(away, 'export', there.id, `${join(key, 'session')}/`);
    expect(again.generation).toBe(2);
    expect(again.bytesWritten).toBeLessThan(again.bytes);
    const imported = await torpor<ImportResult>(home, ...['import', join(key, 'session')]);
    expect(imported).toMatchObject({ isHome: true, workloads: [{ name: 'counter', user: alice.name }] });
    expect(imported.documents).toContainEqual({ path: join(alice.home, 'letter'), outcome: 'written' });
    expect(await readFile(join(alice.home, 'letter'), 'utf8')).toBe('dear\nsir\n');
    const brought = await numberIn(join(alice.home, 'count'));
    expect(brought).toBeGreaterThan(left);
    await torpor(home, 'resume', 'counter');
    await vi.waitFor(
      async () => expect(await numberIn(join(alice.home, 'count'))).toBeGreaterThan(brought + 2),
      waiting,
    );
    const { uid } = await stat(join(alice.home, 'letter'));
    expect(uid).toBe(alice.uid);
  });

  it('leaves no mount and no layer behind when nobody needs it any more', async () => {
    await torpor(away, 'forget', there.id);
    const layers = join(away.paths.stateDir, 'layers');
    await vi.waitFor(
      async () => expect(existsSync(layers) ? await readdir(layers) : []).toEqual([]),
      waiting,
    );
    expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(join(away.paths.runDir, 'roots'));
  });
});

it('says at once of what runs as root that no machine takes it in', async () => {
  await torpor(home, 'run', '--name', 'mighty', '--', 'xterm', '-e', 'sleep', '1000');
  const refused = await home.run(['export', 'mighty', join(key, 'mighty')], { input: `${passphrase}\n` });
  expect(refused).toMatchObject({ code: 3 });
  expect(refused.stderr).toMatch(/mighty cannot be taken along: its process .+ has capabilities/);
  expect(existsSync(join(key, 'mighty'))).toBe(false);
  expect((await home.json<Workload[]>('ps')).find(({ name }) => name === 'mighty')).toMatchObject({
    state: 'suspended',
  });
  await home.json('forget', 'mighty');
});

describe('a bundle that is one file', () => {
  it('has several workloads, and each passphrase opens it', async () => {
    const names = ['one', 'two'];
    for (const name of names)
      await torpor(home, 'run', '--name', name, '--user', alice.name, '--', 'xterm', '-e', 'sleep', '1000');
    const path = join(key, 'both.torpor');
    const written = await home.run(['export', '--json', '--passphrases', '2', ...names, path], {
      input: `${passphrase}\nanother passphrase\n`,
    });
    expect(written, written.stderr).toMatchObject({ code: 0 });
    const imported = await away.run(['import', '--json', '--user', bob.name, path], {
      input: 'another passphrase\n',
    });
    expect(imported, imported.stderr).toMatchObject({ code: 0 });
    const { workloads } = JSON.parse(imported.stdout) as ImportResult;
    expect(workloads.map(({ name, state }) => [name, state])).toEqual(
      names.map((name) => [name, 'suspended']),
    );
    await torpor(away, 'resume', ...workloads.map(({ id }) => id));
    for (const { id } of workloads) await torpor(away, 'end', id);
  });

  it('is not opened by another passphrase, and nothing is left of the try', async () => {
    const path = join(key, 'both.torpor');
    const refused = await away.run(['import', '--json', path], { input: 'something else\n' });
    expect(refused).toMatchObject({ code: 5 });
    expect(refused.stdout).toContain('not a passphrase of the bundle');
    expect(await readdir(join(away.paths.stateDir, 'staging'))).toEqual([]);
  });

  it('is refused where it was changed', async () => {
    const path = join(key, 'changed.torpor');
    const bytes = await readFile(join(key, 'both.torpor'));
    bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] ?? 0) ^ 1;
    await writeFile(path, bytes);
    const before = await away.snapshots();
    const refused = await away.run(['import', '--json', path], { input: `${passphrase}\n` });
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stdout).toContain('damaged');
    expect(await away.snapshots()).toEqual(before);
    expect(await readdir(join(away.paths.stateDir, 'staging'))).toEqual([]);
  });
});

describe('moving to another machine over ssh', () => {
  it('goes on there, and is given up here only then', async () => {
    await using server = await SshServer.start(bob.name);
    const env = ['--env', `HOME=${alice.home}`];
    const words = ['--', 'xterm', '-e', 'sh', '-c', counter];
    const { id } = await torpor<Workload>(
      home,
      'run',
      '--name',
      'mover',
      '--user',
      alice.name,
      ...env,
      ...words,
    );
    const there = `TORPOR_STATE_DIR=${away.paths.stateDir} ${torporProgram}`;
    const options = [...server.options, '--remote-torpor'];
    const nowhere = await home.run(['export', '--json', ...options, 'false', 'mover', server.address]);
    expect(nowhere).toMatchObject({ code: 1 });
    expect((await home.workload(id)).state).toBe('running');

    const moved = await torpor<{ workloads: Workload[]; stoodStillMs: number; rounds: number }>(
      home,
      ...(['export', ...options, there, 'mover', server.address] as [string, ...string[]]),
    );
    expect(moved.workloads).toMatchObject([{ name: 'mover', state: 'running', user: bob.name }]);
    expect(moved.rounds).toBeGreaterThan(0);
    expect(moved.stoodStillMs).toBeGreaterThan(0);
    const left = await home.json<Workload[]>('ps');
    expect(left.map((each) => each.id)).not.toContain(id);
    const count = async () => {
      const outcome = await away.run(['exec', 'mover', '--', 'cat', join(alice.home, 'count')]);
      expect(outcome, outcome.stderr).toMatchObject({ code: 0 });
      return Number(outcome.stdout);
    };
    // The file is none that it has open, and so is there with its next round only.
    const first = await vi.waitFor(count, waiting);
    await vi.waitFor(async () => expect(await count()).toBeGreaterThan(first), waiting);
    await torpor(away, 'end', 'mover');
  });
});
