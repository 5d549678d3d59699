/** Several workloads suspended at one instant: all or none, and the unix sockets between them are connected again. */
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Finding, Workload } from '../../api/types.ts';
import { Counter, expectTidy, removeSnapshots } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { EchoServer, SocketClient, type SocketKind } from '../support/sockets.ts';
import { canCheckpoint } from './criu-fixture.ts';

interface Suspended {
  workload: string;
  id: string;
  state: string;
  findings: Finding[];
}
type Resumed = Workload & { findings: Finding[] };

let engine: TestEngine;
let folder: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-set-');
  await chmod(folder, 0o755);
});
afterEach(() => removeSnapshots(engine));
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const sessions = () => readdir(join(engine.paths.stateDir, 'sessions'));

describe.runIf(canCheckpoint)('a set', () => {
  it('is suspended as one session, and resumed by one call', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    await using three = await Counter.start(engine, '--name', 'three');
    const suspended = await engine.json<Suspended[]>('suspend', 'one', 'two', 'three');
    expect(suspended.map(({ state }) => state)).toEqual(['suspended', 'suspended', 'suspended']);
    expect(await sessions()).toHaveLength(1);
    const resumed = await engine.json<Resumed[]>('resume', 'one', 'two', 'three');
    expect(resumed.map(({ name, state }) => [name, state])).toEqual([
      ['one', 'running'],
      ['two', 'running'],
      ['three', 'running'],
    ]);
    expect(resumed.flatMap(({ findings }) => findings.filter(({ tie }) => tie === 'session'))).toEqual([]);
    for (const counter of [one, two, three]) await counter.expectCounting();
    await expectTidy(engine);
  });

  it('may be more than operations run at once otherwise, and says alone which others belong to it', async () => {
    const counters: Counter[] = [];
    try {
      for (let number = 0; number < 6; number++)
        counters.push(await Counter.start(engine, '--name', `many-${number}`));
      await engine.json('suspend', '--all');
      const [first] = counters;
      const { findings } = await engine.json<Resumed>('resume', first?.name ?? '');
      const finding = findings.find(({ tie }) => tie === 'session');
      expect(finding?.what).toContain('many-1, many-2, many-3, many-4, many-5');
      const names = counters.slice(1).map(({ name }) => name);
      await engine.json('resume', ...names);
      for (const counter of counters) await counter.expectCounting();
    } finally {
      for (const counter of counters) await counter[Symbol.asyncDispose]();
    }
  });

  it('runs on where one of it is blocked, and leaves nothing', async () => {
    const path = join(folder, 'outside');
    await using _server = await EchoServer.start('stream', path);
    await using tied = await SocketClient.start(engine, ['connect', 'stream', path], { name: 'tied' });
    await using free = await Counter.start(engine, '--name', 'free');
    const before = await sessions();
    const error = await engine.failure(3, 'suspend', 'free', 'tied');
    expect(error.message).toContain('tied cannot be suspended');
    expect(error.message).toContain('So free was not suspended either and runs on.');
    await free.expectCounting();
    expect(await tied.do('send still here')).toBe('sent');
    expect(await tied.do('recv')).toBe('0:still here');
    expect(await sessions()).toEqual(before);
    expect(await engine.snapshots()).toEqual([]);
    await expectTidy(engine);
  });

  it('stays suspended where one of it cannot be resumed', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    const suspended = await engine.json<Suspended[]>('suspend', 'one', 'two');
    // Read while CRIU is at work already.
    const pages = join(engine.paths.stateDir, 'snapshots', suspended[1]?.id ?? '', 'pages', 'hashes');
    const whole = await readFile(pages);
    const damaged = Buffer.from(whole);
    damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] ?? 0) ^ 1;
    await writeFile(pages, damaged);
    const standing = [await one.count(), await two.count()];
    const error = await engine.failure(1, 'resume', 'one', 'two');
    expect(error.message).toContain('two could not be resumed');
    expect(error.message).toContain('So one was not resumed either.');
    expect((await engine.workload(one.id)).state).toBe('suspended');
    expect([await one.count(), await two.count()]).toEqual(standing);
    await writeFile(pages, whole);
    await engine.json('resume', 'one', 'two');
    await one.expectCounting();
    await two.expectCounting();
    await expectTidy(engine);
  });

  it('may be left running, each with its snapshot', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    const suspended = await engine.json<Suspended[]>('suspend', '--leave-running', 'one', 'two');
    expect(suspended.map(({ state }) => state)).toEqual(['running', 'running']);
    await one.expectCounting();
    await two.expectCounting();
    await expectTidy(engine);
  });

  it('is refused where a member is named that is not there, or that is suspended', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    await engine.failure(4, 'suspend', 'one', 'nobody');
    await engine.json('suspend', 'two');
    expect((await engine.failure(1, 'suspend', 'one', 'two')).message).toContain('two is suspended');
    expect((await engine.failure(4, 'resume', 'one', 'two')).message).toContain(
      'There is no snapshot of one',
    );
    await engine.json('resume', 'two');
    await one.expectCounting();
    await two.expectCounting();
  });
});

describe.runIf(canCheckpoint)('sockets between two of a set', () => {
  async function pair(kind: SocketKind, options: { user?: string; uid?: number } = {}) {
    const path = join(folder, `between ${kind} ${Date.now()}`);
    const server = await SocketClient.start(engine, ['listen', kind, path], { name: 'server' });
    const client = await SocketClient.start(engine, ['connect', kind, path], { name: 'client', ...options });
    await server.ready();
    return {
      server,
      client,
      async [Symbol.asyncDispose]() {
        await client[Symbol.asyncDispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  }

  it.each<SocketKind>(['stream', 'seqpacket'])(
    'of type %s are connected again, with what was under way both ways',
    async (kind) => {
      await using both = await pair(kind);
      const { server, client } = both;
      expect(await client.do('send to the server')).toBe('sent');
      expect(await server.do('send to the client')).toBe('sent');
      const options = await client.do('options');
      await engine.json('suspend', 'client', 'server');
      const resumed = await engine.json<Resumed[]>('resume', 'server', 'client');
      expect(resumed.flatMap(({ findings }) => findings.filter(({ tie }) => tie !== 'clock'))).toEqual([]);
      expect(await client.do('recv')).toBe('to the client');
      expect(await server.do('recv')).toBe('to the server');
      expect(await client.do('send more')).toBe('sent');
      expect(await server.do('recv')).toBe('more');
      expect(await client.do('options')).toBe(options);
      await client[Symbol.asyncDispose]();
      expect(await server.do('recv')).toBe('EOF');
    },
  );

  it('tell each end who the other is, where they belong to different users', async () => {
    await using both = await pair('stream', { user: 'www-data', uid: 33 });
    const { server, client } = both;
    expect(await server.do('peer')).toBe('33');
    expect(await client.do('peer')).toBe('0');
    expect(await client.do('send to root')).toBe('sent');
    await engine.json('suspend', 'client', 'server');
    await engine.json('resume', 'client', 'server');
    expect(await server.do('recv')).toBe('to root');
    expect(await server.do('peer')).toBe('33');
    expect(await client.do('peer')).toBe('0');
  });

  it('of type datagram find each other by name again', async () => {
    await using both = await pair('datagram');
    const { server, client } = both;
    expect(await client.do('send one')).toBe('sent');
    expect(await server.do('recv')).toBe('one');
    expect(await server.do('send answer')).toBe('sent');
    expect(await client.do('send two')).toBe('sent');
    await engine.json('suspend', 'client', 'server');
    const resumed = await engine.json<Resumed[]>('resume', 'client', 'server');
    expect(resumed.flatMap(({ findings }) => findings.filter(({ tie }) => tie !== 'clock'))).toEqual([]);
    expect(await client.do('recv')).toBe('answer');
    expect(await server.do('recv')).toBe('two');
    expect(await client.do('send three')).toBe('sent');
    expect(await server.do('recv')).toBe('three');
    expect(await server.do('send four')).toBe('sent');
    expect(await client.do('recv')).toBe('four');
  });

  it('of type datagram are connected again where each has connected to the other', async () => {
    await using both = await pair('datagram');
    const { server, client } = both;
    expect(await client.do('send one')).toBe('sent');
    expect(await server.do('recv')).toBe('one');
    expect(await server.do('connect')).toBe('connected');
    expect(await server.do('send to the client')).toBe('sent');
    expect(await client.do('send to')).toBe('sent');
    expect(await client.do('send the server')).toBe('sent');
    await engine.json('suspend', 'client', 'server');
    const resumed = await engine.json<Resumed[]>('resume', 'client', 'server');
    expect(resumed.flatMap(({ findings }) => findings.filter(({ tie }) => tie !== 'clock'))).toEqual([]);
    expect(await client.do('recv')).toBe('to the client');
    expect(await server.do('recv')).toBe('to');
    expect(await server.do('recv')).toBe('the server');
    expect(await client.do('send more')).toBe('sent');
    expect(await server.do('recv')).toBe('more');
  });

  it('block one of them alone, with a hint to name both', async () => {
    await using both = await pair('stream');
    const error = await engine.failure(3, 'suspend', 'client');
    const hints = error.findings?.filter(({ verdict }) => verdict === 'blocking').map(({ hint }) => hint);
    expect(hints?.join()).toContain(`name workload ${both.server.id} beside it`);
  });

  it('are found closed where one is resumed alone', async () => {
    await using both = await pair('stream');
    const { server, client } = both;
    expect(await server.do('send last words')).toBe('sent');
    await engine.json('suspend', 'client', 'server');
    const resumed = await engine.json<Resumed>('resume', 'client');
    const findings = resumed.findings.filter(({ tie }) => tie !== 'clock');
    expect(findings.map(({ tie, verdict }) => [tie, verdict])).toEqual([
      ['unix-socket', 'degraded'],
      ['session', 'handled'],
    ]);
    expect(findings[0]?.what).toContain('was connected to server');
    expect(await client.do('recv')).toBe('last words');
    expect(await client.do('recv')).toBe('EOF');
    await engine.json('resume', 'server');
    expect(await server.do('recv')).toBe('EOF');
  });
});
