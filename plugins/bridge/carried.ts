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
  }),
]);
export type Inhibitor = z.infer<typeof inhibitorSchema>;

const held = z.object({ path, client });

export const stateSchema = z.object({
  version: z.literal(1),
  inhibitors: z.array(inhibitorSchema).max(limits.inhibitors),
  notifications: z.array(number).max(limits.notifications),
  requests: z.array(held).max(limits.requests),
  prompts: z.array(held).max(limits.requests),
  secretSessions: z.array(held).max(limits.secretSessions),
  /** Players that were playing. */
  playing: z.array(z.string().max(255)).max(limits.players),
});
export type State = z.infer<typeof stateSchema>;

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
}

export interface SecretSession {
  client: string;
  outside: (Outlived & { path: string }) | undefined;
}

export class Carried {
  readonly inhibitors = new Set<HeldInhibitor>();
  /** By the number that the application has been given. */
  readonly notifications = new Map<number, Outlived & { outside: number }>();
  /** By the path that the application knows: who has asked. */
  readonly requests = new Map<string, Awaited>();
  readonly prompts = new Map<string, Awaited>();
  readonly secretSessions = new Map<string, SecretSession>();
  /** Notifications that were sent through the portal, whose names the application has chosen. */
  readonly portalNotifications = new Map<string, { client: string; id: string }>();

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
    return [...this.notifications].find(([, each]) => each.outside === outside)?.[0];
  }

  /** Forgets what a program that has left held; its connection outside goes with it. */
  forgetClient(name: string): void {
    // What is held by a descriptor is whoever's has that.
    for (const each of this.inhibitors)
      if (each.what.kind !== 'descriptor' && each.what.client === name) this.inhibitors.delete(each);
    for (const map of [this.requests, this.prompts, this.secretSessions])
      for (const [path, each] of map) if (each.client === name) map.delete(path);
  }

  state(playing: readonly string[]): State {
    const pairs = (map: ReadonlyMap<string, { client: string }>) =>
      [...map].map(([path, { client }]) => ({ path, client }));
    return {
      version: 1,
      inhibitors: [...this.inhibitors].map(({ what }) => what),
      notifications: [...this.notifications.keys()],
      requests: pairs(this.requests),
      prompts: pairs(this.prompts),
      secretSessions: pairs(this.secretSessions),
      playing: [...playing],
    };
  }

  clear(): void {
    this.inhibitors.clear();
    for (const map of [this.notifications, this.requests, this.prompts, this.secretSessions]) map.clear();
    this.portalNotifications.clear();
  }
}
