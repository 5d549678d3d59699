/** What a user does with jobs and their snapshots beside suspending and resuming: copies, marks, removing, ending. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Finding, Snapshot, VerifyResult, Workload } from '../../api/types.ts';
import { Counter, expectTidy, removeSnapshots } from '../fault/scene.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { TestTerminal } from '../support/terminal.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);
const torpor = new URL('../../bin/torpor', import.meta.url).pathname;
type Resumed = Workload & { findings: Finding[] };

let engine: TestEngine;

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterEach(() => removeSnapshots(engine));
afterAll(() => engine[Symbol.asyncDispose]());

const attach = (id: string) => TestTerminal.start([torpor, 'attach', id], { env: engine.env });

async function leaveRunning(job: Counter): Promise<Snapshot> {
  const snapshot = await engine.json<Snapshot>('suspend', '--leave-running', job.target);
  job.adopted(snapshot.workload);
  return snapshot;
}

const living = async () =>
  (await engine.json<Workload[]>('ps')).filter(({ state }) => state !== 'ended').map(({ id }) => id);

describe.runIf(canCheckpoint)('copies of a job', () => {
  it('run beside it and beside each other, each with pids and a terminal of its own, and are suspended too', async () => {
    await using job = await Counter.startJob(engine);
    const { id, workload } = await leaveRunning(job);
    await job.expectCounting();
    const copies = [];
    for (let number = 0; number < 2; number++)
      copies.push(await engine.json<Resumed>('resume', '--copy', id));
    expect(new Set(copies.map((copy) => copy.id)).size).toBe(2);
    expect(new Set(copies.map(({ name }) => name))).toEqual(new Set(['perl-2', 'perl-3']));
    for (const { pids } of copies) {
      expect(pids).not.toContain(job.pid);
      const inside = await readFile(`/proc/${pids[0]}/status`, 'utf8');
      expect(inside).toMatch(new RegExp(`^NSpid:\\s.*\\b${job.pid}$`, 'm'));
    }
    for (const copy of copies) {
      await using viewer = await attach(copy.id);
      viewer.type('\x1d');
      expect(await viewer.ended()).toBe(0);
    }
    const [first, second] = copies.map((copy) => copy.id);
    await engine.json('suspend', first ?? '', second ?? '');
    await engine.json('resume', second ?? '', first ?? '');
    expect((await living()).sort()).toEqual([workload, first, second].sort());
    await engine.json('end', first ?? '');
    await engine.json('end', second ?? '');
    expect(await living()).toEqual([workload]);
    await expectTidy(engine);
  });

  it('are not in each other’s way where all are resumed in one call, on numbers that are free', async () => {
    await using job = await Counter.startJob(engine);
    const { id } = await leaveRunning(job);
    const copy = await engine.json<Resumed>('resume', '--copy', id);
    await engine.json('suspend', job.id, copy.id);
    const resumed = await engine.json<Resumed[]>('resume', job.id, copy.id);
    const hostPids = resumed.map(({ pids }) => pids.includes(job.pid));
    expect(hostPids.sort()).toEqual([false, true]);
    await engine.json('end', copy.id);
    await engine.json('end', job.id);
    await expectTidy(engine);
  });
});

describe.runIf(canCheckpoint)('snapshots of a job', () => {
  it('are listed, verified, kept and removed as those of a capsule are', async () => {
    await using job = await Counter.startJob(engine);
    const first = await leaveRunning(job);
    const second = await engine.json<Snapshot>('suspend', job.id);
    expect(second.workload).toBe(first.workload);
    const listed = await engine.json<Snapshot[]>('snapshots', job.id);
    expect(listed.map(({ id }) => id)).toEqual([second.id, first.id]);
    expect(listed[0]).toMatchObject({ name: 'perl', user: 'root', kept: false, workload: job.id });
    expect(listed[0]?.command[0]).toBe('perl');
    expect(listed[0]?.bytesOnDisk).toBeGreaterThan(0);
    const verified = await engine.json<VerifyResult[]>('verify', '--read-data');
    expect(verified.filter(({ snapshot }) => [first.id, second.id].includes(snapshot))).toEqual([
      expect.objectContaining({ ok: true }),
      expect.objectContaining({ ok: true }),
    ]);
    await engine.json('keep', first.id);
    await engine.failure(3, 'rm', first.id);
    await engine.failure(3, 'forget', job.id);
    await engine.json('keep', '--no', first.id);
    await engine.json('rm', first.id);
    await engine.json('resume', job.id);
    await job.expectCounting();
    await engine.json('rm', second.id);
    expect(await engine.json<Snapshot[]>('snapshots', job.id)).toEqual([]);
    // It has a terminal of Torpor's, so it is still there.
    expect(await engine.workload(job.id)).toMatchObject({ state: 'running' });
    await job.expectCounting();
    await engine.json('suspend', job.id);
    await engine.json('forget', job.id);
    expect(await living()).toEqual([]);
    expect(await engine.snapshots()).toEqual([]);
    await expectTidy(engine);
  });

  it('that are all removed leave the job alone that runs where it was started', async () => {
    await using job = await Counter.startJob(engine);
    const { id } = await leaveRunning(job);
    await engine.json('rm', id);
    expect(await engine.json<Workload[]>('ps')).not.toContainEqual(expect.objectContaining({ id: job.id }));
    job.adopted(undefined);
    await job.expectCounting();
    await leaveRunning(job);
    await engine.json('forget', job.id);
    job.adopted(undefined);
    expect(await engine.snapshots()).toEqual([]);
    await job.expectCounting();
    await expectTidy(engine);
  });

  it('that is damaged is not resumed, and an earlier one is', async () => {
    await using job = await Counter.startJob(engine);
    const first = await leaveRunning(job);
    const second = await engine.json<Snapshot>('suspend', job.id);
    const hashes = join(engine.paths.stateDir, 'snapshots', second.id, 'pages', 'hashes');
    await run('sh', ['-c', `printf xxxx | dd of='${hashes}' bs=1 seek=64 conv=notrunc 2>/dev/null`]);
    const error = await engine.failure(1, 'resume', job.id);
    expect(error.message).toContain('could not be resumed');
    expect(await engine.workload(job.id)).toMatchObject({ state: 'suspended' });
    await expectCgroupsGone();
    await engine.json('rm', second.id);
    await engine.json('resume', first.id);
    expect(await engine.workload(job.id)).toMatchObject({ state: 'running' });
    await engine.json('end', job.id);
  });
});

async function expectCgroupsGone(): Promise<void> {
  const { stdout } = await run('sh', ['-c', `ls -d /sys/fs/cgroup/torpor-${engine.paths.tag}/* || true`]);
  expect(stdout).toBe('');
}

describe.runIf(canCheckpoint)('the end of a job', () => {
  it.each(['where it was started', 'in a room'])(
    '%s ends all of it, also what heeds no SIGTERM',
    async (where) => {
      const terminal = await TestTerminal.start(['bash', '--norc', '-i']);
      await terminal.until(/[$#] $/);
      terminal.type("(trap '' TERM; sleep 1001) & sleep 1002\n");
      await vi.waitFor(async () => expect(await sleepers(terminal.pid)).toHaveLength(2), { timeout: 10_000 });
      const before = await sleepers(terminal.pid);
      const leave = where === 'in a room' ? [] : ['--leave-running'];
      const { workload } = await engine.json<Snapshot>('suspend', ...leave, String(terminal.pid));
      if (where === 'in a room') await engine.json('resume', workload);
      const ended = await engine.json<Workload>('end', workload);
      expect(ended.state).toBe('ended');
      // What has ended is there until somebody has taken note of it.
      const gone = () => expect([...before, terminal.pid].filter(isThere)).toEqual([]);
      await vi.waitFor(gone, { timeout: 10_000 });
      await terminal.close();
      await engine.json('forget', workload);
      await expectTidy(engine);
    },
  );
});

async function sleepers(pid: number): Promise<number[]> {
  const { stdout } = await run('sh', [
    '-c',
    `ps -e -o pid=,sid=,args= | awk '$2 == ${pid} && /sleep 100[12]/ {print $1}'`,
  ]);
  return stdout.split('\n').filter(Boolean).map(Number);
}
