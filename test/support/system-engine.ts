/**
 * The default engine on a system bus of a test's own: its folders and its cgroup are in the mount namespace of that bus, so
 * that neither another one nor an engine of this machine gets in the way.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { vi } from 'vitest';
import { defaultStateDir } from '../../api/paths.ts';
import { readMounts } from '../../engine/mounts.ts';
import { killIfThere, type Outcome, program } from './engine.ts';
import { SystemServices } from './login-manager.ts';
import { end } from './programs.ts';

const runDir = '/run/torpor';
const torpord = new URL('../../build/torpord.mjs', import.meta.url).pathname;
const fixture = new URL('../fixtures/power_services.py', import.meta.url).pathname;
const activation = new URL('../../packaging/dbus/io.github.torpor.Engine1.service', import.meta.url).pathname;
const python = '/usr/bin/python3';

export class SystemEngine implements AsyncDisposable {
  readonly services: SystemServices;
  /** All cgroups of its engine are in it. */
  readonly #cgroup: string;
  #engine: ChildProcess | undefined;

  private constructor(services: SystemServices, cgroup: string) {
    this.services = services;
    this.#cgroup = cgroup;
  }

  /** With a bus, and without an engine yet. */
  static async create(): Promise<SystemEngine> {
    const services = await SystemServices.create();
    const mounted = (await readMounts()).find(({ type }) => type === 'cgroup2')?.path ?? '/sys/fs/cgroup';
    const cgroup = join(mounted, `torpor-test-${process.pid}-${Date.now()}`);
    await mkdir(cgroup);
    const script = [
      `mkdir -p ${defaultStateDir} ${runDir}`,
      `mount -t tmpfs -o mode=700 tmpfs ${defaultStateDir}`,
      `mount -t tmpfs -o mode=755 tmpfs ${runDir}`,
      `mount --bind ${cgroup} ${mounted}`,
      'touch /run/dbus/console',
      'mount --bind /run/dbus/console /dev/console',
    ].join(' && ');
    await services.run('sh', ['-c', script]);
    return new SystemEngine(services, cgroup);
  }

  /** Starts the engine, by whatever else. */
  async start(...before: string[]): Promise<void> {
    const env = { ...process.env, TORPOR_STATE_DIR: '', UV_THREADPOOL_SIZE: '64' };
    this.#engine = await this.services.start([...before, process.execPath, torpord], 0, env);
    await this.soon(async () => {
      await readFile(this.#address);
    });
  }

  /** Has the bus start the engine when somebody calls it, as a package has it. */
  async startWhenCalled(): Promise<void> {
    const packaged = await readFile(activation, 'utf8');
    const folder = this.services.seen('/run/dbus/services');
    await mkdir(folder, { recursive: true });
    // By the program of this checkout, and without the systemd that would have the unit.
    const own = packaged
      .replace(/^Exec=.*$/m, `Exec=/usr/bin/env UV_THREADPOOL_SIZE=64 ${process.execPath} ${torpord}`)
      .replace(/^SystemdService=.*$/m, '');
    await writeFile(join(folder, 'engine.service'), own);
    const bus = ['--dest', 'org.freedesktop.DBus', '--object-path', '/org/freedesktop/DBus'];
    await this.services.call(...bus, '--method', 'org.freedesktop.DBus.ReloadConfig');
  }

  /** Ends the engine, and leaves what it has started. */
  async stop(): Promise<void> {
    const there = await readFile(this.#address, 'utf8').catch(() => '{}');
    const { pid = 0 } = JSON.parse(there) as { pid?: number };
    // One that the bus has started is not this program's child.
    const isOwn = pid === this.#engine?.pid;
    if (pid !== 0 && !isOwn) killIfThere(pid, 'SIGTERM');
    await end(this.#engine, 'SIGTERM');
    // One that had to be killed has left it.
    if (isOwn) await rm(this.#address, { force: true });
    await this.soon(async () => {
      if (existsSync(this.#address)) throw new Error('the engine is still there');
    });
  }

  get #address(): string {
    return this.services.seen(join(runDir, 'engine.json'));
  }

  /** Runs `torpor` to its end. */
  torpor(args: readonly string[], uid = 0): Promise<Outcome> {
    const [first = '', ...rest] = [...this.services.commandAs(uid), program, ...args];
    return new Promise((resolve, reject) => {
      const child = spawn(first, rest, {
        cwd: '/',
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, TORPOR_STATE_DIR: '' },
      });
      const outcome: Outcome = { code: -1, stdout: '', stderr: '' };
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        outcome.stdout += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        outcome.stderr += text;
      });
      child.once('error', reject);
      child.once('close', (code) => resolve({ ...outcome, code: code ?? -1 }));
    });
  }

  async json<T>(args: readonly string[], uid = 0): Promise<T> {
    const [command = '', ...rest] = args;
    const outcome = await this.torpor([command, '--json', ...rest], uid);
    if (outcome.code !== 0)
      throw new Error(`torpor ${args.join(' ')}: ${JSON.stringify(outcome)}\n${await this.log()}`);
    return JSON.parse(outcome.stdout) as T;
  }

  log(): Promise<string> {
    return readFile(this.services.seen(join(defaultStateDir, 'log/torpord.log')), 'utf8').catch(() => '');
  }

  /** What was written to the machine's console. */
  console(): Promise<string> {
    return readFile(this.services.seen('/run/dbus/console'), 'utf8');
  }

  async clearConsole(): Promise<void> {
    await writeFile(this.services.seen('/run/dbus/console'), '');
  }

  /** A service that stands where the real one would (test/fixtures/power_services.py). */
  async standIn(which: 'systemd1' | 'login1' | 'upower'): Promise<StandIn> {
    const folder = `/run/dbus/${which}`;
    await mkdir(this.services.seen(folder), { recursive: true });
    const orders = join(folder, 'orders');
    const said = () => readFile(this.services.seen(join(folder, 'said')), 'utf8').catch(() => '');
    for (const file of ['orders', 'said']) await writeFile(this.services.seen(join(folder, file)), '');
    const child = await this.services.start([python, fixture, folder, which]);
    await this.soon(async () => {
      if (!(await said()).includes('ready')) throw new Error(`${which} is not there yet`);
    });
    return {
      said,
      order: (word) => appendFile(this.services.seen(orders), `${word}\n`),
      async [Symbol.asyncDispose]() {
        await end(child);
      },
    };
  }

  soon<T>(check: () => Promise<T>): Promise<T> {
    return vi.waitFor(check, { timeout: 40_000, interval: 50 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.services[Symbol.asyncDispose]();
    await endBelow(this.#cgroup);
  }
}

export interface StandIn extends AsyncDisposable {
  /** What it was asked for, line by line. */
  said(): Promise<string>;
  order(word: string): Promise<void>;
}

async function endBelow(cgroup: string): Promise<void> {
  for (const entry of await readdir(cgroup, { withFileTypes: true }).catch(() => []))
    if (entry.isDirectory()) await endBelow(join(cgroup, entry.name));
  for (let round = 0; round < 200; round++) {
    const text = await readFile(join(cgroup, 'cgroup.procs'), 'utf8').catch(() => '');
    const pids = text.split('\n').filter(Boolean).map(Number);
    if (pids.length === 0) break;
    for (const pid of pids) killIfThere(pid);
    await sleep(10);
  }
  await rmdir(cgroup).catch(() => {});
}
