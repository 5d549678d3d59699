/** An engine with the plugin, an application in a capsule, and a job; and the plugin as the engine reaches it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Message } from '@jellybrick/dbus-next';
import { BusConnection } from '../../api/connection.ts';
import type { PluginDescription, PluginWorkload } from '../../api/plugin-types.ts';
import type { PluginMethods } from '../../api/plugin1.ts';
import type { Finding, PluginInfo, PluginReport, Snapshot, Workload } from '../../api/types.ts';
import { ConnectedPlugin, PluginFailure } from '../../engine/plugin-host/connected-plugin.ts';
import { TestEngine } from '../support/engine.ts';
import { type TypedJob, typeInShell } from '../support/job.ts';
import type { Subject } from './subject.ts';
import { type Surroundings, sessionOf } from './surroundings.ts';

/** What the engine grants a plugin for all its calls of one suspend or resume; see engine/torpord.ts. */
export const operationLimitMs = 10_000;
/** So that an operation, which has several calls, has time to spare on a slower machine. */
export const callLimitMs = 5000;

/** How long an application may take, on a busy machine, until it holds what it is to hold. */
const holdLimitMs = 30_000;

/** An application that does nothing, for as long as any test takes. */
const idle = 'exec sleep 100000';

const forMs = (ms: number) => `${(ms / 1000).toFixed(1)} s`;

/** A line of the engine's log about a plugin. */
interface LogLine {
  /** ISO 8601. */
  time: string;
  msg: string;
  plugin: string;
  uid?: number;
  pid?: number;
  why?: string;
}

export class Scene implements AsyncDisposable {
  readonly subject: Subject;
  readonly engine: TestEngine;
  readonly #surroundings: Surroundings;
  readonly #folder: string;
  readonly #times = new Map<string, number>();
  #job: TypedJob | undefined;
  #kind: 'capsule' | 'job' | undefined;
  #another: string | undefined;
  readonly #ids = new Map<'capsule' | 'job', string>();

  private constructor(subject: Subject, surroundings: Surroundings, engine: TestEngine, folder: string) {
    this.subject = subject;
    this.#surroundings = surroundings;
    this.engine = engine;
    this.#folder = folder;
  }

  static async create(subject: Subject, surroundings: Surroundings): Promise<Scene> {
    const folder = await mkdtemp('/var/tmp/torpor-plugin-');
    const { file } = subject.entry;
    if (subject.isGivenByFile) await copyFile(file, join(folder, basename(file)));
    // Where the session is of root's, another user's plugin has no business.
    const foreign = subject.user.uid === 0 ? {} : { DBUS_SESSION_BUS_ADDRESS: '', XDG_RUNTIME_DIR: '' };
    const engine = await TestEngine.create({
      env: { ...foreign, ...surroundings.env, ...(subject.isGivenByFile ? { TORPOR_PLUGINS: folder } : {}) },
    });
    return new Scene(subject, surroundings, engine, folder);
  }

  get name(): string {
    return this.subject.entry.name;
  }

  /** A command that has to succeed, and in which the plugin has to do its part. @throws Error with what went wrong. */
  async operate<T>(...args: string[]): Promise<T> {
    const [command = '', ...rest] = args;
    const { length } = await this.log();
    const outcome = await this.engine.run([command, '--json', ...rest]);
    if (outcome.code !== 0) throw new Error(`\`torpor ${command}\` failed: ${sentenceIn(outcome.stdout)}`);
    const result = JSON.parse(outcome.stdout) as T;
    const all = [result].flat() as { findings?: Finding[] }[];
    const told = all
      .flatMap(({ findings = [] }) => findings)
      .filter(({ by, what }) => by === this.name && /^The plugin .*(failed|did not do its part): /.test(what))
      .map(({ what }) => what);
    const logged = (await this.log())
      .slice(length)
      .flatMap(({ msg, why }) => (why ? [`${msg}: ${why}`] : []));
    if (told.length + logged.length > 0)
      throw new Error(`In \`torpor ${command}\`: ${[...told, ...logged].join('; ')}`);
    return result;
  }

  /** What the engine has written about the plugin. */
  async log(): Promise<LogLine[]> {
    const text = await readFile(join(this.engine.paths.stateDir, 'log/torpord.log'), 'utf8').catch(() => '');
    return text
      .split('\n')
      .filter((line) => line.includes(this.name))
      .map((line) => JSON.parse(line) as LogLine)
      .filter(({ plugin }) => plugin === this.name);
  }

  /** Has the engine start it, and says what the engine then says of it. @throws Error where that cannot use it. */
  async report(): Promise<PluginInfo> {
    const { uid } = this.subject.user;
    // Root starts the engine.
    if ((await this.engine.pid()) === undefined) await this.engine.json('ps');
    const { stdout } = await this.engine.run(['plugins', '--json'], uid === 0 ? {} : { uid });
    const info = (JSON.parse(stdout) as PluginReport).plugins.find((each) => each.name === this.name);
    if (info === undefined) throw new Error(`The engine does not find it: ${stdout}`);
    if (info.problem !== undefined) throw new Error(`The engine cannot use it: ${info.problem}.`);
    return info;
  }

  /** Pid of the program that has registered last. */
  async pid(): Promise<number> {
    const last = (await this.log()).findLast(({ msg }) => msg === 'plugin registered');
    return last?.pid ?? 0;
  }

  /** Which kind of workload has work for it. */
  async kind(): Promise<'capsule' | 'job'> {
    if (this.#kind === undefined) {
      await using plugin = await this.direct();
      const { kinds } = await plugin.call('describe', 1);
      this.#kind = kinds.includes('capsule') ? 'capsule' : 'job';
    }
    return this.#kind;
  }

  get seesWhatIsHeld(): boolean {
    return this.#surroundings.held !== undefined;
  }

  /** What a workload has now of what the plugin is for, as seen from outside; empty where that cannot be seen. */
  async held(workload: PluginWorkload): Promise<string> {
    if (workload.kind !== (await this.kind())) return '';
    return (await this.#surroundings.held?.(workload)) ?? '';
  }

  /** Waits until it has something, where that can be seen. */
  async holding(workload: PluginWorkload): Promise<string> {
    if (!this.seesWhatIsHeld) return '';
    for (const limit = Date.now() + holdLimitMs; Date.now() < limit; await sleep(100)) {
      const held = await this.held(workload);
      if (held !== '') return held;
    }
    throw new Error(`The application holds nothing ${forMs(holdLimitMs)} after it was asked for.`);
  }

  /** A workload of one kind, which runs. */
  async workload(kind: 'capsule' | 'job'): Promise<Workload> {
    const known = this.#ids.get(kind);
    const found = known === undefined ? undefined : await this.engine.workload(known).catch(() => undefined);
    if (found?.state === 'running') return found;
    if (found?.state === 'suspended') await this.engine.json('resume', found.id);
    else {
      // Known before, since how a program is started that stays goes by what the user's session is then.
      await this.report();
      const id = await (kind === 'capsule'
        ? this.#startCapsule(await this.#application(kind))
        : this.#adoptJob());
      this.#ids.set(kind, id);
      if (kind === (await this.kind())) await this.#surroundings.prepare?.(await this.told(kind));
    }
    return this.engine.workload(this.#ids.get(kind) ?? '');
  }

  /** A second one of the kind that has work for the plugin, which has none for it. */
  async another(): Promise<PluginWorkload> {
    const kind = await this.kind();
    if (this.#another === undefined || !(await this.#runs(this.#another)))
      this.#another = await (kind === 'capsule' ? this.#startCapsule(idle) : this.#adoptJob());
    return this.#toldOf(await this.engine.workload(this.#another));
  }

  /** Ends all but the one that has work for the plugin. */
  async endOthers(): Promise<void> {
    const kept = this.#ids.get(await this.kind());
    for (const { id, state } of await this.engine.json<Workload[]>('ps'))
      if (id !== kept && state === 'running') await this.operate('end', id);
  }

  async #runs(id: string): Promise<boolean> {
    const found = await this.engine.workload(id).catch(() => undefined);
    return found?.state === 'running';
  }

  /** Of the kind that has work for the plugin it is the one that was given. */
  async #application(kind: 'capsule' | 'job'): Promise<string> {
    return kind === (await this.kind()) ? (this.#surroundings.application ?? idle) : idle;
  }

  async #startCapsule(command: string): Promise<string> {
    const { name } = this.subject.user;
    return (await this.engine.start(['sh', '-c', command], '--user', name)).id;
  }

  /** By its first suspend. */
  async #adoptJob(): Promise<string> {
    const snapshot = await this.operate<Snapshot>('suspend', `${await this.typeJob()}`);
    await this.operate('resume', snapshot.workload);
    return snapshot.workload;
  }

  /** A job that the engine knows nothing of. @returns its pid. */
  async typeJob(): Promise<number> {
    await this.#job?.[Symbol.asyncDispose]();
    const { uid } = this.subject.user;
    const command = await this.#application('job');
    this.#job = await typeInShell(`sh -c ${quoted(command)}`, uid === 0 ? {} : { uid });
    return this.#job.pid;
  }

  /** A workload as a plugin is told of it. */
  async told(kind: 'capsule' | 'job'): Promise<PluginWorkload> {
    return this.#toldOf(await this.workload(kind));
  }

  #toldOf({ id, name, kind, command, pids }: Workload): PluginWorkload {
    const runFolder = join(this.engine.paths.runDir, 'capsules', id);
    return {
      id,
      name,
      kind,
      command,
      pids,
      ...(kind === 'capsule' ? { runFolder } : {}),
      leaveRunning: false,
      copy: false,
    };
  }

  /** The plugin as it is on the bus now, called directly. */
  async direct(): Promise<DirectPlugin> {
    await this.report();
    const pid = await this.pid();
    const busAddress = `unix:path=${this.engine.paths.busSocket}`;
    const connection = await BusConnection.open(busAddress);
    const ask = async (member: string, ...body: string[]) => {
      const message = new Message({ ...busDaemon, member, signature: body.length > 0 ? 's' : '', body });
      return (await connection.call(message)).body[0] as unknown;
    };
    for (const address of (await ask('ListNames')) as string[]) {
      if (!address.startsWith(':')) continue;
      if ((await ask('GetConnectionUnixProcessID', address).catch(() => 0)) !== pid) continue;
      const { name, subject } = this;
      const plugin = new ConnectedPlugin(busAddress, { name, uid: subject.user.uid, address, pid });
      // It may have other connections beside.
      const answers = await plugin.describe(callLimitMs).then(
        () => true,
        () => false,
      );
      if (answers) return new DirectPlugin(connection, plugin, this.#times);
    }
    await connection[Symbol.asyncDispose]();
    throw new Error('No connection of its program answers Describe.');
  }

  /** Its program, started by the test as the engine would; the caller ends it. */
  async startProgram(): Promise<ChildProcess> {
    const { entry, user } = this.subject;
    await this.engine.json('ps');
    const [program = '', ...args] = entry.exec;
    const before = (await this.log()).length;
    const child = spawn(program, args, {
      env: {
        ...(await sessionOf(user, this.#surroundings.env)),
        ...entry.environment,
        TORPOR_BUS_ADDRESS: `unix:path=${this.engine.paths.busSocket}`,
      },
      stdio: 'ignore',
      cwd: '/',
      ...(user.uid === 0 ? {} : { uid: user.uid, gid: user.gid }),
    });
    const registered = async () =>
      (await this.log()).slice(before).some(({ msg }) => msg === 'plugin registered');
    for (const limit = Date.now() + operationLimitMs; Date.now() < limit && !(await registered()); )
      await sleep(100);
    if (await registered()) return child;
    child.kill('SIGKILL');
    throw new Error(`It did not register within ${forMs(operationLimitMs)}.`);
  }

  /** How long the slowest call of each method took. */
  get times(): string {
    return [...this.#times].map(([method, ms]) => `${method} ${forMs(ms)}`).join(', ');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#job?.[Symbol.asyncDispose]();
    await this.engine[Symbol.asyncDispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

const busDaemon = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};

export class DirectPlugin implements AsyncDisposable {
  readonly #connection: BusConnection;
  readonly #plugin: ConnectedPlugin;
  readonly #times: Map<string, number>;

  constructor(connection: BusConnection, plugin: ConnectedPlugin, times: Map<string, number>) {
    this.#connection = connection;
    this.#plugin = plugin;
    this.#times = times;
  }

  get pid(): number {
    return this.#plugin.pid;
  }

  /** A call as the engine makes it, with its checks of the answer. @throws PluginFailure, whose message is a sentence. */
  async call<M extends keyof PluginMethods>(
    method: M,
    ...args: Parameters<PluginMethods[M]>
  ): Promise<Awaited<ReturnType<PluginMethods[M]>>> {
    const startedAt = performance.now();
    try {
      return await this.#plugin.call(method, args, callLimitMs);
    } finally {
      const ms = performance.now() - startedAt;
      this.#times.set(method, Math.max(ms, this.#times.get(method) ?? 0));
    }
  }

  /** A call that may be answered by an error, but has to be answered, by a program that lives on. */
  async survives<M extends keyof PluginMethods>(
    method: M,
    ...args: Parameters<PluginMethods[M]>
  ): Promise<void> {
    const failure = await this.call(method, ...args).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (failure !== undefined && !(failure instanceof PluginFailure && / failed: /.test(failure.message)))
      throw failure;
    await this.isAlive(`after ${method}${failure === undefined ? '' : ` (${(failure as Error).message})`}`);
  }

  /** @throws Error where it does not answer. */
  async isAlive(when: string): Promise<PluginDescription> {
    return this.#plugin.call('describe', [1], callLimitMs).catch((error: unknown) => {
      throw new Error(`It does not answer any more ${when}: ${(error as Error).message}.`);
    });
  }

  /** A call of a form that the interface does not have. @returns whether it was answered by an error. */
  async refuses(member: string, signature: string, body: unknown[]): Promise<boolean> {
    const message = new Message({
      destination: this.#plugin.address,
      path: '/io/github/torpor/Plugin1',
      interface: 'io.github.torpor.Plugin1',
      member,
      signature,
      body,
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), callLimitMs);
    });
    const answered = this.#connection.call(message).then(
      () => false,
      () => true,
    );
    return Promise.race([answered, late]).finally(() => clearTimeout(timer));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}

/** As one word of a shell. */
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

function sentenceIn(stdout: string): string {
  try {
    return (JSON.parse(stdout) as { error: { message: string } }).error.message;
  } catch {
    return stdout;
  }
}
