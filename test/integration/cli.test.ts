/** The command line as users and scripts meet it: what it prints, what it refuses, and for whom. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { enginePaths } from '../../api/paths.ts';
import type { DoctorCheck, Snapshot, Workload } from '../../api/types.ts';
import { type JsonError, TestEngine } from '../support/engine.ts';

const execute = promisify(execFile);
/** games, which every Debian has. */
const otherUser = 5;

let engine: TestEngine;
let folder: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-cli-');
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function expectRefusal(code: number, args: string[], words: RegExp, options = {}): Promise<void> {
  const outcome = await engine.run(args, options);
  expect(outcome, args.join(' ')).toMatchObject({ code });
  expect(outcome.stdout).toBe('');
  expect(outcome.stderr).toMatch(words);
  expect(outcome.stderr).not.toMatch(/\n\s+at |Error:/);
  // A sentence, and the next step below it.
  expect(outcome.stderr.trim().split('\n').length).toBeGreaterThan(1);
}

describe('what is wrong is said in a sentence', () => {
  it.each<[number, string[], RegExp]>([
    [2, ['nonsense'], /no command "nonsense"/],
    [2, ['run'], /command to run is missing/],
    [2, ['suspend'], /Which workload/],
    [2, ['suspend', '--all', 'x'], /--all takes no names/],
    [2, ['suspend', '--nonsense', 'x'], /--nonsense/],
    [2, ['resume'], /is missing/],
    [2, ['resume', '--copy', 'a', 'b'], /--copy takes one name/],
    [4, ['resume', 'a', 'b'], /no workload a/],
    [2, ['run', '--env', 'novalue', '--', 'true'], /not of the form K=V/],
    [2, ['run', '--user', 'no-such-user', '--', 'true'], /no user no-such-user/],
    [2, ['run', '--name', '', '--', 'true'], /between 1 and 200/],
    [2, ['run', '--geometry', '800', '--', 'true'], /size "800"/],
    [2, ['run', '--geometry', '20000x20000', '--', 'true'], /size "20000x20000"/],
    [2, ['run', '--application', '../evil', '--', 'true'], /no id of a desktop entry/],
    [2, ['run', '--root', '/no/such/root', '--', 'true'], /\/no\/such\/root/],
    [4, ['suspend', 'nobody'], /no workload nobody/],
    [4, ['suspend', '4194304'], /no process 4194304/],
    [4, ['resume', 'nobody'], /no workload nobody/],
    [4, ['rm', 'nothing'], /no snapshot nothing/],
    [4, ['rm', '--force', 'nothing'], /no snapshot nothing/],
    [4, ['keep', 'nothing'], /no snapshot nothing/],
    [2, ['keep'], /SNAPSHOT is missing/],
    [4, ['windows', 'nobody'], /no workload nobody/],
    [2, ['windows', 'nobody', '--activate', 'x'], /"x" is no window/],
    [4, ['exec', 'nobody', '--', 'true'], /no workload nobody/],
    [4, ['screenshot', 'nobody', '/tmp/x.png'], /no workload nobody/],
    [1, ['run', '--', 'true'], /true ended at once, with status 0/],
    [1, ['run', '--', 'sh', '-c', 'echo the reason; exit 3'], /status 3.+the reason/],
    [1, ['run', '--', '/no/such/program'], /no command \/no\/such\/program/],
    [1, ['run', '--', '/etc/passwd'], /cannot be executed/],
    // A folder of PATH that the user may not enter says nothing of the command.
    [
      1,
      ['run', '--user', 'games', '--env', 'PATH=/root:/usr/bin', '--', 'none-such'],
      /no command none-such/,
    ],
  ])('%i for %j', async (code, args, words) => {
    await expectRefusal(code, args, words);
    expect(await engine.json<Workload[]>('ps')).toEqual([]);
  });

  it('prints one JSON document for errors too', async () => {
    const outcome = await engine.run(['suspend', 'nobody', '--json']);
    const { error } = JSON.parse(outcome.stdout) as JsonError;
    expect(error).toMatchObject({
      code: 'not-found',
      message: expect.stringContaining('nobody'),
      hint: expect.stringMatching(/./),
    });
  });

  it('names a state folder that cannot be written', async () => {
    const file = join(folder, 'a file');
    await writeFile(file, '');
    await expectRefusal(1, ['ps'], /state folder .*a file.* cannot be written/, {
      env: { TORPOR_STATE_DIR: file },
    });
  });

  it('goes on in silence where nobody reads what it says', async () => {
    const program = new URL('../../bin/torpor', import.meta.url).pathname;
    const env = { ...process.env, ...engine.env };
    const { stderr } = await execute('bash', ['-c', `"${program}" ps | true; "${program}" ps >/dev/full`], {
      env,
    });
    expect(stderr).toBe('');
  });

  it('takes a state folder by a name that counts from where it is called', async () => {
    const env = { TORPOR_STATE_DIR: 'relative' };
    expect(await engine.run(['ps', '--json'], { cwd: folder, env })).toMatchObject({
      code: 0,
      stdout: '[]\n',
    });
    expect(existsSync(join(folder, 'relative', 'key'))).toBe(true);
    const { pid } = JSON.parse(await readFile(enginePaths(join(folder, 'relative')).addressFile, 'utf8')) as {
      pid: number;
    };
    process.kill(pid);
  });

  it('makes no new key where there are snapshots that only the old one fits', async () => {
    await using other = await TestEngine.create();
    const { id } = await other.start(['xterm']);
    await other.json('suspend', id);
    await other.kill('SIGTERM');
    const key = join(other.paths.stateDir, 'key');
    await rename(key, `${key}.away`);
    const outcome = await other.run(['ps']);
    expect(outcome).toMatchObject({ code: 1 });
    expect(outcome.stderr).toMatch(/key of the snapshot store, .+, is missing[\s\S]+backup/);
    await rename(`${key}.away`, key);
    await other.json('resume', id);
    await other.json('end', id);
  });

  it('says that CRIU is missing, and leaves the application running', async () => {
    await using without = await TestEngine.create({ env: { TORPOR_CRIU: '/no/such/criu' } });
    const checks = JSON.parse((await without.run(['doctor', '--json'])).stdout) as DoctorCheck[];
    expect(checks.find((check) => check.name === 'criu')).toMatchObject({
      status: 'missing',
      fix: expect.stringMatching(/./),
    });
    const workload = await without.start(['xterm']);
    const error = await without.failure(1, 'suspend', workload.id);
    expect(error.message).toMatch(/criu.*runs on as before/i);
    expect(await without.workload(workload.id)).toMatchObject({ state: 'running' });
  });
});

describe('a workload', () => {
  it('is meant by its id, whatever others are called', async () => {
    const first = await engine.start(['xterm']);
    const namesake = await engine.start(['xterm'], '--name', first.id);
    const taken = await engine.json<Snapshot>('suspend', '--leave-running', first.id);
    expect(taken).toMatchObject({ workload: first.id });
    await engine.json('rm', taken.id);
    expect(await engine.json<Workload>('end', first.id)).toMatchObject({ id: first.id });

    // What root calls theirs does not come between another user and a prefix of their own id.
    const theirs = await engine.start(['sleep', '1000'], '--user', 'games');
    const prefix = theirs.id.slice(0, 5);
    const between = await engine.start(['sleep', '1000'], '--name', prefix);
    const ended = await engine.run(['end', '--json', prefix], { uid: otherUser });
    expect(JSON.parse(ended.stdout)).toMatchObject({ id: theirs.id, state: 'ended' });
    await engine.json('end', between.id);
    await engine.json('end', namesake.id);
  });

  it('has the fields that scripts rely on, whatever its name', async () => {
    const name = 'a "strange"\nname, für immer';
    const started = await engine.start(['xterm'], '--name', name);
    expect(Object.keys(started)).toEqual(
      expect.arrayContaining(['id', 'name', 'kind', 'state', 'user', 'pids', 'memoryBytes', 'snapshot']),
    );
    expect(started).toMatchObject({ name, kind: 'capsule', state: 'running', user: 'root', snapshot: null });
    const taken = await engine.json<Snapshot>('suspend', name);
    expect(taken).toMatchObject({ workload: started.id, name });
    for (const field of ['bytesOnDisk', 'memoryBytes', 'standstillMs', 'durableMs'] as const)
      expect(taken[field]).toBeGreaterThan(0);
    expect(Date.parse(taken.takenAt)).toBeGreaterThan(0);
    expect(await engine.snapshots()).toHaveLength(1);

    const both = await Promise.all(
      [0, 1].map(() => engine.run(['resume', '--json', started.id.slice(0, 6)])),
    );
    expect(both.map((outcome) => outcome.code).sort()).toEqual([0, 1]);
    const copy = await engine.json<Workload>('resume', '--copy', taken.id);
    expect(copy.id).not.toBe(started.id);
    const running = (await engine.json<Workload[]>('ps')).filter((workload) => workload.state === 'running');
    expect(new Set(running.flatMap((workload) => workload.pids)).size).toBe(
      running.flatMap((each) => each.pids).length,
    );
    expect(running).toHaveLength(2);
    for (const { id } of running) await engine.json('end', id);
    await engine.json('rm', taken.id);
    expect(await engine.snapshots()).toEqual([]);
  });

  it('keeps the size of its screen and the desktop entry it came from', async () => {
    const application = 'org.example.Terminal.desktop';
    const { id } = await engine.start(['xterm'], '--geometry', '500x400', '--application', application);
    const file = join(folder, 'shot.png');
    const expectBoth = async () => {
      expect(await engine.json('screenshot', id, file)).toMatchObject({ width: 500, height: 400 });
      expect(await engine.workload(id)).toMatchObject({ application });
    };
    await expectBoth();
    const taken = await engine.json<Snapshot>('suspend', id);
    expect(taken).toMatchObject({ application, kept: false });
    await expectBoth();
    await engine.json('resume', id);
    await expectBoth();
    const { id: copy } = await engine.json<Workload>('resume', '--copy', taken.id);
    expect(await engine.workload(copy)).toMatchObject({ application });
    const { id: other } = await engine.start(['xterm']);
    expect(await engine.workload(other)).toMatchObject({ application: null });
    for (const each of [id, copy, other]) await engine.json('end', each);
    await engine.json('rm', taken.id);
  });

  it('is not touched where its shell has /dev/tty open, which CRIU cannot save', async () => {
    const { id } = await engine.start(['xterm', '-e', 'dash']);
    const blocks = async () => expect((await engine.run(['inspect', id])).code).toBe(3);
    await vi.waitFor(blocks, { timeout: 10_000, interval: 50 });
    const error = await engine.failure(3, 'suspend', id);
    expect(error.message).toMatch(/dash \(pid \d+\) has its terminal open by the name \/dev\/tty/);
    expect(error.hint).toContain('dash');
    expect(await engine.workload(id)).toMatchObject({ state: 'running' });
    await engine.json('end', id);
  });

  it('reports how its application ended', async () => {
    const { id } = await engine.start(['sh', '-c', 'sleep 2; exit 7']);
    for (let round = 0; (await engine.workload(id)).state !== 'ended' && round < 100; round++)
      await sleep(100);
    expect(await engine.workload(id)).toMatchObject({ state: 'ended', exit: { code: 7 }, pids: [] });
  });

  it('runs commands inside, with input, output and status', async () => {
    const { id } = await engine.start(
      ['xterm'],
      '--user',
      'games',
      '--env',
      'SHELL=/bin/sh',
      '--env',
      'HOME=/tmp',
    );
    const echoed = await engine.run(['exec', id, '--', 'cat'], { input: 'über\n' });
    expect(echoed).toMatchObject({ code: 0, stdout: 'über\n' });
    const outcome = await engine.run([
      'exec',
      id,
      '--',
      'sh',
      '-c',
      'id -un; echo $DISPLAY; echo no >&2; exit 42',
    ]);
    expect(outcome).toMatchObject({
      code: 42,
      stdout: expect.stringMatching(/^games\n:\d{4,5}\n$/),
      stderr: 'no\n',
    });
    await engine.json('end', id);
  });

  it('is its owner’s alone', async () => {
    const mine = await engine.start(['xterm']);
    const as = { uid: otherUser };
    expect((await engine.run(['ps', '--json'], as)).stdout).not.toContain(mine.id);
    for (const args of [
      ['suspend', mine.id],
      ['resume', mine.id],
      ['end', mine.id],
      ['exec', mine.id, '--', 'id'],
      ['screenshot', mine.id, '/tmp/x.png'],
    ]) {
      await expectRefusal(5, args, /another user/, as);
    }
    await expectRefusal(
      5,
      ['run', '--user', 'root', '--', 'xterm'],
      /may not start applications as root/,
      as,
    );
    await expectRefusal(5, ['run', '--root', folder, '--', 'xterm'], /Only root/, as);
    const { id } = await engine.json<Snapshot>('suspend', mine.id);
    await expectRefusal(5, ['rm', id], /another user/, as);
    await expectRefusal(5, ['resume', id], /another user/, as);
    expect((await engine.run(['snapshots', '--json'], as)).stdout.trim()).toBe('[]');
    expect(await engine.workload(mine.id)).toMatchObject({ state: 'suspended' });

    const outcome = await engine.run(['run', '--json', '--env', 'SHELL=/bin/bash', '--', 'xterm'], as);
    const theirs = JSON.parse(outcome.stdout) as Workload;
    expect(theirs.user).toBe('games');
    const suspended = await engine.run(['suspend', theirs.id], as);
    expect(suspended).toMatchObject({ code: 0 });
    expect(await engine.run(['resume', theirs.id], as)).toMatchObject({ code: 0 });
    expect(await engine.run(['end', theirs.id], as)).toMatchObject({ code: 0 });
  });
});

it('documents every command, from the same definitions', async () => {
  const overview = (await engine.run(['--help'])).stdout;
  const names = [...overview.matchAll(/^ {2}(\w+) {2,}/gm)].map((match) => match[1] ?? '');
  expect(names).toEqual(
    expect.arrayContaining([
      'run',
      'ps',
      'inspect',
      'suspend',
      'resume',
      'exec',
      'screenshot',
      'snapshots',
      'keep',
      'rm',
      'windows',
      'verify',
      'doctor',
      'demo',
    ]),
  );
  const man = (await engine.run(['man'])).stdout;
  for (const name of names) {
    const help = await engine.run([name, '--help']);
    expect(help).toMatchObject({ code: 0 });
    expect(help.stdout).toMatch(/Usage: torpor .+Examples:/s);
    expect(man).toContain(`torpor ${name}`);
  }
  const completion = join(folder, 'completion');
  await writeFile(completion, (await engine.run(['completion'])).stdout);
  await execute('bash', ['-n', completion]);
});
