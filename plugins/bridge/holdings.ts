/**
 * What is held outside for one capsule: it is released for a suspend, taken again after a resume and where a service has
 * come back, and where something has ended outside the program inside that waits for it is told.
 */
import { closeSync } from 'node:fs';
import { answerIn, closeDescriptors } from './bus.ts';
import type {
  Awaited,
  Carried,
  HeldInhibitor,
  Inhibitor,
  KeptState,
  Outlived,
  SecretSession,
  State,
} from './carried.ts';
import type { Client } from './client.ts';
import type { Clients, Outside } from './clients.ts';
import type { Faces } from './faces.ts';
import { HeldPipe } from './held-pipe.ts';
import { type Addressed, type Message, newCall, newSignal, readBody, type Value } from './message.ts';
import { type Service, serviceNames, services } from './policy.ts';
import { callToRelease, callToTake, followPipe, releaseDescriptor } from './treatments.ts';
import { within } from './under-way.ts';

const releaseLimitMs = 1000;
const takeLimitMs = 3000;
/** Reasons of NotificationClosed (Desktop Notifications Specification). */
const closedByCall = 3;
const closedUndefined = 4;
/** Response of a portal's request that has ended in some other way than by its user. */
const endedOtherwise = 2;

type Again = { kind: 'inhibitor'; held: HeldInhibitor } | { kind: 'session'; held: SecretSession };

export class Holdings {
  readonly #outside: Outside;
  readonly #carried: Carried;
  readonly #clients: Clients;
  readonly #faces: Faces;
  /** What is being taken again. It must not be taken twice: only the second would be known, and ever be released. */
  readonly #taking = new Map<HeldInhibitor | SecretSession, Promise<void>>();

  constructor(outside: Outside, carried: Carried, clients: Clients, faces: Faces) {
    this.#outside = outside;
    this.#carried = carried;
    this.#clients = clients;
    this.#faces = faces;
  }

  /* ---- releasing ---- */

  /** Releases all of it outside, and waits for that a little. What was held is still known. */
  async release(): Promise<void> {
    const ask = (to: Addressed, signature: string, value: Value) =>
      this.#outside.session?.bus?.invoke(to, signature, [value], releaseLimitMs).catch(() => {});
    const close = {
      ...notificationsAt,
      destination: serviceNames.notifications,
      member: 'CloseNotification',
    };
    const shown = [...this.#carried.notifications.values()].flatMap(({ outside, closed }) =>
      closed === undefined ? [ask(close, 'u', outside)] : [],
    );
    const sent = this.#carried.portalNotifications.map((id) => ask(takeBack, 's', id));
    const held = [...this.#carried.inhibitors].map((each) => this.#releaseOne(each));
    await Promise.all([...shown, ...sent, ...held]);
  }

  async #releaseOne(held: HeldInhibitor): Promise<void> {
    releaseDescriptor(held);
    const call = callToRelease(held);
    if (call === undefined || held.what.kind === 'descriptor') return;
    await this.#tell(this.#clients.of(held.what.client), call);
  }

  async #tell(client: Client | undefined, call: Message): Promise<void> {
    await this.#clients.callAs(client, call, releaseLimitMs).then(closeDescriptors, () => {});
  }

  /** A program has left: what it held ends, as it would have outside. */
  async releaseOf(client: Client): Promise<void> {
    const held = [...this.#carried.inhibitors].filter(
      ({ what }) => what.kind !== 'descriptor' && what.client === client.name,
    );
    this.#carried.forgetClient(client.name);
    await Promise.all(
      held.map(async (each) => {
        const call = callToRelease(each);
        if (call !== undefined) await this.#tell(client, call);
      }),
    );
  }

  /** All connections have ended, and nothing is known of it any more. */
  drop(): void {
    for (const each of this.#carried.inhibitors) releaseDescriptor(each);
    this.#carried.clear();
  }

  /* ---- taking again ---- */

  /**
   * Begins with what there was when the bridge was last here.
   * @param pids processes of the capsule, as the host counts.
   * @param isThere whether a program is still on the bus inside: of others nothing is taken again.
   */
  async expect(
    state: State | KeptState,
    pids: readonly number[],
    isThere: (client: string) => Promise<boolean>,
  ): Promise<void> {
    const { notifications, requests, prompts, secretSessions, inhibitors } = this.#carried;
    const shown = 'shown' in state ? state.shown : [];
    for (const { number, outside, owner } of shown)
      if (!notifications.has(number)) notifications.set(number, { outside, owner });
    for (const number of state.notifications)
      if (!notifications.has(number))
        notifications.set(number, { outside: 0, owner: undefined, closed: closedByCall });
    const ended = { owner: undefined, hasEnded: true };
    for (const { path, client } of state.requests)
      if (!requests.has(path)) requests.set(path, { client, ...ended });
    for (const { path, client } of state.prompts)
      if (!prompts.has(path)) prompts.set(path, { client, ...ended });
    for (const { path, client } of state.secretSessions)
      if (!secretSessions.has(path)) secretSessions.set(path, { client, outside: undefined });
    for (const what of state.inhibitors) {
      const held = this.#expected(what, pids);
      if (held === undefined) continue;
      inhibitors.add(held);
      if (held.pipe !== undefined) followPipe(this.#carried, held);
    }
    for (const service of services) {
      const outside = this.#outside[service.side];
      if (outside?.isReady) this.noteOwner(service, outside.ownerOf(service.name));
      this.tellEnded(service.name);
    }
    await this.#dropAbsent(isThere);
    await this.#takeAgain(services.map(({ name }) => name));
  }

  /** Nothing where it is known already, or the application has let go of it. */
  #expected(what: Inhibitor, pids: readonly number[]): HeldInhibitor | undefined {
    const others = [...this.#carried.inhibitors];
    if (what.kind === 'cookie' && this.#carried.byCookie(what.cookie) !== undefined) return undefined;
    if (what.kind === 'request' && others.some((each) => isRequestAt(each, what.path))) return undefined;
    if (what.kind !== 'descriptor') return { what, outside: undefined };
    const { inode, held } = what;
    const pipe = HeldPipe.reopen(inode === undefined ? held : HeldPipe.holders(inode, pids), pids);
    if (pipe === undefined) return undefined;
    if (others.some((each) => each.pipe?.inode === pipe.inode)) {
      pipe.close();
      return undefined;
    }
    return { what: { ...what, inode: pipe.inode }, outside: undefined, pipe };
  }

  async #dropAbsent(isThere: (client: string) => Promise<boolean>): Promise<void> {
    const clients = new Set([
      ...[...this.#carried.inhibitors].flatMap(({ what }) =>
        what.kind === 'descriptor' ? [] : [what.client],
      ),
      ...[...this.#carried.secretSessions.values()].map(({ client }) => client),
    ]);
    for (const name of clients) if (!(await isThere(name))) this.#carried.forgetClient(name);
  }

  /** Services whose inhibitors could not be taken again. */
  get missing(): string[] {
    return [...this.#carried.inhibitors].flatMap(({ what, outside }) =>
      outside === undefined ? [serviceOf(what)] : [],
    );
  }

  /** What was held at these services is taken again there, as far as it is not held. It waits for that a little. */
  async #takeAgain(names: readonly string[]): Promise<void> {
    const inhibitors = [...this.#carried.inhibitors]
      .filter(({ what }) => names.includes(serviceOf(what)))
      .map((held): Again => ({ kind: 'inhibitor', held }));
    const sessions = names.includes(serviceNames.secrets) ? [...this.#carried.secretSessions.values()] : [];
    const all = [...inhibitors, ...sessions.map((held): Again => ({ kind: 'session', held }))];
    await within(takeLimitMs, Promise.all(all.map((each) => this.#take(each).catch(() => {}))));
  }

  async #take(each: Again): Promise<void> {
    const { held } = each;
    // Who is asked may have ended meanwhile, without an answer or after it.
    await this.#taking.get(held)?.catch(() => {});
    const side = each.kind === 'inhibitor' && each.held.what.kind === 'descriptor' ? 'system' : 'session';
    const name = each.kind === 'inhibitor' ? serviceOf(each.held.what) : serviceNames.secrets;
    const owner = this.#outside[side]?.ownerOf(name);
    if (held.outside !== undefined && owner !== undefined && held.outside.owner !== owner) lose(each);
    if (held.outside !== undefined || !this.#isHeld(each)) return;
    const taking =
      this.#taking.get(held) ??
      (each.kind === 'inhibitor' ? this.#takeInhibitor(each.held) : this.#openSession(each.held));
    this.#taking.set(held, taking);
    const forget = () => {
      if (this.#taking.get(held) === taking) this.#taking.delete(held);
    };
    await taking.finally(forget);
  }

  #isHeld(each: Again): boolean {
    if (each.kind === 'inhibitor') return this.#carried.inhibitors.has(each.held);
    return [...this.#carried.secretSessions.values()].includes(each.held);
  }

  async #takeInhibitor(held: HeldInhibitor): Promise<void> {
    const { what } = held;
    const call = callToTake(what);
    if (what.kind === 'descriptor') {
      const reply = answerIn(call, await this.#outside.system?.bus?.exchange(call));
      const [fd] = reply.fds.splice(0, 1);
      closeDescriptors(reply);
      if (fd === undefined) return;
      held.outside = { kind: 'descriptor', fd, owner: reply.sender };
      if (!this.#carried.inhibitors.has(held)) releaseDescriptor(held);
      return;
    }
    const client = this.#clients.of(what.client);
    const reply = await this.#clients.callAs(client, call);
    closeDescriptors(reply);
    const owner = reply.sender;
    held.outside =
      what.kind === 'cookie'
        ? { kind: 'cookie', cookie: Number(readBody(reply)[0]), owner }
        : { kind: 'request', path: what.path, owner };
    if (this.#carried.inhibitors.has(held)) return;
    // The application has released it in the meantime, or has left.
    const release = callToRelease(held);
    if (release !== undefined && client?.isOver === false) await this.#tell(client, release);
  }

  async #openSession(session: SecretSession): Promise<void> {
    const to = {
      destination: serviceNames.secrets,
      path: '/org/freedesktop/secrets',
      interface: 'org.freedesktop.Secret.Service',
      member: 'OpenSession',
    };
    const call = newCall(to, 'sv', ['plain', { signature: 's', value: '' }]);
    const reply = await this.#clients.callAs(this.#clients.of(session.client), call);
    closeDescriptors(reply);
    session.outside = { path: String(readBody(reply)[1]), owner: reply.sender };
  }

  /* ---- what ends outside ---- */

  /** A service has come, gone, or is another program now: what that one held for us is gone. */
  noteOwner(service: Service, owner: string | undefined): void {
    const isGone = (each: Outlived | undefined) => each !== undefined && each.owner !== owner;
    const { inhibitors, notifications, requests, prompts, secretSessions } = this.#carried;
    for (const held of inhibitors)
      if (serviceOf(held.what) === service.name && isGone(held.outside)) lose({ kind: 'inhibitor', held });
    if (service.name === serviceNames.notifications) {
      for (const [number, each] of [...notifications])
        if (each.closed === undefined && isGone(each))
          notifications.set(number, { ...each, closed: closedUndefined });
    }
    const endAll = (map: Map<string, Awaited>) => {
      for (const [path, each] of [...map]) if (isGone(each)) map.set(path, { ...each, hasEnded: true });
    };
    if (service.name === serviceNames.portal) endAll(requests);
    if (service.name === serviceNames.secrets) {
      endAll(prompts);
      for (const held of secretSessions.values()) if (isGone(held.outside)) lose({ kind: 'session', held });
    }
    this.tellEnded(service.name);
  }

  /** A service is there: what was held at it is taken again. */
  async noteComing(service: Service): Promise<void> {
    await this.#takeAgain([service.name]);
  }

  /** Nobody outside holds anything for us any more, and those who wait are told. */
  endAll(): void {
    const { notifications, requests, prompts } = this.#carried;
    for (const [number, each] of [...notifications])
      notifications.set(number, { ...each, closed: each.closed ?? closedByCall });
    for (const map of [requests, prompts])
      for (const [path, each] of [...map]) map.set(path, { ...each, hasEnded: true });
    for (const { name } of services) this.tellEnded(name);
  }

  /** Tells the programs inside what has ended of a service, where that is to be had there. Otherwise it waits. */
  tellEnded(service: string): void {
    if (!this.#faces.has(service)) return;
    const { notifications, requests, prompts } = this.#carried;
    if (service === serviceNames.notifications) {
      for (const [number, { closed }] of [...notifications]) {
        if (closed === undefined) continue;
        notifications.delete(number);
        const from = { ...notificationsAt, member: 'NotificationClosed' };
        this.#faces.say(service, newSignal(from, 'uu', [number, closed]));
      }
    }
    if (service === serviceNames.portal) {
      for (const [path, { client, hasEnded }] of [...requests]) {
        if (hasEnded !== true) continue;
        requests.delete(path);
        const from = { path, interface: 'org.freedesktop.portal.Request', member: 'Response' };
        this.#faces.say(service, newSignal({ ...from, destination: client }, 'ua{sv}', [endedOtherwise, []]));
      }
    }
    if (service === serviceNames.secrets) {
      for (const [path, { client, hasEnded }] of [...prompts]) {
        if (hasEnded !== true) continue;
        prompts.delete(path);
        const from = { path, interface: 'org.freedesktop.Secret.Prompt', member: 'Completed' };
        const nothing = { signature: 's', value: '' };
        this.#faces.say(service, newSignal({ ...from, destination: client }, 'bv', [true, nothing]));
      }
    }
  }
}

/** The same with where the programs inside have what a descriptor holds: its pipe is another after a resume. */
export function withHolders(state: State, pids: readonly number[]): State {
  const inhibitors = state.inhibitors.map((what): Inhibitor => {
    if (what.kind !== 'descriptor' || what.inode === undefined) return what;
    const { inode, ...rest } = what;
    return { ...rest, held: HeldPipe.holders(inode, pids) };
  });
  return { ...state, inhibitors };
}

const takeBack = {
  destination: serviceNames.portal,
  path: '/org/freedesktop/portal/desktop',
  interface: 'org.freedesktop.portal.Notification',
  member: 'RemoveNotification',
} as const;

const notificationsAt = {
  path: '/org/freedesktop/Notifications',
  interface: serviceNames.notifications,
} as const;

/** What held it has ended outside. */
function lose({ held }: Again): void {
  if (held.outside !== undefined && 'fd' in held.outside) closeSync(held.outside.fd);
  held.outside = undefined;
}

const isRequestAt = ({ what }: HeldInhibitor, path: string) => what.kind === 'request' && what.path === path;

function serviceOf(what: Inhibitor): string {
  if (what.kind === 'cookie') return what.service;
  return what.kind === 'request' ? serviceNames.portal : serviceNames.loginManager;
}
