/** Plugins as the engine calls them: in order, with what they gave coming back; and what becomes of bad ones. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { connectEngine } from '../../api/client.ts';
import type { Finding, PluginReport, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { typeInShell } from '../support/job.ts';
import { type Bad, TestPlugins } from '../support/plugins.ts';
import { EchoServer } from '../support/sockets.ts';
import { canCheckpoint } from './criu-fixture.ts';

type Suspended = Snapshot & { findings: Finding[]; pluginsMs: number };
type Resumed = Workload & { findings: Finding[]; pluginsMs: number };

const limitMs = 4000;
const a = 'org.example.A';
const b = 'org.example.B';
const foundBy = (findings: readonly Finding[], name: string) => findings.filter(({ by }) => by === name);

/** What plugins may cost one operation, by the engine's own clock. */
function expectWithin({ pluginsMs }: { pluginsMs: number }, limits: number): void {
  // What it did meanwhile, such as looking at the processes, is not counted.
  expect(pluginsMs).toBeGreaterThan(0);
  // It may come to it late, on a machine that is busy; a limit for each call would be more than that.
  expect(pluginsMs).toBeLessThan((limits + 1) * limitMs);
}

/** An engine with plugins, and an application in a capsule. */
class Scene implements AsyncDisposable {
  readonly plugins: TestPlugins;
  readonly engine: TestEngine;
  id = '';

  private constructor(plugins: TestPlugins, engine: TestEngine) {
    this.plugins = plugins;
    this.engine = engine;
  }

  static async create(env: Record<string, string> = {}): Promise<Scene> {
    const plugins = await TestPlugins.create();
    const engine = await TestEngine.create({
      env: { TORPOR_PLUGIN_LIMIT_MS: `${limitMs}`, ...plugins.env, ...env },
    });
    return new Scene(plugins, engine);
  }

  async start(...inside: string[]): Promise<void> {
    this.id = (await this.engine.start(['xterm', ...inside])).id;
  }

  async state(): Promise<string> {
    return (await this.engine.workload(this.id)).state;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
    await this.plugins[Symbol.asyncDispose]();
  }
}

// Side by side, as each has an engine of its own, and a plugin that does not answer is mostly waited for. What polls needs
// the expect of its own test.
describe.skipIf(!canCheckpoint).concurrent('plugins', () => {
  it('are called in order, are told of the workload, and get back what they gave', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add(a, {
      inspect: [{ verdict: 'handled', what: 'It plays a tune.', hint: '' }],
      state: 'the tune',
    });
    await plugins.add(b, {
      description: { after: [a] },
      resumed: [{ verdict: 'degraded', what: 'The tune is another one', hint: 'Listen', tie: 'sound' }],
    });
    await scene.start();

    const report = await engine.json<PluginReport>('plugins');
    expect(report.plugins.filter(({ name }) => name === a || name === b)).toMatchObject([
      { name: a, title: `Test plugin ${a}`, policy: 'optional', after: [] },
      { name: b, after: [a] },
    ]);
    const found = await engine.json<{ findings: Finding[] }>('inspect', scene.id);
    expect(foundBy(found.findings, a)).toMatchObject([
      { tie: 'plugin', verdict: 'handled', what: 'It plays a tune.' },
    ]);

    await engine.json<Suspended>('suspend', scene.id);
    const [first] = (await plugins.calls(b)).filter(({ method }) => method === 'PreSuspend');
    const [second] = (await plugins.calls(a)).filter(({ method }) => method === 'PreSuspend');
    expect(first?.at).toBeLessThanOrEqual(second?.at ?? 0);
    expect(second?.workload).toMatchObject({ id: scene.id, kind: 'capsule', leaveRunning: false });
    expect(second?.workload.pids.length).toBeGreaterThan(2);

    const { findings } = await engine.json<Resumed>('resume', scene.id);
    expect(foundBy(findings, b)).toMatchObject([{ tie: 'sound', what: 'The tune is another one.' }]);
    const resumed = (await plugins.calls(a)).find(({ method }) => method === 'PostResume');
    expect(resumed).toMatchObject({ state: 'the tune', workload: { id: scene.id } });
    expect((await plugins.calls(b)).find(({ method }) => method === 'PostResume')?.at).toBeGreaterThanOrEqual(
      resumed?.at ?? Number.POSITIVE_INFINITY,
    );
    expect(await plugins.methods(a)).not.toContain('Abort');
  });

  it.each<[Bad, RegExp]>([
    ['sleep', /did not answer PreSuspend within/],
    ['exit', /failed/],
    ['leave', /failed|left|within/],
    ['huge', /failed|too large|left|within/],
    ['large', /too large: 65537 bytes, and at most 65536 are kept/],
    ['wrong-type', /of the form "s", not "ay"/],
    ['error', /it went wrong in two lines/],
  ])('that are optional and answer with %s do not keep it from being suspended', async (bad, why) => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add(a, { bad: { PreSuspend: bad } });
    await plugins.add(b);
    await scene.start();
    const { findings } = await engine.json<Suspended>('suspend', scene.id);
    expect(await scene.state()).toBe('suspended');
    expect(foundBy(findings, a)).toMatchObject([
      {
        verdict: 'degraded',
        what: expect.stringMatching(why),
        hint: expect.stringContaining('torpor plugins'),
      },
    ]);
    expect(foundBy(findings, b)).toEqual([]);
    expect(await plugins.methods(b)).toEqual(['Inspect', 'PreSuspend']);
    expect((await engine.json<Resumed>('resume', scene.id)).state).toBe('running');
    expect(await plugins.methods(b)).toEqual(['PostResume']);
  });

  it.each<'Describe' | 'PostResume' | 'Abort'>(['Describe', 'PostResume', 'Abort'])(
    'that answer %s with anything bad lose nothing, and cost no more than the limit',
    async (method) => {
      await using scene = await Scene.create();
      const { engine, plugins } = scene;
      const bads: Bad[] = ['sleep', 'exit', 'leave', 'huge', 'wrong-type', 'nonsense', 'error'];
      // What is nonsense as an answer to the others is the right form for a PostResume.
      const isMeant = (bad: Bad) => bad !== 'nonsense' || method === 'PostResume';
      const named = (bad: Bad) => `org.example.${bad.replace('-', '')}`;
      for (const bad of bads.filter(isMeant)) await plugins.add(named(bad), { bad: { [method]: bad } });
      await plugins.add(b);
      await scene.start();
      const options = method === 'Abort' ? ['--leave-running'] : [];
      const suspended = await engine.json<Suspended>('suspend', ...options, scene.id);
      const outcome = method === 'PostResume' ? await engine.json<Resumed>('resume', scene.id) : suspended;
      for (const bad of bads.filter(isMeant)) {
        const found = foundBy(outcome.findings, named(bad));
        expect(found, bad).toMatchObject([{ verdict: 'degraded', hint: expect.stringContaining('plugins') }]);
      }
      expect(foundBy(outcome.findings, b)).toEqual([]);
      expectWithin(outcome, method === 'Abort' ? 2 : 1);
      // Nothing else is done then, and one of them uses it up.
      if (method === 'Abort') expect(outcome.pluginsMs).toBeGreaterThan(0.9 * limitMs);
      if (method === 'Describe') await engine.json<Resumed>('resume', scene.id);
      expect(await scene.state()).toBe('running');
      expect((await engine.run(['exec', scene.id, '--', 'true'])).code).toBe(0);
      const last = method === 'Abort' ? 'Abort' : 'PostResume';
      expect(await plugins.methods(b)).toEqual(['Inspect', 'PreSuspend', last]);
    },
  );

  it('that never answer anything keep it waiting for one limit, and not for one with each call', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    const bad = { Inspect: 'sleep', PreSuspend: 'sleep', PostResume: 'sleep', Abort: 'sleep' } as const;
    for (const name of [a, b, 'org.example.C']) await plugins.add(name, { bad });
    await scene.start();
    const suspended = await engine.json<Suspended>('suspend', scene.id);
    expect(foundBy(suspended.findings, a)).toHaveLength(1);
    expectWithin(suspended, 1);
    expect((await engine.json<Resumed>('resume', scene.id)).state).toBe('running');
  });

  it.each<Bad>(['sleep', 'exit', 'error'])(
    'that are required and answer with %s have everything put back',
    async (bad) => {
      await using scene = await Scene.create();
      const { engine, plugins } = scene;
      await plugins.add(a, { bad: { PreSuspend: bad }, description: { policy: 'required' } });
      await plugins.add(b, { description: { after: [a] } });
      await scene.start();
      const failure = await engine.failure(1, 'suspend', scene.id);
      expect(failure.message).toMatch(/The plugin Test plugin .+, which is required, failed: .+It runs on/);
      expect(await scene.state()).toBe('running');
      expect(await engine.snapshots()).toEqual([]);
      expect(await plugins.methods(b)).toEqual(['Inspect', 'PreSuspend', 'Abort']);
      expect((await engine.run(['exec', scene.id, '--', 'true'])).code).toBe(0);
    },
  );

  it.each<[Bad, RegExp]>([
    ['nonsense', /its answer to Inspect is not as expected/],
    ['sleep', /did not answer Inspect within/],
  ])(
    'that are required and answer Inspect with %s block the suspend before anything is touched',
    async (bad, why) => {
      await using scene = await Scene.create();
      const { engine, plugins } = scene;
      await plugins.add(a, { bad: { Inspect: bad } }, 'X-Torpor-Policy=required');
      await plugins.add(b);
      await scene.start();
      expect((await engine.failure(3, 'suspend', scene.id)).message).toMatch(why);
      expect(await plugins.methods(b)).toEqual(['Inspect']);
      expect(await scene.state()).toBe('running');
    },
  );

  it('leave time in which a connection is made that nobody has accepted yet, and it runs on', async ({
    expect,
  }) => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    const address = join(plugins.folder, 'server');
    // It takes all of its time, in which the inspection is over and the application not held still yet.
    await plugins.add(a, { bad: { PreSuspend: 'sleep' } });
    const file = (name: string) => JSON.stringify(join(plugins.folder, name));
    const connects = [
      'import os, socket, time',
      `while "PreSuspend" not in open(${file(`${a}.calls`)}).read(): time.sleep(0.01)`,
      'end = socket.socket(socket.AF_UNIX)',
      `end.connect(${JSON.stringify(address)})`,
      `while not os.path.exists(${file('go')}): time.sleep(0.01)`,
      'end.sendall(b"at last")',
      `open(${file('answer')}, "wb").write(end.recv(100))`,
      'time.sleep(1000)',
    ];
    await writeFile(join(plugins.folder, `${a}.calls`), '');
    await using server = await EchoServer.start('stream', address);
    server.signal('SIGSTOP');
    scene.id = (await engine.start(['python3', '-c', connects.join('\n')])).id;
    const error = await engine.failure(3, 'suspend', scene.id);
    expect(error.message).toMatch(
      /python3.* (is just connecting|has connected to .+, which has not accepted yet)/,
    );
    expect(await engine.snapshots()).toEqual([]);
    server.signal('SIGCONT');
    await writeFile(join(plugins.folder, 'go'), '');
    await expect
      .poll(() => readFile(join(plugins.folder, 'answer'), 'utf8').catch(() => ''))
      .toMatch(/at last/);
  });

  it('may block by what they find, and are believed no more than that', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    const what = `It says\u001b[2J ${'so '.repeat(200)}`;
    await plugins.add(a, { inspect: [{ verdict: 'blocking', what, hint: 'Wait' }] });
    await scene.start();
    const { message } = await engine.failure(3, 'suspend', scene.id);
    expect(message).toMatch(/It says \[2J so so/);
    expect(message.length).toBeLessThan(600);
    expect(await scene.state()).toBe('running');
  });

  it('are asked once more where they failed', async () => {
    await using scene = await Scene.create();
    await scene.plugins.add(a, { bad: { PreSuspend: 'error-once' }, description: { policy: 'required' } });
    await scene.start();
    const { findings } = await scene.engine.json<Suspended>('suspend', scene.id);
    expect(foundBy(findings, a)).toEqual([]);
    expect(await scene.plugins.methods(a)).toEqual(['Inspect', 'PreSuspend', 'PreSuspend']);
  });

  it('hear that it runs on where only a snapshot was taken', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add(a, { state: 'kept' });
    await scene.start();
    await engine.json<Suspended>('suspend', '--leave-running', scene.id);
    const calls = await plugins.calls(a);
    expect(calls.find(({ method }) => method === 'PreSuspend')?.workload.leaveRunning).toBe(true);
    expect(calls.at(-1)).toMatchObject({ method: 'Abort', state: 'kept' });
    expect(await plugins.methods(a)).toEqual(['Inspect', 'PreSuspend', 'Abort']);
  });

  it('are told by the next engine what the last one could not tell', async ({ expect }) => {
    await using scene = await Scene.create({ TORPOR_PLUGIN_LIMIT_MS: '60000' });
    const { engine, plugins } = scene;
    await plugins.add(b, { state: 'known', description: { after: [a] } });
    await plugins.add(a, { bad: { PreSuspend: 'sleep' } });
    await scene.start();
    const suspending = engine.run(['suspend', scene.id]);
    await expect
      .poll(async () => (await plugins.calls(a)).some(({ method }) => method === 'PreSuspend'), {
        timeout: 30_000,
      })
      .toBe(true);
    await plugins.add(a);
    await engine.kill();
    expect((await suspending).code).not.toBe(0);
    expect(await scene.state()).toBe('running');
    for (const name of [a, b])
      await expect
        .poll(async () => (await plugins.calls(name)).at(-1)?.method, { timeout: 30_000 })
        .toBe('Abort');
    expect((await plugins.calls(b)).at(-1)?.state).toBe('known');
  });

  it('are called by the next engine for what came to run under the last one', async ({ expect }) => {
    await using scene = await Scene.create({ TORPOR_PLUGIN_LIMIT_MS: '60000' });
    const { engine, plugins } = scene;
    await plugins.add(a, { state: 'known', bad: { PostResume: 'sleep' } });
    await scene.start();
    await engine.json('suspend', scene.id);
    const resuming = engine.run(['resume', scene.id]);
    await expect
      .poll(async () => (await plugins.calls(a)).at(-1)?.method, { timeout: 30_000 })
      .toBe('PostResume');
    // The command that sees its engine die has the next one started.
    await plugins.methods(a);
    await plugins.add(a);
    await engine.kill();
    await resuming;
    expect(await scene.state()).toBe('running');
    await expect
      .poll(async () => (await plugins.calls(a)).at(-1), { timeout: 30_000 })
      .toMatchObject({ method: 'PostResume', state: 'known' });
  });

  it('do not hold up a cancel, and hear of it', async ({ expect }) => {
    await using scene = await Scene.create({ TORPOR_PLUGIN_LIMIT_MS: '60000' });
    const { engine, plugins } = scene;
    await plugins.add(a, { bad: { PreSuspend: 'sleep' } });
    await scene.start();
    const address = JSON.parse(readFileSync(engine.paths.addressFile, 'utf8')) as { address: string };
    await using client = await connectEngine(address.address);
    const suspending = client.suspend(scene.id, { leaveRunning: false });
    suspending.catch(() => {});
    await expect
      .poll(async () => (await plugins.calls(a)).at(-1)?.method, { timeout: 30_000 })
      .toBe('PreSuspend');
    await client.cancel(scene.id);
    await expect(suspending).rejects.toThrow(/It runs on/);
    expect(await scene.state()).toBe('running');
    expect((await plugins.methods(a)).at(-1)).toBe('Abort');
  });

  it('that are required and fail for one of a set have all put back', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add(a, {
      description: { policy: 'required', kinds: ['job'] },
      bad: { PreSuspend: 'error' },
    });
    await plugins.add(b);
    await scene.start();
    await using job = await typeInShell('sleep 1000');
    const { message } = await engine.failure(1, 'suspend', scene.id, String(job.pid));
    expect(message).toContain('which is required, failed');
    expect(await scene.state()).toBe('running');
    expect(commandOf(job.pid)).toBe('sleep 1000 ');
    expect((await plugins.calls(a)).map(({ workload }) => workload?.kind)).not.toContain('capsule');
    const kinds = (await plugins.calls(b)).map(({ method, workload }) => `${method} ${workload?.kind}`);
    expect(kinds).toContain('Abort capsule');
  });

  it('are there before it runs where they want that, and keep it from running where they are required', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    const description = { beforeItRuns: true, policy: 'required' };
    await plugins.add(a, { description, bad: { PostResume: 'error' } });
    await scene.start();
    const snapshot = await engine.json<Suspended>('suspend', scene.id);
    const { message } = await engine.failure(1, 'resume', scene.id);
    expect(message).toMatch(
      new RegExp(`it went wrong in two lines.+Its snapshot ${snapshot.id} is as it was`),
    );
    expect(await scene.state()).toBe('suspended');
    expect((await plugins.methods(a)).at(-1)).toBe('Abort');
    // The one that runs has been told how to behave.
    await engine.kill('SIGTERM');
    await plugins.add(a, { description });
    expect((await engine.json<Resumed>('resume', scene.id)).state).toBe('running');
  });

  it('that are there before it runs are told of its processes, and not of those that restore them', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add(a, { description: { beforeItRuns: true } });
    // Not a shell, whose first commands come and go meanwhile.
    await scene.start('-e', 'sleep', '1000');
    await using job = await typeInShell('sleep 1000');
    const adopted = await engine.json<Suspended>('suspend', String(job.pid));
    await engine.json('suspend', scene.id);
    try {
      for (const id of [scene.id, adopted.workload]) {
        await plugins.methods(a);
        const { pids } = await engine.json<Resumed>('resume', id);
        const told = (await plugins.calls(a)).find(({ method }) => method === 'PostResume')?.workload.pids;
        expect(told?.sort()).toEqual(pids.sort());
      }
    } finally {
      await engine.run(['end', adopted.workload]);
    }
  });

  it('that are gone at the resume are missed in a sentence', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add(a);
    await scene.start();
    await engine.json('suspend', scene.id);
    await engine.kill('SIGTERM');
    await plugins.write(a, '');
    const { findings } = await engine.json<Resumed>('resume', scene.id);
    expect(foundBy(findings, a)).toMatchObject([
      { verdict: 'degraded', what: expect.stringContaining('did not do its part: it is not there any more') },
    ]);
  });

  it('may come by themselves, once each, and are forgotten when they go', async ({ expect }) => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await scene.start();
    const [program = '', ...args] = plugins.command(a);
    const start = () =>
      spawn(program, args, {
        env: { ...process.env, TORPOR_BUS_ADDRESS: `unix:path=${engine.paths.busSocket}` },
        stdio: 'ignore',
      });
    const child = start();
    const named = async () => (await engine.json<PluginReport>('plugins')).plugins.map(({ name }) => name);
    try {
      await expect.poll(named, { timeout: 20_000 }).toContain(a);
      await engine.json('suspend', scene.id);
      expect(await plugins.methods(a)).toEqual(['Inspect', 'PreSuspend']);
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await expect.poll(named, { timeout: 20_000 }).not.toContain(a);
  });

  it('that cannot be used are named with the reason', async () => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add('org.example.Version', { description: { version: 2 } });
    await plugins.add('org.example.Unknown', { description: { after: ['org.example.Nobody'] } });
    await plugins.add('org.example.Circle', { description: { after: ['org.example.Circle'] } });
    await plugins.add('org.example.Ends', { bad: { start: 'exit' } });
    await plugins.add('org.example.Hangs', { bad: { start: 'sleep' } });
    await plugins.write(
      'org.example.Missing',
      '[D-BUS Service]\nName=org.example.Missing\nExec=/nowhere/at/all',
    );
    await plugins.write('broken', '[D-BUS Service]\nName=org.example.Broken\nExec');
    await plugins.write('nul', '[D-BUS Service]\nName=a\0b');
    await scene.start();
    const outcome = await engine.run(['plugins', '--json']);
    expect(outcome.code).toBe(1);
    const { plugins: all, problems } = JSON.parse(outcome.stdout) as PluginReport;
    const problemOf = (name: string) => all.find((each) => each.name === `org.example.${name}`)?.problem;
    expect(problemOf('Version')).toMatch(
      /speaks version 2 of io.github.torpor.Plugin1, and this engine version 1/,
    );
    expect(problemOf('Unknown')).toBe('it comes after org.example.Nobody, and there is no such plugin');
    expect(problemOf('Circle')).toMatch(/in a circle/);
    expect(problemOf('Ends')).toBe('its program ended with status 3: I do not want to');
    expect(problemOf('Hangs')).toMatch(/did not register within/);
    expect(problemOf('Missing')).toMatch(/its program ended with status 127: .+nowhere/);
    expect(problems).toEqual([
      `${plugins.folder}/broken.service, line 3: a line of the form Key=Value was expected.`,
      `${plugins.folder}/nul.service: it has control characters in it.`,
    ]);
    await engine.json<Suspended>('suspend', scene.id);
    expect(await scene.state()).toBe('suspended');
  });

  it('are there as long as something runs where they want that, and come back when they end', async ({
    expect,
  }) => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add(a, {}, 'X-Torpor-Resident=true');
    await plugins.add(b);
    const running = async () => {
      const { plugins: all } = await engine.json<PluginReport>('plugins');
      return all.filter((each) => each.running).map(({ name }) => name);
    };
    const pids = () => processesWith(plugins.folder, a);
    expect(pids()).toEqual([]);
    await scene.start();
    await expect.poll(pids, { timeout: 30_000 }).toHaveLength(1);
    await expect.poll(running, { timeout: 30_000 }).toContain(a);
    const [first = 0] = pids();
    process.kill(first, 'SIGKILL');
    await expect.poll(() => pids().filter((pid) => pid !== first), { timeout: 30_000 }).toHaveLength(1);
    await engine.kill('SIGTERM');
    await expect.poll(pids, { timeout: 30_000 }).toEqual([]);
  });

  it('of another user are not called, nor in the way of one’s own', async ({ expect }) => {
    await using scene = await Scene.create();
    const { engine, plugins } = scene;
    await plugins.add(a);
    await scene.start();
    await using foreign = await TestPlugins.create();
    await chmod(foreign.folder, 0o777);
    const [program = '', ...args] = foreign.command(a);
    const child = spawn(program, args, {
      env: { PATH: '/usr/bin:/bin', TORPOR_BUS_ADDRESS: `unix:path=${engine.paths.busSocket}` },
      stdio: 'ignore',
      uid: 65534,
      gid: 65534,
    });
    const registered = async () =>
      (await engine.logTail(200))
        .split('\n')
        .some((line) => line.includes('"uid":65534') && line.includes(a));
    try {
      await expect.poll(registered, { timeout: 30_000 }).toBe(true);
      await engine.json('suspend', scene.id);
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    expect(await plugins.methods(a)).toEqual(['Inspect', 'PreSuspend']);
    expect(await foreign.calls(a)).toEqual([]);
  });
});

function commandOf(pid = 0): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
}

/** Pids of processes with all these words on their command lines. */
function processesWith(...words: string[]): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        // What becomes it comes by way of setpriv and env.
        return line.startsWith(process.execPath) && words.every((word) => line.includes(word));
      } catch {
        return false;
      }
    })
    .map(Number);
}
