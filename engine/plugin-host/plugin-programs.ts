/**
 * Which plugins there are for a user, on the bus or to be started, and the programs that the engine has started. A
 * plugin is its user's: another user's of the same name is another plugin.
 */
import { Message } from '@jellybrick/dbus-next';
import type { BusConnection } from '../../api/connection.ts';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import { pluginNamePattern } from '../../api/plugin-types.ts';
import { unlessAborted } from '../abort.ts';
import { findUserIfAny, type User } from '../capsule/users.ts';
import type { Logger } from '../log.ts';
import type { Caller } from '../workload/registry.ts';
import { ConnectedPlugin, PluginFailure } from './connected-plugin.ts';
import { type PluginFolders, problemSentence, readEntries } from './entries.ts';
import type { PluginEntry } from './entry.ts';
import type { PluginCgroups } from './plugin-cgroups.ts';
import { PluginProgram } from './program.ts';
import { hindrance } from './reachable.ts';
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

/** A program that runs, or is just being started. */
interface Started {
  program: Promise<PluginProgram>;
  uid: number;
  isResident: boolean;
  startedAt: number;
  usedAt: number;
}

const keyOf = ({ uid, name }: { uid: number; name: string }) => `${uid} ${name}`;
/** Most plugins of one user that may be on the bus at once. */
const mostPlugins = 50;
/** What was started for one operation is ended some time after it. */
const idleLimitMs = 120_000;
const idleCheckMs = 30_000;
/** So long a user's home folder is taken for known. */
const userMs = 60_000;

const dbus = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};

/** Those who wait for something to happen to a plugin. */
class Waiters {
  readonly #waiting = new Map<string, Set<() => void>>();

  /** @returns what stops waiting. */
  add(key: string, listener: () => void): () => void {
    const all = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, all.add(listener));
    return () => {
      all.delete(listener);
      if (all.size === 0 && this.#waiting.get(key) === all) this.#waiting.delete(key);
    };
  }

  tell(key: string): void {
    const all = this.#waiting.get(key);
    this.#waiting.delete(key);
    for (const listener of all ?? []) listener();
  }
}

export class PluginPrograms {
  readonly #folders: PluginFolders;
  readonly #sessions: UserSessions;
  readonly #cgroups: PluginCgroups;
  readonly #isBusy: (uid: number) => boolean;
  readonly #log: Logger;
  readonly #connected = new Map<string, ConnectedPlugin>();
  readonly #programs = new Map<string, Started>();
  readonly #come = new Waiters();
  readonly #left = new Waiters();
  readonly #users = new Map<number, { user: Promise<User>; askedAt: number }>();
  readonly #sweeper: NodeJS.Timeout;
  #connection: BusConnection | undefined;
  #busAddress = '';

  /** @param isBusy whether a user has a workload that runs. */
  constructor(
    folders: PluginFolders,
    sessions: UserSessions,
    cgroups: PluginCgroups,
    isBusy: (uid: number) => boolean,
    log: Logger,
  ) {
    this.#folders = folders;
    this.#sessions = sessions;
    this.#cgroups = cgroups;
    this.#isBusy = isBusy;
    this.#log = log;
    this.#sweeper = setInterval(() => this.#endIdle(), idleCheckMs).unref();
  }

  /** Plugins can register on this connection of the engine's, whose bus has this address. */
  attach(connection: BusConnection, address: string): void {
    this.#connection = connection;
    this.#busAddress = address;
    connection.bus.on('message', (message: Message) => this.#forgetLeaver(message));
  }

  /**
   * A program says that it is this plugin, for the workloads of the user who it runs as.
   * @throws TorporError `usage` for what is no name; `failed` where that plugin is there already.
   */
  async register({ uid, connection: address, pid = 0 }: Caller, name: string): Promise<void> {
    if (this.#connection === undefined || address === undefined) throw new Error('no bus');
    if (!pluginNamePattern.test(name)) {
      throw new TorporError(
        'usage',
        `"${name.slice(0, 80)}" is no name for a plugin.`,
        'It is a bus name, such as org.example.Plugin.',
      );
    }
    const key = keyOf({ uid, name });
    const there = this.#connected.get(key);
    if (there !== undefined && there.address !== address) {
      throw new TorporError(
        'failed',
        `The plugin ${name} is there already, as process ${there.pid}.`,
        'End that first.',
      );
    }
    if (there !== undefined) return;
    const own = [...this.#connected.values()].filter((each) => each.uid === uid);
    if (own.length >= mostPlugins)
      throw new TorporError('failed', `${mostPlugins} plugins of one user are enough.`, 'End some of them.');
    this.#connected.set(key, new ConnectedPlugin(this.#busAddress, { name, uid, address, pid }));
    // It may have left before it was entered here, and nobody would say so again.
    const owned = await this.#connection.call(
      new Message({ ...dbus, member: 'NameHasOwner', signature: 's', body: [address] }),
    );
    if (owned.body[0] !== true) {
      this.#forget(address);
      return;
    }
    this.#log.info({ plugin: name, uid, pid }, 'plugin registered');
    this.#come.tell(key);
  }

  #forgetLeaver(message: Message): void {
    if (message.sender !== 'org.freedesktop.DBus' || message.member !== 'NameOwnerChanged') return;
    const [address, , owner] = message.body as [string, string, string];
    if (owner === '') this.#forget(address);
  }

  #forget(address: string): void {
    for (const [key, plugin] of this.#connected) {
      if (plugin.address !== address) continue;
      this.#connected.delete(key);
      plugin.close();
      this.#log.info({ plugin: plugin.name, uid: plugin.uid }, 'plugin left');
      this.#left.tell(key);
    }
  }

  /** What there is for a user. */
  async known(user: User): Promise<KnownPlugins> {
    const { entries, problems } = await readEntries(this.#folders, await this.#asHere(user));
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

  /** A workload from another machine has that one's home folder: it is no place for a user's own programs. */
  async #asHere(other: User): Promise<User> {
    const { uid } = other;
    const known = this.#users.get(uid);
    if (known !== undefined && performance.now() - known.askedAt < userMs) return await known.user;
    const user = findUserIfAny(uid).then((found) => found ?? other);
    this.#users.set(uid, { user, askedAt: performance.now() });
    user.catch(() => this.#users.delete(uid));
    return await user;
  }

  connected(plugin: Pick<KnownPlugin, 'uid' | 'name'>): ConnectedPlugin | undefined {
    return this.#connected.get(keyOf(plugin));
  }

  /** Resolves when it is not on the bus. */
  async gone(plugin: Pick<KnownPlugin, 'uid' | 'name'>): Promise<void> {
    if (this.connected(plugin) === undefined) return;
    await new Promise<void>((resolve) => this.#left.add(keyOf(plugin), resolve));
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
    const key = keyOf(plugin);
    const used = this.#programs.get(key);
    if (used !== undefined) used.usedAt = Date.now();
    const there = this.connected(plugin);
    if (there !== undefined) return there;
    const { entry } = plugin;
    if (entry === undefined) throw new PluginFailure('it has left the bus', false);
    let stop = () => {};
    let timer: NodeJS.Timeout | undefined;
    const registered = new Promise<undefined>((resolve) => {
      stop = this.#come.add(key, () => resolve(undefined));
    });
    const late = new Promise<string>((resolve) => {
      const seconds = Math.round(limitMs / 100) / 10;
      timer = setTimeout(() => resolve(`it did not register within ${seconds} s`), limitMs);
    });
    const end = async () => {
      try {
        // One that has left the bus may be about to end.
        const { program, isNew } = this.#started(key, entry, user);
        const how = await (await program).ended;
        return isNew ? how : await (await this.#started(key, entry, user).program).ended;
      } catch (error) {
        return `its program does not start: ${sentenceOf(error)}`;
      }
    };
    try {
      const why = await unlessAborted(Promise.race([registered, end(), late]), signal);
      const come = this.connected(plugin);
      if (come !== undefined) return come;
      const hanging = this.#programs.get(key);
      // It is started anew the next time; but others may have just begun to wait for it.
      if (hanging !== undefined && Date.now() - hanging.startedAt >= limitMs) this.#end(hanging);
      throw new PluginFailure(why ?? 'it has left the bus', false);
    } finally {
      stop();
      clearTimeout(timer);
    }
  }

  /** The program of a plugin, which is started where it does not run. */
  #started(key: string, entry: PluginEntry, user: User): { program: Promise<PluginProgram>; isNew: boolean } {
    const running = this.#programs.get(key);
    if (running !== undefined) return { program: running.program, isNew: false };
    const program = this.#start(entry, user);
    const started = {
      program,
      uid: user.uid,
      isResident: entry.isResident,
      startedAt: Date.now(),
      usedAt: Date.now(),
    };
    this.#programs.set(key, started);
    const forget = () => {
      if (this.#programs.get(key) === started) this.#programs.delete(key);
    };
    program.then(({ ended }) => ended.then(forget), forget);
    return { program, isNew: true };
  }

  /** @throws Error where its user cannot run it. */
  async #start(entry: PluginEntry, of: User): Promise<PluginProgram> {
    const user = await this.#asHere(of);
    // Of others' files nobody is told but by their own rights.
    const why = entry.isOwn ? await hindrance(entry.exec, user) : undefined;
    if (why !== undefined) throw new Error(why);
    const environment = {
      ...(await this.#sessions.environmentOf(user)),
      ...entry.environment,
      TORPOR_BUS_ADDRESS: this.#busAddress,
    };
    const cgroup = await this.#cgroups.make(user.uid);
    const program = new PluginProgram(entry.exec, user, environment, cgroup);
    this.#log.info({ plugin: entry.name, uid: user.uid, pid: program.pid }, 'plugin started');
    void program.ended.then((how) =>
      this.#log.info({ plugin: entry.name, uid: user.uid, how }, 'plugin ended'),
    );
    return program;
  }

  #endIdle(): void {
    for (const { program, uid, isResident, usedAt } of this.#programs.values()) {
      if (Date.now() - usedAt < idleLimitMs || (isResident && this.#isBusy(uid))) continue;
      this.#end({ program });
    }
  }

  #end({ program }: Pick<Started, 'program'>): void {
    program.then((each) => each.end()).catch(() => {});
  }

  /** It hangs: where the engine has started it, it is ended, to be started anew when it is needed. */
  endHanging(plugin: Pick<KnownPlugin, 'uid' | 'name'>): void {
    const started = this.#programs.get(keyOf(plugin));
    if (started !== undefined) this.#end(started);
  }

  /** Whether this name on the bus is a plugin's. */
  isPlugin(address: string): boolean {
    return [...this.#connected.values()].some((plugin) => plugin.address === address);
  }

  /** Names of a user's plugins by their processes. */
  processes(uid: number): Map<number, string> {
    const own = [...this.#connected.values()].filter((each) => each.uid === uid);
    return new Map(own.map(({ pid, name }) => [pid, name]));
  }

  /** Ends all that the engine has started. */
  async end(): Promise<void> {
    clearInterval(this.#sweeper);
    const programs = await Promise.allSettled([...this.#programs.values()].map(({ program }) => program));
    await Promise.all(programs.map((each) => (each.status === 'fulfilled' ? each.value.end() : undefined)));
    await this.#cgroups.close();
  }
}
