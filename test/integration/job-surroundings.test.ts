/** Jobs whose users, mounts or sessions are not what they were, or not what the engine's are. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Finding, Inspection, Snapshot, Workload } from '../../api/types.ts';
import { expectTidy } from '../fault/scene.ts';
import { isThere, killIfThere, TestEngine } from '../support/engine.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);
type Resumed = Workload & { findings: Finding[] };

let engine: TestEngine;

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());

/** A process without a terminal, in a session of its own, started by this command. @returns its pid and an end of it. */
async function start(command: readonly string[]): Promise<{ pid: number } & AsyncDisposable> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'], detached: true, cwd: '/' });
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error(`${command.join(' ')} has ended`))),
  ]);
  const pid = child.pid ?? 0;
  return {
    pid,
    async [Symbol.asyncDispose]() {
      killIfThere(pid);
    },
  };
}

/** Says that it is there, lets go of what it said that by, and waits. */
const sleeper = [
  '/usr/bin/python3',
  '-c',
  'import os,time; os.closerange(3, 1024); os.write(1, b"here"); os.close(1); time.sleep(1000)',
];
const idsOf = async (pid: number) => {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const numbers = (name: string) =>
    (new RegExp(`^${name}:(.*)$`, 'm').exec(status)?.[1] ?? '').trim().split(/\s+/).map(Number);
  return { uid: numbers('Uid')[0], gid: numbers('Gid')[0], groups: numbers('Groups') };
};

const notable = ({ findings }: Resumed) => findings.filter(({ verdict }) => verdict !== 'handled');

describe.runIf(canCheckpoint)('a job of a user whom the machine does not know', () => {
  it('is suspended and resumed under the numbers that it has', async () => {
    const identity = ['--reuid', '54321', '--regid', '54322', '--groups', '54323'];
    await using job = await start(['setpriv', ...identity, ...sleeper]);
    const snapshot = await engine.json<Snapshot>('suspend', String(job.pid));
    expect(snapshot.user).toBe('54321');
    const resumed = await engine.json<Resumed>('resume', snapshot.workload);
    expect(notable(resumed)).toEqual([]);
    expect(await idsOf(resumed.pids[0] ?? 0)).toEqual({ uid: 54321, gid: 54322, groups: [54323] });
    await engine.json('end', snapshot.workload);
    await expectTidy(engine);
  });
});

describe.runIf(canCheckpoint)('a job whose user', () => {
  const name = `torpor-${process.pid}`;
  let uid = 0;

  beforeAll(async () => {
    await run('useradd', ['--no-create-home', '--groups', 'games', name]);
    uid = Number((await run('id', ['-u', name])).stdout);
  });
  afterAll(() => run('userdel', ['-f', name]).catch(() => {}));

  it('has lost a group, or no longer exists, is resumed by root only, who is told', async () => {
    await using job = await start([
      ...['setpriv', '--reuid', name, '--regid', name, '--init-groups'],
      ...sleeper,
    ]);
    const { workload } = await engine.json<Snapshot>('suspend', String(job.pid));
    expect(notable(await engine.json<Resumed>('resume', workload))).toEqual([]);
    await engine.json('suspend', workload);

    await run('gpasswd', ['--delete', name, 'games']);
    const refused = await engine.run(['resume', '--json', workload], { uid });
    expect(refused.code).toBe(5);
    const sentence = `acts with rights of a group in which ${name} no longer is: games.`;
    expect(refused.stdout).toContain(sentence);
    expect(refused.stdout).toContain('is as it was');
    expect(await engine.workload(workload)).toMatchObject({ state: 'suspended' });
    await expectTidy(engine);
    const resumed = await engine.json<Resumed>('resume', workload);
    expect(notable(resumed).map(({ verdict, what }) => [verdict, what])).toEqual([
      ['degraded', expect.stringContaining(sentence)],
    ]);
    await engine.json('suspend', workload);

    await run('userdel', ['-f', name]);
    const orphaned = await engine.json<Resumed>('resume', workload);
    expect(notable(orphaned).map(({ what }) => what)).toEqual([
      expect.stringContaining(`${name}, no longer exists on this machine.`),
    ]);
    expect((await idsOf(orphaned.pids[0] ?? 0)).uid).toBe(uid);
    await engine.json('end', workload);
    await expectTidy(engine);
  });
});

describe.runIf(canCheckpoint)('a job in another mount namespace', () => {
  it.each([
    ['all of it', ['unshare', '--mount', ...sleeper]],
    ['a part of it', ['sh', '-c', `unshare --mount ${sleeper.map((word) => `'${word}'`).join(' ')}; exit`]],
  ])('(%s) is refused before anything is touched', async (_what, command) => {
    await using job = await start(command);
    const { stdout } = await engine.run(['inspect', '--json', String(job.pid)]);
    const { findings } = JSON.parse(stdout) as Inspection;
    const blocking = findings.filter(({ tie, verdict }) => tie === 'namespace' && verdict === 'blocking');
    expect(blocking.map(({ what }) => what)).toEqual([expect.stringContaining('sees other file systems')]);
    const error = await engine.failure(3, 'suspend', String(job.pid));
    expect(error.message).toContain('Nothing was touched');
    expect(isThere(job.pid)).toBe(true);
    await run('sh', ['-c', `pkill -KILL -P ${job.pid} || true`]);
  });
});

describe.runIf(canCheckpoint)('a job whose session is led from outside its container', () => {
  it('is refused before anything is touched, and its user told how to start it', async () => {
    // Its engine ends with the container, and its number, which means another process outside, is not to be seen there.
    const script = `
      mkdir -p /run/torpor && mount -t tmpfs torpor /run/torpor
      sleep 1000 <&- >/dev/null 2>&1 &
      "$0" suspend --json $!
      echo "code $?"
      kill -0 $! && echo "is there"`;
    await using inside = await TestEngine.create({
      prefix: ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', 'sh', '-c', script],
    });
    const { stdout } = await inside.run([]);
    expect(stdout).toContain('belongs to a session that a process that cannot be seen leads');
    expect(stdout).toContain('by setsid');
    expect(stdout).toContain('Nothing was touched.');
    expect(stdout).toContain('code 3\nis there\n');
  });
});
