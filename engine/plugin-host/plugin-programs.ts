/**
 * Which plugins there are for a user, on the bus or to be started, and the programs that the engine has started. A
 * plugin is its user's: another user's of the same name is another plugin.
 */
import type { Message } from '@jellybrick/dbus-next';
import type { BusConnection } from '../../api/connection.ts';
import { TorporError } from '../../api/errors.ts';
import { pluginNamePattern } from '../../api/plugin-types.ts';
import { unlessAborted } from '../abort.ts';
import type { User } from '../capsule/users.ts';
import { treeBelow } from '../inspect/proc.ts';
import type { Logger } from '../log.ts';
import type { Caller } from '../workload/registry.ts';
import { ConnectedPlugin, PluginFailure } from './connected-plugin.ts';
import { type PluginFolders, problemSentence, readEntries } from './entries.ts';
import type { PluginEntry } from './entry.ts';
import { PluginProgram } from './program.ts';
import type { UserSessions } from './user-sessions.ts';

/** A plugin that could be called: it is there, or there is what starts it. */
export interface KnownPlugin {
  name: string;
  uid: number;
  entry: PluginEntry | undefined;
}

/** What a user's plugins are, and what is wrong with the files of those that are left out. */
export interface KnownPlugins {
  plugins: KnownPlugin[];
  problems: { sentence: string; required: string | undefined }[];
}

const keyOf = (uid: number, name: string) => `${uid} ${name}`;
/** Most plugins of one user that may be on the bus at once. */
const mostPlugins = 50;

export class PluginPrograms {
  readonly #folders: PluginFolders;
  readonly #sessions: UserSessions;
  readonly #log: Logger;
  readonly #connected = new Map<string, ConnectedPlugin>();
  readonly #programs = new Map<string, Promise<PluginProgram>>();
  readonly #waiting = new Map<string, (() => void)[]>();
  readonly #missed = new Map<string, (() => void)[]>();
  #connection: BusConnection | undefined;
  #busAddress = '';

  constructor(folders: PluginFolders, sessions: UserSessions, log: Logger) {
    this.#folders = folders;
    this.#sessions = sessions;
    this.#log = log;
  }

  /** Plugins can register on this connection of the engine's. */
  attach(connection: BusConnection): void {
    this.#connection = connection;
    connection.bus.on('message', (message: Message) => this.#forgetLeaver(message));
  }

  /** Where the programs that are started find the engine. */
  set busAddress(address: string) {
    this.#busAddress = address;
  }

  /**
   * A program says that it is this plugin, for the workloads of the user who it runs as.
   * @throws TorporError `usage` for what is no name; `failed` where that plugin is there already.
   */
  register({ uid, connection: address, pid = 0 }: Caller, name: string): void {
    const connection = this.#connection;
    if (connection === undefined || address === undefined) throw new Error('no bus');
    if (!pluginNamePattern.test(name)) {
      throw new TorporError(
        'usage',
        `"${name.slice(0, 80)}" is no name for a plugin.`,
        'It is a bus name, such as org.example.Plugin.',
      );
    }
    const key = keyOf(uid, name);
    const there = this.#connected.get(key);
    if (there !== undefined && there.address !== address) {
      throw new TorporError(
        'failed',
        `The plugin ${name} is there already, as process ${there.pid}.`,
        'End that first.',
      );
    }
    const own = [...this.#connected.values()].filter((each) => each.uid === uid);
    if (own.length >= mostPlugins)
      throw new TorporError('failed', `${mostPlugins} plugins of one user are enough.`, 'End some of them.');
    this.#connected.set(key, new ConnectedPlugin(connection, { name, uid, address, pid }));
    this.#log.info({ plugin: name, uid, pid }, 'plugin registered');
    for (const resolve of this.#waiting.get(key) ?? []) resolve();
    this.#waiting.delete(key);
  }

  #forgetLeaver(message: Message): void {
    if (message.sender !== 'org.freedesktop.DBus' || message.member !== 'NameOwnerChanged') return;
    const [address, , owner] = message.body as [string, string, string];
    if (owner !== '') return;
    for (const [key, plugin] of this.#connected) {
      if (plugin.address !== address) continue;
      this.#connected.delete(key);
      this.#log.info({ plugin: plugin.name, uid: plugin.uid }, 'plugin left');
      for (const resolve of this.#missed.get(key) ?? []) resolve();
      this.#missed.delete(key);
    }
  }

  /** What there is for a user. */
  async known(user: User): Promise<KnownPlugins> {
    const { entries, problems } = await readEntries(this.#folders, user);
    const plugins = new Map<string, KnownPlugin>(
      entries.map((entry) => [entry.name, { name: entry.name, uid: user.uid, entry }]),
    );
    for (const { name, uid } of this.#connected.values())
      if (uid === user.uid && !plugins.has(name)) plugins.set(name, { name, uid, entry: undefined });
    return {
      plugins: [...plugins.values()],
      problems: problems.map((each) => ({ sentence: problemSentence(each), required: each.required })),
    };
  }

  connected({ uid, name }: Pick<KnownPlugin, 'uid' | 'name'>): ConnectedPlugin | undefined {
    return this.#connected.get(keyOf(uid, name));
  }

  /** Resolves when it is not on the bus. */
  async gone(plugin: Pick<KnownPlugin, 'uid' | 'name'>): Promise<void> {
    if (this.connected(plugin) === undefined) return;
    const key = keyOf(plugin.uid, plugin.name);
    await new Promise<void>((resolve) => this.#missed.set(key, [...(this.#missed.get(key) ?? []), resolve]));
  }

  /**
   * The plugin on the bus, started where it is not there.
   * @throws PluginFailure where it does not come in time; the signal's reason.
   */
  async reach(
    plugin: KnownPlugin,
    user: User,
    limitMs: number,
    signal?: AbortSignal,
  ): Promise<ConnectedPlugin> {
    const there = this.connected(plugin);
    if (there !== undefined) return there;
    const { entry, name } = plugin;
    if (entry === undefined) throw new PluginFailure('it has left the bus', false);
    const key = keyOf(plugin.uid, name);
    const program = await this.#started(key, entry, user);
    const registered = new Promise<void>((resolve) =>
      this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), resolve]),
    );
    // It may have come while the program was started.
    const known = this.connected(plugin);
    if (known !== undefined) return known;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(
        () => resolve(`it did not register within ${Math.round(limitMs) / 1000} s`),
        limitMs,
      );
    });
    const why = await unlessAborted(Promise.race([registered, program.ended, late]), signal).finally(() =>
      clearTimeout(timer),
    );
    const come = this.connected(plugin);
    if (come !== undefined) return come;
    // One that hangs is started anew the next time.
    await program.end();
    throw new PluginFailure(why ?? 'it has left the bus', false);
  }

  /** The program of a plugin, which is started where it does not run. */
  #started(key: string, entry: PluginEntry, user: User): Promise<PluginProgram> {
    const running = this.#programs.get(key);
    if (running !== undefined) return running;
    const started = this.#start(entry, user);
    this.#programs.set(key, started);
    const forget = () => {
      if (this.#programs.get(key) === started) this.#programs.delete(key);
    };
    started.then((program) => program.ended.then(forget), forget);
    return started;
  }

  async #start(entry: PluginEntry, user: User): Promise<PluginProgram> {
    const environment = {
      ...(await this.#sessions.environmentOf(user)),
      TORPOR_BUS_ADDRESS: this.#busAddress,
    };
    const program = new PluginProgram(entry.exec, user, environment);
    this.#log.info({ plugin: entry.name, uid: user.uid, pid: program.pid }, 'plugin started');
    void program.ended.then((how) =>
      this.#log.info({ plugin: entry.name, uid: user.uid, how }, 'plugin ended'),
    );
    return program;
  }

  /** Whether this name on the bus is a plugin's. */
  isPlugin(address: string): boolean {
    return [...this.#connected.values()].some((plugin) => plugin.address === address);
  }

  /** Names of plugins by the processes that are theirs. */
  processes(): Map<number, string> {
    const all = [...this.#connected.values()].flatMap(({ pid, name }) =>
      [pid, ...treeBelow(pid)].map((each): [number, string] => [each, name]),
    );
    return new Map(all);
  }

  /** Ends all that the engine has started. */
  async end(): Promise<void> {
    await Promise.all([...this.#programs.values()].map(async (started) => (await started).end()));
  }
}
