/**
 * What the bridge has carried across for one capsule and is still held outside: what a suspend must let go of, and a
 * resume must bring back or end. It is kept in the snapshot, so everything in it has a limit.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { z } from 'zod';
import type { HeldPipe } from './held-pipe.ts';
import { limits, longestName, longestPath } from './policy.ts';

const client = z.string().max(longestName);
const text = z.string().max(limits.text);
const path = z.string().max(longestPath);
const number = z.number().int().nonnegative();

/** Something is kept from happening, by a program inside. What it is called outside is different after each resume. */
const inhibitorSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('cookie'),
    client,
    service: z.string().max(100),
    path,
    interface: z.string().max(100),
    member: z.string().max(40),
    signature: z.enum(['ss', 'susu']),
    values: z.array(z.union([text, number])).max(4),
    /** By which the application knows it. */
    cookie: number,
  }),
  z.object({ kind: z.literal('request'), client, path, flags: number, reason: text }),
  z.object({
    kind: z.literal('descriptor'),
    values: z.array(text).length(4),
    /** Where the application has it: processes as it numbers them itself, and their descriptors. */
    held: z.array(z.object({ pid: number, fd: number })).max(8),
    /** The application's pipe, which is another after a resume. */
    inode: number.optional(),
  }),
]);
export type Inhibitor = z.infer<typeof inhibitorSchema>;

const held = z.object({ path, client });
/** What is more than the limit is left out: all else can still be brought back. */
const upTo = <T extends z.ZodType>(most: number, each: T) =>
  z.array(each).transform((all) => all.slice(0, most));

export const stateSchema = z.object({
  version: z.literal(1),
  inhibitors: upTo(limits.inhibitors, inhibitorSchema),
  notifications: upTo(limits.notifications, number),
  requests: upTo(limits.requests, held),
  prompts: upTo(limits.requests, held),
  secretSessions: upTo(limits.secretSessions, held),
  /** Players that were playing. */
  playing: upTo(limits.players, z.string().max(255)),
});
export type State = z.infer<typeof stateSchema>;

/** The same while it runs: what is shown may be shown still, to whom it was sent. */
export const keptSchema = stateSchema.extend({
  shown: upTo(
    limits.notifications,
    z.object({ number, outside: number, owner: z.string().max(longestName).optional() }),
  ),
});
export type KeptState = z.infer<typeof keptSchema>;

export const emptyState: State = {
  version: 1,
  inhibitors: [],
  notifications: [],
  requests: [],
  prompts: [],
  secretSessions: [],
  playing: [],
};

/** The state of a snapshot; what is not of this form was not written here. @throws Error */
export function parseState(bytes: Uint8Array): State {
  if (bytes.length === 0) return emptyState;
  return stateSchema.parse(JSON.parse(Buffer.from(bytes).toString()));
}

export function encodeState(state: State): Buffer {
  return Buffer.from(JSON.stringify(state));
}

/** Something outside that is as old as the program there that has it. */
export interface Outlived {
  owner: string | undefined;
}

/** An inhibitor with what holds it outside at present; nothing where it could not be taken. */
export interface HeldInhibitor {
  what: Inhibitor;
  outside:
    | (Outlived &
        (
          | { kind: 'cookie'; cookie: number }
          | { kind: 'request'; path: string }
          | { kind: 'descriptor'; fd: number }
        ))
    | undefined;
  /** Of what is held by a descriptor: ends when the application has closed its own. */
  pipe?: HeldPipe;
}

/** Something that a program inside waits for. */
export interface Awaited extends Outlived {
  client: string;
  /** It has ended outside, and the program has not been told yet. */
  hasEnded?: boolean;
}

export interface ShownNotification extends Outlived {
  /** Its number outside. */
  outside: number;
  /** It has been closed for this reason, and the application has not been told yet. */
  closed?: number;
}

export interface SecretSession {
  client: string;
  outside: (Outlived & { path: string }) | undefined;
}

/** What has a limit, and may be asked for more than once at a time. */
type Limited = 'inhibitors' | 'notifications' | 'requests' | 'prompts' | 'secretSessions';
const most: Readonly<Record<Limited, number>> = {
  inhibitors: limits.inhibitors,
  notifications: limits.notifications,
  requests: limits.requests,
  prompts: limits.requests,
  secretSessions: limits.secretSessions,
};

export class Carried {
  readonly inhibitors: Set<HeldInhibitor>;
  /** By the number that the application has been given. */
  readonly notifications: Map<number, ShownNotification>;
  /** By the path that the application knows: who has asked. */
  readonly requests: Map<string, Awaited>;
  readonly prompts: Map<string, Awaited>;
  readonly secretSessions: Map<string, SecretSession>;
  /** Those sent through the portal that may still be shown, the latest last. Nobody tells when one is closed. */
  readonly #portalNotifications = new Map<string, string>();
  /** Places for what is being asked for outside. */
  readonly #reserved: Record<Limited, number> = {
    ...{ inhibitors: 0, notifications: 0, requests: 0, prompts: 0, secretSessions: 0 },
  };

  /** @param changed is told of whatever is a change of {@link state}. */
  constructor(changed: () => void = () => {}) {
    this.inhibitors = new WatchedSet(changed);
    this.notifications = new WatchedMap(changed);
    this.requests = new WatchedMap(changed);
    this.prompts = new WatchedMap(changed);
    this.secretSessions = new WatchedMap(changed);
  }

  /** A place for one more, to be given back when that is there or has come to nothing; undefined where all are taken. */
  reserve(kind: Limited): Disposable | undefined {
    if (this[kind].size + this.#reserved[kind] >= most[kind]) return undefined;
    this.#reserved[kind]++;
    return { [Symbol.dispose]: () => void this.#reserved[kind]-- };
  }

  /** A number that is nobody's and cannot be guessed from others. */
  newNumber(): number {
    for (;;) {
      const number = randomInt(1, 2 ** 31);
      if (!this.notifications.has(number) && this.byCookie(number) === undefined) return number;
    }
  }

  newSessionPath(): string {
    return `/org/freedesktop/secrets/session/${randomBytes(12).toString('hex')}`;
  }

  byCookie(cookie: number): HeldInhibitor | undefined {
    return [...this.inhibitors].find(({ what }) => what.kind === 'cookie' && what.cookie === cookie);
  }

  byOutsideNotification(outside: number): number | undefined {
    return [...this.notifications].find(
      ([, each]) => each.outside === outside && each.closed === undefined,
    )?.[0];
  }

  /** A program has sent this through the portal, under a name that it has chosen. The oldest are forgotten. */
  notePortalNotification(client: string, id: string): void {
    const all = this.#portalNotifications;
    all.delete(`${client} ${id}`);
    all.set(`${client} ${id}`, id);
    const [oldest] = all.keys();
    if (all.size > limits.notifications && oldest !== undefined) all.delete(oldest);
  }

  forgetPortalNotification(client: string, id: string): void {
    this.#portalNotifications.delete(`${client} ${id}`);
  }

  get portalNotifications(): string[] {
    return [...this.#portalNotifications.values()];
  }

  /** Forgets what a program that has left held; its connection outside goes with it. */
  forgetClient(name: string): void {
    // What is held by a descriptor is whoever's has that.
    for (const each of this.inhibitors)
      if (each.what.kind !== 'descriptor' && each.what.client === name) this.inhibitors.delete(each);
    for (const map of [this.requests, this.prompts, this.secretSessions])
      for (const [path, each] of map) if (each.client === name) map.delete(path);
  }

  /** What a resume needs. Each list has its limit: the state must be readable, whatever has happened. */
  state(playing: readonly string[] = []): State {
    const pairs = (map: ReadonlyMap<string, { client: string }>, limit: number) =>
      [...map].slice(0, limit).map(([path, { client }]) => ({ path, client }));
    return {
      version: 1,
      inhibitors: [...this.inhibitors].slice(0, most.inhibitors).map(({ what }) => what),
      notifications: [...this.notifications.keys()].slice(0, most.notifications),
      requests: pairs(this.requests, most.requests),
      prompts: pairs(this.prompts, most.prompts),
      secretSessions: pairs(this.secretSessions, most.secretSessions),
      playing: playing.slice(0, limits.players),
    };
  }

  keptState(): KeptState {
    const shown = [...this.notifications].flatMap(([number, { outside, owner, closed }]) =>
      closed === undefined ? [{ number, outside, owner }] : [],
    );
    return { ...this.state(), shown: shown.slice(0, most.notifications) };
  }

  clear(): void {
    this.inhibitors.clear();
    for (const map of [this.notifications, this.requests, this.prompts, this.secretSessions]) map.clear();
    this.#portalNotifications.clear();
  }
}

class WatchedSet<T> extends Set<T> {
  readonly #changed: () => void;
  constructor(changed: () => void) {
    super();
    this.#changed = changed;
  }
  override add(value: T): this {
    super.add(value);
    this.#changed();
    return this;
  }
  override delete(value: T): boolean {
    const had = super.delete(value);
    if (had) this.#changed();
    return had;
  }
  override clear(): void {
    super.clear();
    this.#changed();
  }
}

class WatchedMap<K, V> extends Map<K, V> {
  readonly #changed: () => void;
  constructor(changed: () => void) {
    super();
    this.#changed = changed;
  }
  override set(key: K, value: V): this {
    super.set(key, value);
    this.#changed();
    return this;
  }
  override delete(key: K): boolean {
    const had = super.delete(key);
    if (had) this.#changed();
    return had;
  }
  override clear(): void {
    super.clear();
    this.#changed();
  }
}
