/**
 * A system bus and a real log-in manager of a test's own, where every program looks for them: below /run, in a mount
 * namespace in which an engine and jobs can be started.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { vi } from 'vitest';
import { end } from './programs.ts';

const run = promisify(execFile);
const logind = '/lib/systemd/systemd-logind';
const socket = '/run/dbus/system_bus_socket';
const configFile = '/run/dbus/test.conf';
const packaged = new URL('../../packaging/dbus', import.meta.url).pathname;

/** As a distribution's: no user may own a name or call what nobody has allowed, and root may do all. */
const config = `<busconfig><type>system</type><listen>unix:path=${socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/><allow send_type="signal"/>
<allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
<allow receive_type="signal"/><allow send_destination="org.freedesktop.login1"/>
<allow send_destination="org.freedesktop.DBus"/>
<deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Debug.Stats"/>
<allow own_prefix="io.github.torpor.Test"/><allow send_destination_prefix="io.github.torpor.Test"/></policy>
<policy user="root"><allow own="*"/><allow send_destination="*"/></policy>
<include>${packaged}/io.github.torpor.Engine1.conf</include>
<servicedir>/run/dbus/services</servicedir>
<include ignore_missing="yes">/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include></busconfig>`;

export interface ListedInhibitor {
  what: string;
  who: string;
  why: string;
  mode: string;
  pid: number;
}

export class SystemServices implements AsyncDisposable {
  /** What every command in it is started by. */
  readonly prefix: readonly string[];
  readonly #holder: ChildProcess;
  readonly #started: ChildProcess[] = [];
  #bus: ChildProcess | undefined;
  #logind: ChildProcess | undefined;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
    this.prefix = ['nsenter', `--mount=/proc/${holder.pid}/ns/mnt`, '--'];
  }

  static async create(): Promise<SystemServices> {
    const script =
      'mkdir -p /run/dbus /run/systemd && mount -t tmpfs -o mode=755 tmpfs /run/dbus && ' +
      'mount -t tmpfs -o mode=755 tmpfs /run/systemd && echo ready && exec sleep 100000';
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: '/',
    });
    await once(holder.stdout, 'data');
    const services = new SystemServices(holder);
    await writeFile(services.seen(configFile), config);
    await services.startBus();
    return services;
  }

  /** A program in it, which is ended with it. */
  async start(command: readonly string[], uid = 0, env: NodeJS.ProcessEnv = process.env) {
    const [program = '', ...args] = [...this.prefix, ...asUser(uid), ...command];
    const child = spawn(program, args, { stdio: 'ignore', detached: true, cwd: '/', env });
    this.#started.push(child);
    await once(child, 'spawn');
    return child;
  }

  /** The same as from a log-in: with nothing open of whoever started it, or of other mounts. */
  startJob(command: readonly string[], uid = 0, env: NodeJS.ProcessEnv = process.env): Promise<ChildProcess> {
    const script =
      'import os, sys; os.closerange(0, 1024); [os.open("/dev/null", os.O_RDWR) for each in range(3)]; ' +
      'os.execvp(sys.argv[1], sys.argv[1:])';
    return this.start(['/usr/bin/python3', '-c', script, ...command], uid, env);
  }

  /** What a command of a user's in it is started by. */
  commandAs(uid: number): string[] {
    return [...this.prefix, ...asUser(uid)];
  }

  async startBus(): Promise<void> {
    await rm(this.seen(socket), { force: true });
    this.#bus = await this.start(['dbus-daemon', '--nofork', `--config-file=${configFile}`]);
    await soon(async () => {
      if (!existsSync(this.seen(socket))) throw new Error('there is no bus yet');
    });
  }

  async endBus(): Promise<void> {
    await end(this.#bus);
  }

  async startLogind(): Promise<void> {
    this.#logind = await this.start([logind]);
    await soon(() => this.inhibitors());
  }

  async endLogind(): Promise<void> {
    await end(this.#logind);
  }

  async inhibitors(): Promise<ListedInhibitor[]> {
    const target = ['org.freedesktop.login1', '/org/freedesktop/login1', 'org.freedesktop.login1.Manager'];
    const said = await this.run('busctl', ['--system', '--json=short', 'call', ...target, 'ListInhibitors']);
    const { data } = JSON.parse(said) as { data: [[string, string, string, string, number, number][]] };
    return data[0].map(([what, who, why, mode, , pid]) => ({ what, who, why, mode, pid }));
  }

  call(...args: string[]): Promise<string> {
    return this.run('gdbus', ['call', '--system', ...args]);
  }

  /** Where a file of it is seen from outside. */
  readonly seen = (path: string) => `/proc/${this.#holder.pid}/root${path}`;

  /** Runs a program in it to its end, and returns what it has printed. @throws Error where it fails. */
  async run(program: string, args: readonly string[]): Promise<string> {
    const [first = '', ...rest] = [...this.prefix, program, ...args];
    return (await run(first, rest)).stdout.trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#started.splice(0).reverse()) await end(child);
    await end(this.#holder);
  }
}

const asUser = (uid: number) =>
  uid === 0 ? [] : ['setpriv', '--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', '--'];

const soon = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 30_000, interval: 50 });

/** What a process has open, by what each descriptor leads to. */
export async function hasOpen(pid: number, what: RegExp): Promise<boolean> {
  const { stdout } = await run('ls', ['-l', `/proc/${pid}/fd`]);
  return what.test(stdout);
}
