/**
 * Plugins that hold the other end of what a workload has open: an inspection takes their word that they will let go, a
 * suspend looks whether they have.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Finding, Snapshot, Workload } from '../../api/types.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { type PluginBehaviour, TestPlugins } from '../support/plugins.ts';
import { SocketClient } from '../support/sockets.ts';
import { canCheckpoint } from './criu-fixture.ts';

type Suspended = Snapshot & { findings: Finding[] };
const a = 'org.example.A';

/** An engine, and a plugin that runs. */
class Scene implements AsyncDisposable {
  readonly plugins: TestPlugins;
  readonly engine: TestEngine;

  private constructor(plugins: TestPlugins, engine: TestEngine) {
    this.plugins = plugins;
    this.engine = engine;
  }

  static async create(behaviour: (folder: string) => PluginBehaviour): Promise<Scene> {
    const plugins = await TestPlugins.create();
    const engine = await TestEngine.create({ env: plugins.env });
    await plugins.add(a, behaviour(plugins.folder));
    await engine.json('plugins');
    return new Scene(plugins, engine);
  }

  async findings(id: string): Promise<Finding[]> {
    const { findings } = await this.engine.json<{ findings: Finding[] }>('inspect', id);
    return findings.filter(({ by, pid }) => by === a && pid !== undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
    await this.plugins[Symbol.asyncDispose]();
  }
}

/** A job that has a named pipe open to write. */
class Writer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #engine: TestEngine;
  pid: number;

  private constructor(child: ChildProcess, engine: TestEngine) {
    this.#child = child;
    this.#engine = engine;
    this.pid = child.pid ?? 0;
  }

  static async start(engine: TestEngine, fifo: string): Promise<Writer> {
    const program =
      'use POSIX; POSIX::close($_) for 3..1023; open(our $pipe, ">", $ARGV[0]); close(STDIN); sleep 100000 while 1';
    const child = spawn('perl', ['-e', program, fifo], { stdio: 'ignore', detached: true, cwd: '/' });
    await once(child, 'spawn');
    const writer = new Writer(child, engine);
    await expect.poll(() => writer.open).toContain(fifo);
    return writer;
  }

  get open(): string[] {
    const folder = `/proc/${this.pid}/fd`;
    return readdirSync(folder).map((fd) => readlinkSync(join(folder, fd)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine.run(['end', String(this.pid)]);
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
  }
}

describe.skipIf(!canCheckpoint)('a plugin that holds', () => {
  it('a connection and lets go of it has it hung up, and not in the way', async () => {
    await using scene = await Scene.create((folder) => ({ listen: join(folder, 'socket') }));
    const { engine, plugins } = scene;
    await using client = await SocketClient.startJob(engine, [
      'connect',
      'stream',
      join(plugins.folder, 'socket'),
    ]);
    expect(await client.do('send hello')).toBe('sent');
    expect(await client.do('recv')).toBe('answer to hello');
    expect(await scene.findings(client.id)).toMatchObject([{ tie: 'unix-socket', verdict: 'handled' }]);

    const { workload } = await engine.json<Suspended>('suspend', client.id);
    client.id = workload;
    expect((await engine.json<Workload>('resume', workload)).state).toBe('running');
    expect(await client.do('recv')).toBe('EOF');
    expect(await plugins.methods(a)).toEqual(['Inspect', 'PreSuspend', 'PostResume']);
  });

  it('a connection and lies about letting go fails the suspend, by its name', async () => {
    await using scene = await Scene.create((folder) => ({ listen: join(folder, 'socket'), lies: true }));
    const { engine, plugins } = scene;
    await using client = await SocketClient.startJob(engine, [
      'connect',
      'stream',
      join(plugins.folder, 'socket'),
    ]);
    expect(await scene.findings(client.id)).toMatchObject([{ tie: 'unix-socket', verdict: 'handled' }]);

    const { message, hint } = await engine.failure(1, 'suspend', client.id);
    expect(message).toMatch(
      /The plugin org.example.A has not let go, as it should have: .+ is connected with .+ It runs on as before/,
    );
    expect(hint).toContain('torpor plugins');
    expect(await engine.snapshots()).toEqual([]);
    expect(await client.do('send hello')).toBe('sent');
    expect(await client.do('recv')).toBe('answer to hello');
    expect(await plugins.methods(a)).toEqual(['Inspect', 'PreSuspend', 'Abort']);
  });

  it.each([false, true])('a pipe and lies (%s) about letting go', async (lies) => {
    await using scene = await Scene.create((folder) => {
      const fifo = join(folder, 'fifo');
      execFileSync('mkfifo', [fifo]);
      return { fifo, lies };
    });
    const { engine, plugins } = scene;
    const fifo = join(plugins.folder, 'fifo');
    await using writer = await Writer.start(engine, fifo);
    expect(await scene.findings(String(writer.pid))).toMatchObject([{ tie: 'pipe', verdict: 'handled' }]);
    if (lies) {
      const { message } = await engine.failure(1, 'suspend', String(writer.pid));
      expect(message).toMatch(/The plugin org.example.A has not let go, as it should have: .+ named pipe/);
      expect(await engine.snapshots()).toEqual([]);
      expect(await plugins.methods(a)).toEqual(['Inspect', 'PreSuspend', 'Abort']);
    } else {
      const { workload } = await engine.json<Suspended>('suspend', String(writer.pid));
      const resumed = await engine.json<Workload>('resume', workload);
      expect(resumed.state).toBe('running');
      writer.pid = resumed.pids[0] ?? 0;
      expect(await plugins.methods(a)).toEqual(['Inspect', 'PreSuspend', 'PostResume']);
    }
    expect(isThere(writer.pid)).toBe(true);
    expect(writer.open).toContain(fifo);
  });
});
