/** The same kind of capsule, checkpointed and restored by `criu` itself with the options the engine would choose. */
import { spawn } from 'node:child_process';
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

const installation = findInstallation();
const switches = ['--file-locks', '--tcp-close', '--network-lock', 'skip', '--manage-cgroups=ignore', '-v4'];

export class PlainCapsule implements AsyncDisposable {
  readonly #work: string;
  readonly #cgroups: Cgroups;
  #init: ProcessIdentity;

  private constructor(work: string, cgroups: Cgroups, init: ProcessIdentity) {
    this.#work = work;
    this.#cgroups = cgroups;
    this.#init = init;
  }

  get screen(): string {
    return join(this.#work, 'run', 'screen', 'rfb');
  }
  get #images(): string {
    return join(this.#work, 'images');
  }

  static async start(command: string[], env: Record<string, string>): Promise<PlainCapsule> {
    const work = await mkdtemp('/var/tmp/torpor-bench-');
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
    return new PlainCapsule(work, cgroups, init);
  }

  /** @returns milliseconds of the dump and of making its images durable. */
  async dump(leaveRunning: boolean): Promise<{ dumpMs: number; syncMs: number; bytes: number }> {
    await rm(this.#images, { recursive: true, force: true });
    await mkdir(this.#images);
    const startedAt = performance.now();
    await this.#criu(installation.criu, [
      ...[
        'dump',
        '--tree',
        String(this.#init.pid),
        '--images-dir',
        this.#images,
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
    const names = await readdir(this.#images);
    await Promise.all(names.map((name) => syncFile(join(this.#images, name))));
    await syncFolder(this.#images);
    const syncedAt = performance.now();
    if (!leaveRunning) await waitGone(this.#init, 10_000);
    const { stdout } = await runCommand('du', ['-sb', this.#images]);
    return { dumpMs: dumpedAt - startedAt, syncMs: syncedAt - dumpedAt, bytes: Number.parseInt(stdout, 10) };
  }

  /** @returns milliseconds. */
  async restore(): Promise<number> {
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
        this.#images,
        '--log-file',
        'restore.log',
        ...switches,
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

  #criu(program: string, args: string[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const child = spawn(program, args, {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { ...process.env, LD_PRELOAD: installation.rlimitPreload, CRIU_LIBS_DIR: '/proc/self/task' },
      });
      let said = '';
      child.stderr.on('data', (text: Buffer) => {
        said += text.toString();
      });
      child.once('error', reject);
      child.once('close', (code) =>
        code === 0 ? resolve() : reject(new Error(`criu ended with ${code}: ${said}`)),
      );
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cgroups.kill('plain');
    await waitGone(this.#init, 5000);
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
