/** The same kind of capsule, checkpointed and restored by `criu` itself with the options the engine would choose. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chown, mkdir, mkdtemp, readdir, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sessionBusConfig } from '../../engine/capsule/session-bus.ts';
import { encodeSpec } from '../../engine/capsule/spec-file.ts';
import { windowManagerConfig } from '../../engine/capsule/window-manager.ts';
import { runCommand } from '../../engine/command.ts';
import { syncFile, syncFolder } from '../../engine/durable.ts';
import { findInstallation } from '../../engine/installation.ts';
import { identify, type ProcessIdentity, waitGone } from '../../engine/process.ts';
import { Cgroups } from '../../engine/workload/cgroup.ts';
import { memoryFreed } from './usage.ts';

const installation = findInstallation();
const switches = ['--file-locks', '--tcp-close', '--network-lock', 'skip', '--manage-cgroups=ignore', '-v4'];

/** In milliseconds and bytes. */
export interface PlainDump {
  dumpMs: number;
  /** Until none of its processes had memory any more; 0 where it was left running. */
  freeMs: number;
  /** Making the images durable, after the dump. */
  syncMs: number;
  bytes: number;
}

export class PlainCapsule implements AsyncDisposable {
  readonly #work: string;
  readonly #prefix: readonly string[];
  readonly #cgroups: Cgroups;
  #init: ProcessIdentity;

  private constructor(work: string, prefix: readonly string[], cgroups: Cgroups, init: ProcessIdentity) {
    this.#work = work;
    this.#prefix = prefix;
    this.#cgroups = cgroups;
    this.#init = init;
  }

  get screen(): string {
    return join(this.#work, 'run', 'screen', 'rfb');
  }
  /** The cgroup of its processes, and of the CRIU that restores them. */
  get cgroup(): string {
    return this.#cgroups.pathOf('plain');
  }
  get images(): string {
    return join(this.#work, 'images');
  }

  /** @param prefix what every command of `criu` begins with */
  static async start(
    command: string[],
    env: Record<string, string>,
    { folder = '/var/tmp', prefix = [] }: { folder?: string; prefix?: readonly string[] } = {},
  ): Promise<PlainCapsule> {
    const work = await mkdtemp(join(folder, 'torpor-bench-'));
    const cgroups = await Cgroups.find(`bench-${process.pid}`);
    const cgroup = await cgroups.make('plain');
    const run = join(work, 'run');
    for (const name of ['screen', 'bus']) await mkdir(join(run, name), { recursive: true, mode: 0o700 });
    await mkdir(join(run, 'session'), { recursive: true });
    await mkdir(join(work, 'root'));
    await chown(join(run, 'screen'), 0, 0);
    await writeFile(join(run, 'session', 'openbox.xml'), windowManagerConfig);
    await writeFile(join(run, 'session', 'bus.conf'), sessionBusConfig);
    const user = { uid: 0, gid: 0, groups: [0], name: 'root', home: '/root', shell: '/bin/sh' };
    const capsule = {
      command,
      cwd: '/',
      env,
      root: '/',
      user,
      hostMounts: [],
      hostname: 'bench',
      geometry: '1280x800',
    };
    const spec = encodeSpec(
      {
        version: 1,
        kind: 'capsule',
        id: 'plain',
        name: 'plain',
        startedAt: '',
        capsule,
        status: { kind: 'starting' },
      },
      run,
      cgroup,
      installation,
    );
    await writeFile(join(work, 'spec'), spec, { mode: 0o600 });
    const { stdout } = await runCommand(installation.capsuleTool, ['start', join(work, 'spec')]);
    const init = await identify((JSON.parse(stdout) as { pid: number }).pid);
    if (init === undefined) throw new Error(`the capsule did not start: ${stdout}`);
    return new PlainCapsule(work, prefix, cgroups, init);
  }

  async dump(leaveRunning: boolean): Promise<PlainDump> {
    await rm(this.images, { recursive: true, force: true });
    await mkdir(this.images);
    const pids = await this.#cgroups.pids('plain');
    const startedAt = performance.now();
    const freed = leaveRunning ? startedAt : memoryFreed(pids);
    await this.#criu(installation.criu, [
      ...[
        'dump',
        '--tree',
        String(this.#init.pid),
        '--images-dir',
        this.images,
        '--log-file',
        'dump.log',
        ...switches,
      ],
      ...[
        '--external',
        'mnt[/run/torpor]:torpor',
        '--freeze-cgroup',
        this.#cgroups.pathOf('plain'),
        '--link-remap',
      ],
      ...['--ghost-limit', '268435456', ...(leaveRunning ? ['--leave-running'] : [])],
    ]);
    const dumpedAt = performance.now();
    const names = await readdir(this.images);
    await Promise.all(names.map((name) => syncFile(join(this.images, name))));
    await syncFolder(this.images);
    const syncedAt = performance.now();
    if (!leaveRunning) await waitGone(this.#init, 10_000);
    const { stdout } = await runCommand('du', ['-sb', this.images]);
    return {
      dumpMs: dumpedAt - startedAt,
      freeMs: (await freed) - startedAt,
      syncMs: syncedAt - dumpedAt,
      bytes: Number.parseInt(stdout, 10),
    };
  }

  /** @returns milliseconds. */
  async restore(options: readonly string[] = []): Promise<number> {
    for (const socket of [this.screen, join(this.#work, 'run', 'bus', 'session')])
      await rm(socket, { force: true });
    const cgroup = this.#cgroups.pathOf('plain');
    const root = join(this.#work, 'root');
    const startedAt = performance.now();
    await this.#criu(installation.capsuleTool, [
      ...['with-root', '/', root, '--cgroup', cgroup, '--', installation.criu],
      ...[
        'restore',
        '--restore-detached',
        '--images-dir',
        this.images,
        '--log-file',
        'restore.log',
        ...switches,
        ...options,
      ],
      ...['--root', root, '--external', `mnt[torpor]:${join(this.#work, 'run')}`],
    ]);
    const took = performance.now() - startedAt;
    const pids = await this.#cgroups.pids('plain');
    // The first process of its pid namespace is the oldest of them.
    const inits = await Promise.all(pids.map(identify));
    const init = inits
      .filter((each) => each !== undefined)
      .sort((a, b) => Number(a.startTime) - Number(b.startTime) || a.pid - b.pid)[0];
    if (init === undefined) throw new Error('nothing was restored');
    this.#init = init;
    return took;
  }

  /**
   * Restores it with CRIU's own daemon, which gives it its memory while it runs already.
   * @returns milliseconds until it ran, and a promise of the time at which all of its memory was there.
   */
  async restoreLazily(): Promise<{ restoreMs: number; resident: Promise<number> }> {
    const startedAt = performance.now();
    const daemon = this.#spawn(installation.criu, [
      ...['lazy-pages', '--images-dir', this.images, '--log-file', 'lazy-pages.log', '-v4'],
    ]);
    const resident = once(daemon, 'close').then(([status]: unknown[]) => {
      if (status !== 0) throw new Error(`criu lazy-pages ended with ${status}`);
      return performance.now();
    });
    resident.catch(() => {});
    const socket = join(this.images, 'lazy-pages.socket');
    while (!existsSync(socket) && daemon.exitCode === null) await sleep(1);
    try {
      await this.restore(['--lazy-pages']);
    } catch (error) {
      daemon.kill('SIGKILL');
      throw error;
    }
    return { restoreMs: performance.now() - startedAt, resident };
  }

  /** Ends all of its processes, as a dump would. */
  async end(): Promise<void> {
    await this.#cgroups.kill('plain');
    await waitGone(this.#init, 5000);
  }

  #spawn(program: string, args: readonly string[]): ChildProcess {
    const [first = program, ...rest] = [...this.#prefix, program, ...args];
    return spawn(first, rest, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, LD_PRELOAD: installation.rlimitPreload, CRIU_LIBS_DIR: '/proc/self/task' },
    });
  }

  #criu(program: string, args: string[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const child = this.#spawn(program, args);
      let said = '';
      child.stderr?.on('data', (text: Buffer) => {
        said += text.toString();
      });
      child.once('error', reject);
      child.once('close', (code) =>
        code === 0 ? resolve() : reject(new Error(`criu ended with ${code}: ${said}`)),
      );
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.#cgroups.remove('plain');
    await this.#cgroups.removeAll();
    for (let round = 0; round < 20; round++) {
      const removed = await rm(this.#work, { recursive: true, force: true }).then(
        () => true,
        () => false,
      );
      if (removed) break;
      await sleep(100);
    }
    await rmdir(this.#work).catch(() => {});
  }
}
