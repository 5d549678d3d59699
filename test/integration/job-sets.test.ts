/** Jobs in sets: suspended at one instant with others, all or none, and connected again to what they were connected to. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Finding, Workload } from '../../api/types.ts';
import { Counter, expectTidy, removeSnapshots } from '../fault/scene.ts';
import { killIfThere, TestEngine } from '../support/engine.ts';
import { EchoServer, SocketClient, type SocketKind } from '../support/sockets.ts';
import { clientOf } from '../support/subscriber.ts';
import { canCheckpoint } from './criu-fixture.ts';

interface Suspended {
  workload: string;
  id: string;
  name: string;
  state: string;
  findings: Finding[];
}
type Resumed = Workload & { findings: Finding[] };

let engine: TestEngine;
let folder: string;
let count = 0;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-job-set-');
});
afterEach(() => removeSnapshots(engine));
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const address = () => join(folder, `socket ${++count}`);
const suspendAll = (...targets: string[]) => engine.json<Suspended[]>('suspend', ...targets);
const resumeAll = (...targets: string[]) => engine.json<Resumed[]>('resume', ...targets);
const living = async () => (await engine.json<Workload[]>('ps')).filter(({ state }) => state !== 'ended');
const degraded = (results: readonly { findings: Finding[] }[]) =>
  results.flatMap(({ findings }) => findings.filter(({ verdict }) => verdict !== 'handled'));

describe.runIf(canCheckpoint)('jobs and capsules', () => {
  it('are suspended as one session by pid and by name, and by --all, and resumed by one call', async () => {
    await using job = await Counter.startJob(engine);
    await using other = await Counter.startJob(engine);
    await using capsule = await Counter.start(engine, '--name', 'capsule');
    const first = await suspendAll(job.target, 'capsule', other.target);
    expect(first.map(({ state }) => state)).toEqual(['suspended', 'suspended', 'suspended']);
    expect(first[1]?.name).toBe('capsule');
    job.adopted(first[0]?.workload);
    other.adopted(first[2]?.workload);
    const stood = [await job.count(), await capsule.count(), await other.count()];
    await resumeAll(other.target, job.target, 'capsule');
    for (const each of [job, capsule, other]) await each.expectCounting();
    const second = await suspendAll('--all');
    expect(second.map(({ workload }) => workload).sort()).toEqual([job.id, capsule.id, other.id].sort());
    const standing = [await job.count(), await capsule.count(), await other.count()];
    for (const [index, number] of standing.entries()) expect(number).toBeGreaterThan(stood[index] ?? 0);
    await resumeAll(job.id, 'capsule', other.id);
    for (const each of [job, capsule, other]) await each.expectCounting();
    await expectTidy(engine);
  });

  it('run on as before where one of them cannot be suspended, and the jobs are nobody’s', async () => {
    const path = address();
    await using _server = await EchoServer.start('stream', path);
    await using tied = await SocketClient.startJob(engine, ['connect', 'stream', path]);
    await using job = await Counter.startJob(engine);
    await using capsule = await Counter.start(engine, '--name', 'capsule');
    const cgroup = await readFile(`/proc/${job.target}/cgroup`, 'utf8');
    for (const targets of [
      [job.target, 'capsule', tied.id],
      [tied.id, job.target, 'capsule'],
    ]) {
      const error = await engine.failure(3, 'suspend', ...targets);
      expect(error.message).toMatch(/python3|socket_client/);
      expect((await living()).map(({ id }) => id)).toEqual([capsule.id]);
    }
    await engine.failure(4, 'suspend', job.target, 'nobody');
    expect((await living()).map(({ id }) => id)).toEqual([capsule.id]);
    expect(await readFile(`/proc/${job.target}/cgroup`, 'utf8')).toBe(cgroup);
    expect(await tied.do('send here')).toBe('sent');
    expect(await tied.do('recv')).toBe('0:here');
    for (const each of [job, capsule]) await each.expectCounting();
    expect(await engine.snapshots()).toEqual([]);
    await expectTidy(engine);
  });

  it('are refused where one belongs to the other', async () => {
    await using job = await Counter.startJob(engine);
    const shell = await parentOf(Number(job.target));
    for (const targets of [
      [job.target, String(shell)],
      [String(shell), job.target],
    ]) {
      const error = await engine.failure(3, 'suspend', ...targets);
      expect(error.message).toContain(
        `belongs to process ${job.target} and to process ${shell}, which it runs below.`,
      );
      expect(error.hint).toContain(`Leave process ${job.target} out`);
    }
    await job.expectCounting();
    expect(await living()).toEqual([]);
  });

  it('are adopted once, however often they are named', async () => {
    await using job = await Counter.startJob(engine);
    expect(await living()).toEqual([]);
    await using client = await clientOf(engine);
    const outcomes: Promise<string>[] = [];
    let done = false;
    const ask = (target: string) =>
      outcomes.push(
        client.suspend(target, { leaveRunning: false }).then(
          () => 'suspended',
          (error: Error) => error.message,
        ),
      );
    ask(job.target);
    void outcomes[0]?.then(() => {
      done = true;
    });
    // At any moment of the adoption somebody else may ask for the same: by its number or by the name it gets.
    for (let count = 0; !done; count++) {
      ask(count % 2 === 0 ? job.target : 'perl');
      await sleep(2);
    }
    const [first, ...others] = await Promise.all(outcomes);
    expect(first).toBe('suspended');
    const refusals = /is just being suspended|is suspended|has ended|There is no (process|workload) /;
    expect(others.filter((each) => !refusals.test(each))).toEqual([]);
    const all = await living();
    expect(all.map(({ state }) => state)).toEqual(['suspended']);
    job.adopted(all[0]?.id);
    await engine.json('resume', job.id);
    await job.expectCounting();
  });
});

async function parentOf(pid: number): Promise<number> {
  const line = await readFile(`/proc/${pid}/stat`, 'latin1');
  return Number(line.slice(line.lastIndexOf(')') + 2).split(' ')[1]);
}

describe.runIf(canCheckpoint)('sockets between jobs', () => {
  it.each<[SocketKind, 'job' | 'capsule']>([
    ['stream', 'job'],
    ['datagram', 'job'],
    ['stream', 'capsule'],
  ])('of type %s, one end in a %s, are connected again with what was under way', async (kind, where) => {
    const path = address();
    await using server = await SocketClient.startJob(engine, ['listen', kind, path]);
    await using client =
      where === 'job'
        ? await SocketClient.startJob(engine, ['connect', kind, path])
        : await SocketClient.start(engine, ['connect', kind, path], { name: 'client' });
    await server.ready();
    expect(await client.do('send one')).toBe('sent');
    expect(await server.do('recv')).toBe('one');
    expect(await client.do('send to the server')).toBe('sent');
    expect(await server.do('send to the client')).toBe('sent');
    for (let round = 0; round < (where === 'job' ? 2 : 1); round++) {
      const [first, second] = await suspendAll(server.id, client.id);
      server.id = first?.workload ?? '';
      client.id = second?.workload ?? '';
      expect(degraded(await resumeAll(client.id, server.id))).toEqual([]);
      expect(await client.do('recv')).toBe('to the client');
      expect(await server.do('recv')).toBe('to the server');
      // What was under way does not say any more who sent it.
      expect(await client.do('send more')).toBe('sent');
      expect(await server.do('recv')).toBe('more');
      expect(await client.do('send to the server')).toBe('sent');
      expect(await server.do('send to the client')).toBe('sent');
    }
    // Not twice.
    expect(await client.do('recv')).toBe('to the client');
    expect(await client.do('recv')).toBe('nothing');
    if (kind === 'datagram' || where === 'job') return;
    const alone = await suspendAll(server.id, client.id);
    expect(alone).toHaveLength(2);
    const resumed = await engine.json<Resumed>('resume', client.id);
    const findings = resumed.findings.filter(({ tie }) => tie !== 'clock');
    expect(findings.map(({ tie }) => tie)).toEqual(['unix-socket', 'session']);
    expect(await client.do('recv')).toBe('EOF');
  });
});

/** A writer and a reader that are tied to each other, each a process tree of its own. */
class Pair implements AsyncDisposable {
  readonly folder: string;
  readonly pids: [string, string];
  readonly parent: number;

  private constructor(folder: string, parent: number, pids: [string, string]) {
    this.folder = folder;
    this.parent = parent;
    this.pids = pids;
  }

  static async start(kind: string): Promise<Pair> {
    const own = await mkdtemp(join(folder, 'pair-'));
    const program = new URL('../fixtures/pipe_pair.py', import.meta.url).pathname;
    const child = spawn('python3', [program, kind, own, join(own, 'fifo')], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
      cwd: '/',
    });
    const [said] = (await once(child.stdout, 'data')) as [Buffer];
    const [, writer, reader] = /^(\d+) (\d+)\n$/.exec(said.toString()) ?? [];
    if (writer === undefined || reader === undefined) throw new Error(`the pair said ${said}`);
    const pair = new Pair(own, child.pid ?? 0, [writer, reader]);
    await pair.goesOn();
    return pair;
  }

  async lines(name: 'sent' | 'read'): Promise<number[]> {
    const text = await readFile(join(this.folder, name), 'utf8').catch(() => '');
    return text.split('\n').filter(Boolean).map(Number);
  }

  async goesOn(): Promise<void> {
    const { length } = await this.lines('read');
    await vi.waitFor(async () => expect((await this.lines('read')).length).toBeGreaterThan(length + 10), {
      timeout: 20_000,
      interval: 50,
    });
  }

  /** All that was written has been read, once and in its order. */
  async expectWhole(): Promise<void> {
    await writeFile(join(this.folder, 'stop'), '');
    await vi.waitFor(async () => expect(await readdir(this.folder)).toContain('done'), {
      timeout: 30_000,
      interval: 50,
    });
    const sent = await this.lines('sent');
    expect(sent.length).toBeGreaterThan(20);
    expect(await this.lines('read')).toEqual(sent);
    expect(sent).toEqual(sent.map((_number, index) => index + 1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of [...this.pids.map(Number), this.parent]) killIfThere(pid);
  }
}

describe.runIf(canCheckpoint)('what two jobs pass to each other', () => {
  it.each(['pipe', 'socketpair', 'fifo'])('over a %s is neither lost nor doubled', async (kind) => {
    await using pair = await Pair.start(kind);
    const suspended = await suspendAll(...pair.pids);
    const [writer = '', reader = ''] = suspended.map(({ workload }) => workload);
    expect(degraded(suspended)).toEqual([]);
    const sent = await pair.lines('sent');
    const read = await pair.lines('read');
    expect(sent.length).toBeGreaterThan(read.length);
    await sleep(200);
    expect(await pair.lines('sent')).toEqual(sent);
    expect(degraded(await resumeAll(reader, writer))).toEqual([]);
    await pair.expectWhole();
    await engine.json('end', writer);
    await engine.json('end', reader);
  });

  it('is read to its end by one that is resumed alone, which is told so', async () => {
    await using pair = await Pair.start('pipe');
    const suspended = await suspendAll(...pair.pids);
    const sent = await pair.lines('sent');
    const [writer = '', reader = ''] = suspended.map(({ workload }) => workload);
    const resumed = await engine.json<Resumed>('resume', reader);
    const findings = resumed.findings.filter(({ tie }) => tie !== 'clock');
    expect(findings.map(({ tie, verdict }) => [tie, verdict])).toEqual([
      ['pipe', 'degraded'],
      ['session', 'handled'],
    ]);
    expect(findings[0]?.what).toContain(`It had a pipe to ${suspended[0]?.name}`);
    await vi.waitFor(async () => expect(await readdir(pair.folder)).toContain('done'), { timeout: 20_000 });
    const read = await pair.lines('read');
    // The writer may have been stopped before it could note its last line.
    expect(read).toEqual(read.map((_number, index) => index + 1));
    expect(read.length - sent.length).toBeOneOf([0, 1]);
    await engine.json('end', reader);
    await engine.json('forget', writer);
  });

  it.each(['pipe', 'fifo'])('over a %s keeps one from being suspended without the other', async (kind) => {
    await using pair = await Pair.start(kind);
    const error = await engine.failure(3, 'suspend', pair.pids[1]);
    expect(error.message).toContain(`to python3 (pid ${pair.pids[0]}), which is outside`);
    await pair.expectWhole();
    expect(await living()).toEqual([]);
  });
});

describe.runIf(canCheckpoint)('a socket of a job to a server outside', () => {
  it.each<[SocketKind, string, string[]]>([
    ['stream', 'if its user wants', ['--external-sockets', 'reconnect']],
    ['datagram', 'without being asked to', []],
  ])('of type %s is connected again, %s', async (kind, _when, choice) => {
    const path = address();
    let server = await EchoServer.start(kind, path);
    try {
      await using client = await SocketClient.startJob(engine, ['connect', kind, path]);
      for (let round = 0; round < 2; round++) {
        if (kind === 'stream') {
          const error = await engine.failure(3, 'suspend', client.id);
          expect(error.findings?.map(({ hint }) => hint).join()).toContain('--external-sockets reconnect');
          await engine.failure(3, 'suspend', client.id, '--external-sockets', 'block');
        }
        expect(await client.do('send still there')).toBe('sent');
        expect(await client.do('recv')).toMatch(/:still there$/);
        const { workload } = await engine.json<Suspended>('suspend', client.id, ...choice);
        client.id = workload;
        await server[Symbol.asyncDispose]();
        server = await EchoServer.start(kind, path);
        expect(degraded([await engine.json<Resumed>('resume', workload)])).toEqual([]);
        expect(await client.do('send anew')).toBe('sent');
        expect(await client.do('recv')).toMatch(/:anew$/);
      }
    } finally {
      await server[Symbol.asyncDispose]();
    }
  });

  it('is found closed, after what was still to be read, where its user wants that', async () => {
    const path = address();
    await using _server = await EchoServer.start('stream', path);
    await using client = await SocketClient.startJob(engine, ['connect', 'stream', path]);
    expect(await client.do('send last words')).toBe('sent');
    await sleep(100);
    const { workload } = await engine.json<Suspended>('suspend', client.id, '--external-sockets', 'hang-up');
    client.id = workload;
    await engine.json('resume', workload);
    expect(await client.do('recv')).toBe('0:last words');
    expect(await client.do('recv')).toBe('EOF');
    expect(await client.do('send more')).toBe('EPIPE');
  });

  it('is connected again from a pid namespace, too', async () => {
    const path = address();
    await using _server = await EchoServer.start('stream', path);
    await using client = await SocketClient.startJob(engine, ['connect', 'stream', path]);
    const choice = ['--external-sockets', 'reconnect'];
    const { id } = await engine.json<Suspended>('suspend', '--leave-running', client.id, ...choice);
    const copy = await engine.json<Resumed>('resume', '--copy', id);
    expect(degraded([copy])).toEqual([]);
    await engine.json('end', copy.id);
    expect(await client.do('send mine')).toBe('sent');
    expect(await client.do('recv')).toBe('0:mine');
  });
});
