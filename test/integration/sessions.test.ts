/** Sessions under a name: saved at one instant, all or none, and restored side by side, the last used first. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connectEngine, type EngineClient, readEngineAddress } from '../../api/client.ts';
import type { LeftOut, Session, Snapshot, Workload } from '../../api/types.ts';
import { Counter, expectTidy, removeSnapshots } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { EchoServer, SocketClient } from '../support/sockets.ts';
import { makeUser, type TestUser } from '../support/users.ts';
import { canCheckpoint } from './criu-fixture.ts';

type Saved = Session & { suspended: (Snapshot & { state: string })[]; left: LeftOut[] };
type Restored = Session & { resumed: Workload[]; left: LeftOut[] };

let engine: TestEngine;
let folder: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-sessions-');
});
afterEach(async () => {
  await removeSnapshots(engine);
  expect(await list()).toEqual([]);
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const list = () => engine.json<Session[]>('session', 'ls');
const save = (...args: string[]) => engine.json<Saved>('session', 'save', ...args);
const restore = (...args: string[]) => engine.json<Restored>('session', 'restore', ...args);
const names = (all: readonly { name: string }[]) => all.map(({ name }) => name);
const states = ({ members }: Session) => members.map(({ name, state }) => [name, state]);

/** Runs it and reads what it says although it ends with this exit code. */
async function ending<T>(code: number, ...args: string[]): Promise<T> {
  const [command = '', ...rest] = args;
  const outcome = await engine.run([command, '--json', ...rest]);
  expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code });
  return JSON.parse(outcome.stdout) as T;
}

const atLogin = () => engine.json<Pick<Restored, 'resumed' | 'left'>>('session', 'restore', '--at-login');

/** Another client of the engine's, which is told what happens. */
async function subscribed(): Promise<EngineClient> {
  const address = await readEngineAddress(engine.paths);
  const client = await connectEngine(address?.address ?? '');
  await client.subscribe();
  return client;
}

/** Types into a capsule, as its user would. */
const use = (name: string) =>
  engine.run(['exec', name, '--', 'xdotool', 'key', 'Shift_L']).then(({ code }) => expect(code).toBe(0));

describe.runIf(canCheckpoint)('a session', () => {
  it('has all that runs, and is restored by its name, what was used last first', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    await using three = await Counter.start(engine, '--name', 'three');
    for (const name of ['three', 'one', 'two']) {
      await use(name);
      await sleep(300);
    }
    const saved = await save('evening');
    expect(saved).toMatchObject({ name: 'evening', reason: 'user', left: [] });
    expect(saved.suspended.map(({ state }) => state)).toEqual(['suspended', 'suspended', 'suspended']);
    expect(states(saved)).toEqual([
      ['two', 'ready'],
      ['one', 'ready'],
      ['three', 'ready'],
    ]);
    const [listed] = await list();
    expect(listed).toMatchObject({ name: 'evening', members: saved.members });
    expect(listed?.memoryBytes).toBeGreaterThan(1024 * 1024);
    await using client = await subscribed();
    const ids = new Map([one, two, three].map(({ id, name }) => [id, name]));
    const begun: string[] = [];
    const underWay = new Set<string>();
    let mostAtOnce = 0;
    client.on('progress', ({ workload, phase }) => {
      const name = ids.get(workload) ?? '';
      if (!begun.includes(name)) begun.push(name);
      if (phase === 'done') underWay.delete(name);
      else underWay.add(name);
      mostAtOnce = Math.max(mostAtOnce, underWay.size);
    });
    const restored = await restore('evening');
    expect(names(restored.resumed).sort()).toEqual(['one', 'three', 'two']);
    expect(restored.left).toEqual([]);
    // As many as there are processors begin together.
    if (availableParallelism() <= 2) expect(begun.at(-1)).toBe('three');
    expect(mostAtOnce).toBeGreaterThan(1);
    for (const counter of [one, two, three]) await counter.expectCounting();
    expect((await list())[0]?.members.map(({ state }) => state)).toEqual(['running', 'running', 'running']);
    await expectTidy(engine);
  });

  it('goes by when its user typed in a terminal, too', async () => {
    await using capsule = await Counter.start(engine, '--name', 'capsule');
    await using job = await Counter.startJob(engine);
    const { members } = await save('both', capsule.name, job.target);
    const used = members.find(({ name }) => name === 'perl')?.lastUsedAt;
    expect(Math.abs(Date.parse(used ?? '') - Date.now())).toBeLessThan(120_000);
    await job.lookUp();
    expect(names((await restore('both')).resumed).sort()).toEqual(['capsule', 'perl']);
    await capsule.expectCounting();
    await job.expectCounting();
  });

  it('is not saved where one of it is blocked, and is saved without it where that is wanted', async () => {
    const path = join(folder, 'outside');
    await using _server = await EchoServer.start('stream', path);
    await using tied = await SocketClient.start(engine, ['connect', 'stream', path], { name: 'tied' });
    await using free = await Counter.start(engine, '--name', 'free');
    const error = await engine.failure(3, 'session', 'save', 'both');
    expect(error.message).toContain('tied cannot be suspended');
    expect(error.message).toContain('So free was not suspended either and runs on.');
    expect(await list()).toEqual([]);
    expect(await engine.snapshots()).toEqual([]);
    await free.expectCounting();
    const saved = await ending<Saved>(1, 'session', 'save', '--partial', 'both');
    expect(states(saved)).toEqual([['free', 'ready']]);
    expect(saved.left.map(({ name, what }) => [name, what.includes('So free')])).toEqual([['tied', false]]);
    expect(saved.left[0]?.findings.some(({ verdict }) => verdict === 'blocking')).toBe(true);
    expect(await tied.do('send still here')).toBe('sent');
    expect(await tied.do('recv')).toBe('0:still here');
    expect(names((await restore('both')).resumed)).toEqual(['free']);
    await free.expectCounting();
    await expectTidy(engine);
  });

  it('is not saved, not even in part, where nothing of it can be', async () => {
    const path = join(folder, 'alone');
    await using _server = await EchoServer.start('stream', path);
    await using tied = await SocketClient.start(engine, ['connect', 'stream', path], { name: 'tied' });
    await engine.failure(3, 'session', 'save', '--partial', 'nothing');
    expect(await list()).toEqual([]);
    expect(await tied.do('send still here')).toBe('sent');
  });

  it('leaves out a process that is blocked, by its pid', async () => {
    const path = join(folder, 'process');
    await using _server = await EchoServer.start('stream', path);
    await using counter = await Counter.start(engine, '--name', 'free');
    const script = `import socket,time; s=socket.socket(socket.AF_UNIX); s.connect(${JSON.stringify(path)}); time.sleep(1000)`;
    const { spawn } = await import('node:child_process');
    const process = spawn('python3', ['-c', script], { stdio: 'ignore' });
    try {
      await sleep(1000);
      const saved = await ending<Saved>(
        1,
        ...['session', 'save', '--partial', 'both', 'free', String(process.pid)],
      );
      expect(names(saved.members)).toEqual(['free']);
      expect(saved.left).toHaveLength(1);
      expect(process.exitCode).toBeNull();
      await restore('both');
      await counter.expectCounting();
    } finally {
      process.kill('SIGKILL');
    }
  });

  it('is restored without the one that cannot be resumed, which stays suspended', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    const saved = await save('pair');
    const id = saved.members.find(({ name }) => name === 'two')?.snapshot ?? '';
    const pages = join(engine.paths.stateDir, 'snapshots', id, 'pages', 'hashes');
    const whole = await readFile(pages);
    const damaged = Buffer.from(whole);
    damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] ?? 0) ^ 1;
    await writeFile(pages, damaged);
    const restored = await ending<Restored>(1, 'session', 'restore', 'pair');
    expect(names(restored.resumed)).toEqual(['one']);
    expect(restored.left.map(({ name, what }) => [name, what.includes('could not be resumed')])).toEqual([
      ['two', true],
    ]);
    await one.expectCounting();
    expect((await engine.workload(two.id)).state).toBe('suspended');
    await writeFile(pages, whole);
    const again = await restore('pair');
    expect(names(again.resumed)).toEqual(['two']);
    expect(again.left.map(({ what }) => what)).toEqual(['one is running already.']);
    await two.expectCounting();
  });

  it('has its sockets connected again between its members', async () => {
    const path = join(folder, 'between');
    await using server = await SocketClient.start(engine, ['listen', 'stream', path], { name: 'server' });
    await using client = await SocketClient.start(engine, ['connect', 'stream', path], { name: 'client' });
    await using apart = await Counter.start(engine, '--name', 'apart');
    await server.ready();
    expect(await client.do('send under way')).toBe('sent');
    await save('connected');
    const restored = await restore('connected');
    expect(names(restored.resumed).sort()).toEqual(['apart', 'client', 'server']);
    expect(await server.do('recv')).toBe('under way');
    expect(await server.do('send back')).toBe('sent');
    expect(await client.do('recv')).toBe('back');
    await apart.expectCounting();
  });

  it('keeps its name while something of it is suspended, unless it is to be replaced', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    await save('work', 'one');
    const error = await engine.failure(1, 'session', 'save', 'work', 'two');
    expect(error.message).toContain('of which one is still suspended');
    await two.expectCounting();
    const replaced = await save('--replace', 'work', 'two');
    expect(names(replaced.members)).toEqual(['two']);
    expect(names(await list())).toEqual(['work']);
    expect((await engine.workload(one.id)).state).toBe('suspended');
    await restore('work');
    await engine.json('resume', 'one');
    const anew = await save('work');
    expect(names(anew.members).sort()).toEqual(['one', 'two']);
    expect(await list()).toHaveLength(1);
    await restore('work');
  });

  it('leaves alone what was suspended anew since, and comes back where its application has ended', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    await save('past');
    await restore('past');
    await engine.json('suspend', 'one');
    await engine.json('end', 'two');
    const restored = await ending<Restored>(1, 'session', 'restore', 'past');
    expect(states(restored).sort()).toEqual([
      ['one', 'later'],
      ['two', 'running'],
    ]);
    expect(restored.left.map(({ name, hint }) => [name, hint])).toEqual([
      ['one', 'Resume that later state with `torpor resume one`.'],
    ]);
    await engine.json('resume', 'one');
    await one.expectCounting();
    expect((await engine.workload(two.id)).state).toBe('running');
  });

  it('does not bring back by itself what its user has ended', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    await engine.json('session', 'policy', '--restore-at-login', 'yes');
    await using client = await subscribed();
    await client.saveSession('reboot', [one.id, two.id], { leaveRunning: false, reason: 'reboot' });
    expect(names((await atLogin()).resumed).sort()).toEqual(['one', 'two']);
    await engine.json('end', 'two');
    const [session] = await list();
    expect(session && states(session).sort()).toEqual([
      ['one', 'running'],
      ['two', 'ended'],
    ]);
    expect(await atLogin()).toEqual({ resumed: [], left: [] });
    // Nor is it in the way of the next one.
    await client.saveSession('reboot', [], { leaveRunning: false, reason: 'reboot' });
    expect((await list()).map(states)).toEqual([[['one', 'ready']]]);
    expect(names((await atLogin()).resumed)).toEqual(['one']);
    await one.expectCounting();
  });

  it('that was saved by itself is still there when the next one is, as long as it has not come back', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using client = await subscribed();
    const options = { leaveRunning: false, reason: 'reboot', replace: true } as const;
    await client.saveSession('reboot', [one.id], options);
    await using two = await Counter.start(engine, '--name', 'two');
    await client.saveSession('reboot', [two.id], options);
    const [newer, older] = await list();
    expect(newer).toMatchObject({ name: 'reboot', members: [{ name: 'two' }] });
    expect(older).toMatchObject({ members: [{ name: 'one', state: 'ready' }] });
    expect(older?.name).toMatch(/^reboot \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
    for (const session of [newer, older]) await restore(session?.name ?? '');
    for (const counter of [one, two]) await counter.expectCounting();
  });

  it('of which the saving is given up is not saved in part either', async () => {
    await using one = await Counter.startHolding(engine, 300, '--name', 'one');
    await using two = await Counter.startHolding(engine, 300, '--name', 'two');
    await using client = await subscribed();
    const isCheckpointed = new Promise<void>((resolve) =>
      client.on('progress', ({ phase }) => {
        if (phase === 'checkpoint') resolve();
      }),
    );
    const saving = client.saveSession('work', [one.id, two.id], { leaveRunning: false, partial: true });
    saving.catch(() => {});
    await isCheckpointed;
    await client.cancel(one.id);
    await expect(saving).rejects.toThrow(/cancelled/);
    for (const counter of [one, two]) await counter.expectCounting();
    expect(await list()).toEqual([]);
    expect(await engine.snapshots()).toEqual([]);
    await expectTidy(engine);
  });

  it('is forgotten by its name, and what it has stays suspended', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await save('name only');
    await engine.json('session', 'rm', 'name only');
    expect(await list()).toEqual([]);
    await engine.failure(4, 'session', 'restore', 'name only');
    await engine.json('resume', 'one');
    await one.expectCounting();
  });

  it('may be left running', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    const saved = await save('--leave-running', 'copy');
    expect(states(saved)).toEqual([['one', 'running']]);
    await one.expectCounting();
    await engine.json('end', 'one');
    expect((await list()).map(states)).toEqual([[['one', 'ready']]]);
  });

  it.each([
    [[], 'ACTION is missing'],
    [['keep', 'it'], 'is nothing that can be done'],
    [['save'], 'Which session is meant'],
    [['restore'], 'Which session is meant'],
    [['restore', 'one', 'two'], 'takes one name'],
    [['ls', 'one'], 'takes no name'],
    [['save', ' '], 'cannot be the name'],
    [['save', 'two\nlines'], 'cannot be the name'],
    [['save', 'x'.repeat(65)], 'cannot be the name'],
  ])('is not called by %j', async (words, said) => {
    const { message } = await engine.failure(2, 'session', ...words);
    expect(message).toContain(said);
  });

  it('is not saved of nothing, and not restored where there is none', async () => {
    expect((await engine.failure(1, 'session', 'save', 'empty')).message).toContain('Nothing is running');
    expect((await engine.failure(4, 'session', 'restore', 'empty')).message).toContain('There is no session');
    await engine.failure(4, 'session', 'save', 'empty', 'nobody');
    expect((await engine.run(['session', 'ls'])).stdout).toContain('No session is saved');
  });
});

describe.runIf(canCheckpoint)('sessions of others', () => {
  let alice: TestUser;
  let bob: TestUser;

  beforeAll(async () => {
    alice = await makeUser('torpor-alice', 21501);
    bob = await makeUser('torpor-bob', 21502);
  });
  afterAll(async () => {
    await alice?.[Symbol.asyncDispose]();
    await bob?.[Symbol.asyncDispose]();
  });

  const asUser = async <T>(user: TestUser, code: number, ...args: string[]): Promise<T> => {
    const outcome = await engine.run(['session', '--json', ...args], {
      uid: user.uid,
      env: { HOME: user.home },
    });
    expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code });
    return JSON.parse(outcome.stdout) as T;
  };

  it('are not seen, not restored and not forgotten', async () => {
    const { id } = await engine.start(
      ['xterm', '-e', 'sleep', '1000'],
      '--name',
      'hers',
      '--user',
      alice.name,
    );
    await asUser<Saved>(alice, 0, 'save', 'private');
    expect(await asUser<Session[]>(bob, 0, 'ls')).toEqual([]);
    for (const action of ['restore', 'rm']) await asUser(bob, 4, action, 'private');
    expect((await engine.workload(id)).state).toBe('suspended');
    expect(names((await asUser<Restored>(alice, 0, 'restore', 'private')).resumed)).toEqual(['hers']);
    await asUser(alice, 0, 'rm', 'private');
    await engine.json('end', 'hers');
  });

  it('are a matter of each where root has saved them together', async () => {
    await engine.start(['xterm', '-e', 'sleep', '1000'], '--name', 'hers', '--user', alice.name);
    await engine.start(['xterm', '-e', 'sleep', '1000'], '--name', 'his', '--user', bob.name);
    expect(names((await save('everybody')).members).sort()).toEqual(['hers', 'his']);
    const [seen] = await asUser<Session[]>(alice, 0, 'ls');
    expect(names(seen?.members ?? [])).toEqual(['hers']);
    await asUser(alice, 5, 'rm', 'everybody');
    expect(names((await asUser<Restored>(alice, 0, 'restore', 'everybody')).resumed)).toEqual(['hers']);
    expect((await list()).map((session) => states(session).sort())).toEqual([
      [
        ['hers', 'running'],
        ['his', 'ready'],
      ],
    ]);
    expect(names((await restore('everybody')).resumed)).toEqual(['his']);
    for (const name of ['hers', 'his']) await engine.json('end', name);
  });
});
