/**
 * The bridge of one capsule: it stands on the capsule's bus for the services of the user's session, each on a connection
 * of its own that has the service's name, and outside for the programs in the capsule, each on a connection of its own.
 */
import { closeSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bus, closeDescriptors } from './bus.ts';
import {
  Carried,
  type HeldInhibitor,
  type Inhibitor,
  type Outlived,
  type SecretSession,
  type State,
} from './carried.ts';
import { Client } from './client.ts';
import { HeldPipe } from './held-pipe.ts';
import {
  largestMessage,
  type Message,
  mapStrings,
  messageType,
  newCall,
  newError,
  newSignal,
  noReplyExpected,
  readBody,
  type Value,
} from './message.ts';
import type { OutsideBus } from './outside.ts';
import { Players } from './players.ts';
import { decide, hears, limits, longestName, type Service, type Side, services } from './policy.ts';
import type { SocketLoop } from './sockets.ts';
import {
  callToRelease,
  callToTake,
  errors,
  followPipe,
  type Passage,
  releaseDescriptor,
  treatments,
} from './treatments.ts';

const firstPauseMs = 20;
const longestPauseMs = 1000;
const releaseLimitMs = 1000;
const takeLimitMs = 3000;
/** RequestName: do not wait for the name (D-Bus specification). */
const doNotQueue = 4;
const isOwner = (result: Value | undefined) => result === 1 || result === 4;

const notifications = 'org.freedesktop.Notifications';
const portal = 'org.freedesktop.portal.Desktop';
const secrets = 'org.freedesktop.secrets';
const secretSession = '/org/freedesktop/secrets/session/';
/** Reasons of NotificationClosed (Desktop Notifications Specification). */
const closedByCall = 3;
const closedUndefined = 4;
/** Response of a portal's request that has ended in some other way than by its user. */
const endedOtherwise = 2;

export type Outside = Readonly<Partial<Record<Side, OutsideBus>>>;

export class Capsule {
  readonly id: string;
  readonly #socket: string;
  readonly #outside: Outside;
  readonly #loop: SocketLoop;
  readonly #carried = new Carried();
  readonly #faces = new Map<string, Bus>();
  readonly #clients = new Map<string, Client>();
  #lookout: Bus | undefined;
  #players: Players | undefined;
  #callsUnderWay = 0;
  #notifying = new Set<Promise<unknown>>();
  #wanted = false;
  #attaching: Promise<void> | undefined;
  /** Names are taken and let go of one after the other. */
  #order: Promise<unknown> = Promise.resolve();

  constructor(id: string, socket: string, outside: Outside, loop: SocketLoop) {
    this.id = id;
    this.#socket = socket;
    this.#outside = outside;
    this.#loop = loop;
  }

  get isAttached(): boolean {
    return this.#lookout?.isOpen === true;
  }

  /** How much is held outside at present. */
  get holds(): { inhibitors: number; notifications: number; requests: number } {
    const { inhibitors, notifications: shown, requests } = this.#carried;
    return { inhibitors: inhibitors.size, notifications: shown.size, requests: requests.size };
  }

  /* ---- coming and going ---- */

  /** Connects to the capsule's bus, as soon as it is there, and again where it is lost, until {@link detach}. */
  attach(): void {
    this.#wanted = true;
    this.#attaching ??= this.#keepAttached().finally(() => {
      this.#attaching = undefined;
    });
  }

  /** Waits until it is there, at most that long. */
  async attached(limitMs: number): Promise<boolean> {
    for (const limit = Date.now() + limitMs; !this.isAttached && Date.now() < limit; ) await sleep(10);
    await this.#order;
    return this.isAttached;
  }

  async #keepAttached(): Promise<void> {
    let pauseMs = firstPauseMs;
    while (this.#wanted) {
      try {
        const lookout = await Bus.openForeign(this.#socket, this.#loop);
        pauseMs = firstPauseMs;
        if (this.#wanted) await this.#lookOut(lookout);
        else await lookout.close();
      } catch {
        // It does not run yet, or no longer.
      }
      if (!this.#wanted) return;
      await sleep(pauseMs, undefined, { ref: false });
      pauseMs = Math.min(longestPauseMs, pauseMs * 2);
    }
  }

  async #lookOut(lookout: Bus): Promise<void> {
    this.#lookout = lookout;
    const players = new Players(lookout, this.#outside.session, this.id);
    this.#players = players;
    lookout.onMessage = (message) => this.#receiveLookout(message);
    try {
      await lookout.ask('AddMatch', 's', [
        "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'",
      ]);
      void this.#sync().then(() => this.#mark());
      const [names] = readBody(await lookout.ask('ListNames'));
      for (const name of names as string[]) {
        if (!name.startsWith('org.mpris.')) continue;
        const [owner] = readBody(await lookout.ask('GetNameOwner', 's', [name]));
        await players.noteOwner(name, String(owner));
      }
      await lookout.ended;
    } finally {
      lookout.abort();
      this.#lookout = undefined;
      await players.close();
      if (this.#wanted) await this.#letGo();
    }
  }

  /** Ends all connections, with what was held by them; what had come of it is forgotten. */
  async #letGo(): Promise<void> {
    await this.#inOrder(async () => {
      const clients = [...this.#clients.values()];
      this.#clients.clear();
      const faces = [...this.#faces.values()];
      this.#faces.clear();
      await Promise.all([...clients.map((each) => each.close()), ...faces.map((each) => each.close())]);
      for (const each of this.#carried.inhibitors) releaseDescriptor(each);
      this.#carried.clear();
    });
  }

  /**
   * Releases what is held outside and leaves the capsule's bus.
   * @param pids its processes, as the host counts.
   * @returns what {@link restore} needs.
   */
  async detach(pids: readonly number[]): Promise<State> {
    const playing = (await this.#players?.pause()) ?? [];
    // From here on nothing more is carried.
    this.#wanted = false;
    for (const { what, pipe } of this.#carried.inhibitors)
      if (what.kind === 'descriptor') what.held = pipe?.holders(pids) ?? what.held;
    const state = this.#carried.state(playing);
    await this.#release();
    await this.#lookout?.close();
    await this.#attaching;
    await this.#letGo();
    return state;
  }

  /** Leaves at once and for good: its workload has ended. */
  async end(): Promise<void> {
    await this.#release();
    this.#wanted = false;
    this.#lookout?.abort();
    await this.#letGo();
  }

  async #release(): Promise<void> {
    const session = this.#outside.session?.bus;
    const shown = [...this.#carried.notifications.values()].map(({ outside }) =>
      session
        ?.invoke(
          {
            destination: notifications,
            path: '/org/freedesktop/Notifications',
            interface: notifications,
            member: 'CloseNotification',
          },
          ...(['u', [outside], releaseLimitMs] as const),
        )
        .catch(() => {}),
    );
    const held = [...this.#carried.inhibitors].map(async (each) => {
      releaseDescriptor(each);
      const call = callToRelease(each);
      if (call === undefined || each.what.kind === 'descriptor') return;
      await this.#callAs(each.what.client, call, releaseLimitMs).catch(() => {});
    });
    const sent = [...this.#carried.portalNotifications.values()].map(({ client, id }) => {
      const to = {
        destination: portal,
        path: '/org/freedesktop/portal/desktop',
        interface: 'org.freedesktop.portal.Notification',
        member: 'RemoveNotification',
      };
      return this.#callAs(client, newCall(to, 's', [id]), releaseLimitMs).catch(() => {});
    });
    await Promise.all([...shown, ...held, ...sent]);
  }

  /** A call of the bridge in a program's name, on its connection outside. */
  async #callAs(name: string, call: Message, limitMs: number): Promise<Message> {
    const service = services.find((each) => each.name === call.destination);
    const outside = service && this.#outside[service.side];
    if (outside === undefined) throw new Error(`there is no ${call.destination ?? 'bus'}`);
    const client = this.#clientOf(name);
    if (client === undefined) throw new Error('too many programs');
    const bus = await client.connect(outside);
    const mapped = this.#toOutside(client, call);
    const reply = await bus.call(mapped, limitMs);
    closeDescriptors(reply);
    return reply;
  }

  /* ---- after a resume ---- */

  /**
   * Brings back what {@link detach} has let go of, and tells the application what has ended meanwhile.
   * @param plays whether the players go on that were playing.
   * @param pids its processes, as the host counts.
   * @returns sentences about what could not be brought back.
   */
  async restore(state: State, plays: boolean, pids: readonly number[]): Promise<string[]> {
    const lost: string[] = [];
    for (const number of state.notifications) this.#tellClosed(number, closedByCall);
    for (const { path, client } of state.requests) this.#tellRequest(path, client);
    for (const { path, client } of state.prompts) this.#tellPrompt(path, client);
    for (const { path, client } of state.secretSessions)
      this.#carried.secretSessions.set(path, { client, outside: undefined });
    for (const what of state.inhibitors) this.#expect(what, pids);
    await this.#dropAbsent();
    await this.#takeAgain(services.map(({ name }) => name));
    for (const { what, outside } of this.#carried.inhibitors)
      if (outside === undefined) lost.push(serviceOf(what));
    if (plays) await this.#players?.play(state.playing);
    return lost;
  }

  /** An inhibitor that is to be taken again, where the application still wants it. */
  #expect(what: Inhibitor, pids: readonly number[]): void {
    const held: HeldInhibitor = { what, outside: undefined };
    if (what.kind === 'descriptor') {
      const pipe = HeldPipe.reopen(what.held, pids);
      if (pipe === undefined) return;
      held.pipe = pipe;
      followPipe(this.#carried, held);
    }
    this.#carried.inhibitors.add(held);
  }

  /** Of programs that have not come back nothing is taken again. */
  async #dropAbsent(): Promise<void> {
    const owners = new Set([
      ...[...this.#carried.inhibitors].flatMap(({ what }) =>
        what.kind === 'descriptor' ? [] : [what.client],
      ),
      ...[...this.#carried.secretSessions.values()].map(({ client }) => client),
    ]);
    for (const name of owners) {
      const [isThere] = (await this.#lookout
        ?.ask('NameHasOwner', 's', [name])
        .then(readBody)
        .catch((): Value[] => [false])) ?? [false];
      if (isThere !== true) this.#carried.forgetClient(name);
    }
  }

  /** What was held at these services is taken again there, as far as it is not held. */
  async #takeAgain(names: readonly string[]): Promise<void> {
    const inhibitors = [...this.#carried.inhibitors].filter(
      (each) => each.outside === undefined && isOf(each, names),
    );
    const sessions = names.includes(secrets)
      ? [...this.#carried.secretSessions.values()].filter(({ outside }) => outside === undefined)
      : [];
    await Promise.all([
      ...inhibitors.map((each) => this.#takeInhibitor(each).catch(() => {})),
      ...sessions.map((each) => this.#openSecretSession(each).catch(() => {})),
    ]);
  }

  async #takeInhibitor(held: HeldInhibitor): Promise<void> {
    const { what } = held;
    if (what.kind === 'descriptor') {
      const reply = await this.#outside.system?.bus?.call(callToTake(what), takeLimitMs);
      const [fd] = reply?.fds.splice(0, 1) ?? [];
      if (reply === undefined || fd === undefined) return;
      closeDescriptors(reply);
      held.outside = { kind: 'descriptor', fd, owner: reply.sender };
      if (!this.#carried.inhibitors.has(held)) releaseDescriptor(held);
      return;
    }
    const reply = await this.#callAs(what.client, callToTake(what), takeLimitMs);
    const owner = reply.sender;
    held.outside =
      what.kind === 'cookie'
        ? { kind: 'cookie', cookie: Number(readBody(reply)[0]), owner }
        : { kind: 'request', path: what.path, owner };
    if (this.#carried.inhibitors.has(held)) return;
    // The application has released it in the meantime.
    const call = callToRelease(held);
    if (call !== undefined) await this.#callAs(what.client, call, releaseLimitMs);
  }

  async #openSecretSession(session: SecretSession): Promise<void> {
    const to = {
      destination: secrets,
      path: '/org/freedesktop/secrets',
      interface: 'org.freedesktop.Secret.Service',
      member: 'OpenSession',
    };
    const call = newCall(to, 'sv', ['plain', { signature: 's', value: '' }]);
    const reply = await this.#callAs(session.client, call, takeLimitMs);
    session.outside = { path: String(readBody(reply)[1]), owner: reply.sender };
  }

  #tellClosed(number: number, reason: number): void {
    const from = {
      path: '/org/freedesktop/Notifications',
      interface: notifications,
      member: 'NotificationClosed',
    };
    this.#carried.notifications.delete(number);
    this.#say(notifications, newSignal(from, 'uu', [number, reason]));
  }

  #tellRequest(path: string, client: string): void {
    const from = {
      destination: client,
      path,
      interface: 'org.freedesktop.portal.Request',
      member: 'Response',
    };
    this.#carried.requests.delete(path);
    this.#say(portal, newSignal(from, 'ua{sv}', [endedOtherwise, []]));
  }

  #tellPrompt(path: string, client: string): void {
    const from = {
      destination: client,
      path,
      interface: 'org.freedesktop.Secret.Prompt',
      member: 'Completed',
    };
    this.#carried.prompts.delete(path);
    this.#say(secrets, newSignal(from, 'bv', [true, { signature: 's', value: '' }]));
  }

  #say(service: string, message: Message): void {
    const face = this.#faces.get(service);
    if (face?.isOpen) face.send(message);
    else closeDescriptors(message);
  }

  /* ---- the services' names inside ---- */

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#order.then(work, work);
    this.#order = done.catch(() => {});
    return done;
  }

  /** Has the names inside of those services that there are outside. */
  #sync(): Promise<void> {
    return this.#inOrder(async () => {
      for (const service of services) {
        const isThere =
          this.#wanted && this.isAttached && this.#outside[service.side]?.has(service.name) === true;
        const face = this.#faces.get(service.name);
        if (isThere && !face?.isOpen) await this.#show(service).catch(() => {});
        if (!isThere && face !== undefined) {
          this.#faces.delete(service.name);
          await face.close();
        }
      }
    });
  }

  /** From now on nobody need wait for a name that is not there (engine/capsule/session-bus.ts). */
  async #mark(): Promise<void> {
    await writeFile(join(dirname(this.#socket), 'bridged'), '', { flag: 'wx' }).catch(() => {});
  }

  async #show(service: Service): Promise<void> {
    const face = await Bus.openForeign(this.#socket, this.#loop);
    face.onMessage = (message) => void this.#receiveCall(service, face, message);
    const [result] = readBody(await face.ask('RequestName', 'su', [service.name, doNotQueue]));
    // The application offers that itself: then it is its own.
    if (!isOwner(result)) return face.close();
    this.#faces.set(service.name, face);
    void face.ended.then(async () => {
      if (this.#faces.get(service.name) !== face) return;
      this.#faces.delete(service.name);
      await sleep(longestPauseMs, undefined, { ref: false });
      await this.#sync();
    });
  }

  /** A service outside has come, gone, or is another program now: what that one held for us is gone. */
  async serviceChanged(service: Service): Promise<void> {
    const owner = this.#outside[service.side]?.ownerOf(service.name);
    const isGone = (each: Outlived | undefined) => each !== undefined && each.owner !== owner;
    const { inhibitors, notifications: shown, requests, prompts, secretSessions } = this.#carried;
    for (const each of inhibitors) if (isOf(each, [service.name]) && isGone(each.outside)) loseOutside(each);
    if (service.name === notifications)
      for (const [number, each] of [...shown]) if (isGone(each)) this.#tellClosed(number, closedUndefined);
    if (service.name === portal)
      for (const [path, each] of [...requests]) if (isGone(each)) this.#tellRequest(path, each.client);
    if (service.name === secrets) {
      for (const [path, each] of [...prompts]) if (isGone(each)) this.#tellPrompt(path, each.client);
      for (const each of secretSessions.values()) if (isGone(each.outside)) each.outside = undefined;
    }
    await this.#sync();
    if (service.side === 'session') await this.#players?.show();
    if (owner !== undefined) await this.#takeAgain([service.name]);
  }

  /* ---- from inside ---- */

  #receiveLookout(message: Message): void {
    closeDescriptors(message);
    if (message.type === messageType.call) {
      this.#lookout?.send(newError(message, errors.denied, 'Nothing is called by this name.'));
    } else if (message.sender === 'org.freedesktop.DBus') {
      if (message.member !== 'NameOwnerChanged' || message.signature !== 'sss') return;
      const [name = '', , owner = ''] = readBody(message) as string[];
      if (name.startsWith(':') && owner === '') this.#forgetClient(name);
      else void this.#players?.noteOwner(name, owner).catch(() => {});
    } else this.#players?.passSignal(message);
  }

  #clientOf(name: string): Client | undefined {
    const there = this.#clients.get(name);
    if (there !== undefined || this.#clients.size >= limits.clients || name.length > longestName)
      return there;
    const client = new Client(name, (...args) => this.#receiveOwn(...args));
    this.#clients.set(name, client);
    return client;
  }

  /** A program has left the capsule's bus: what it held ends, as it would have outside. */
  #forgetClient(name: string): void {
    const client = this.#clients.get(name);
    if (client === undefined) return;
    this.#clients.delete(name);
    const held = [...this.#carried.inhibitors].filter(
      ({ what }) => what.kind !== 'descriptor' && what.client === name,
    );
    this.#carried.forgetClient(name);
    void Promise.all(
      held.map(async (each) => {
        const call = callToRelease(each);
        const service = services.find((one) => one.name === call?.destination);
        const outside = service && this.#outside[service.side];
        if (call === undefined || outside === undefined) return;
        const bus = await client.connect(outside);
        closeDescriptors(await bus.call(this.#toOutside(client, call), releaseLimitMs));
      }),
    )
      .catch(() => {})
      .finally(() => client.close());
  }

  async #receiveCall(service: Service, face: Bus, call: Message): Promise<void> {
    if (call.type !== messageType.call) {
      closeDescriptors(call);
      return;
    }
    let reply: Message;
    try {
      reply = await this.#answer(service, call);
    } catch (error) {
      reply = newError(call, errors.noReply, `${service.name} cannot be reached: ${String(error)}.`);
    }
    closeDescriptors(call);
    const isWanted = (call.flags & noReplyExpected) === 0 && face.isOpen;
    if (isWanted) face.send({ ...reply, destination: call.sender ?? '', replySerial: call.serial });
    else closeDescriptors(reply);
  }

  async #answer(service: Service, call: Message): Promise<Message> {
    if (!this.#wanted) return newError(call, errors.noReply, 'The application is about to be suspended.');
    if (isTooLarge(call))
      return newError(call, errors.limit, `Torpor passes on no message larger than ${largestMessage} bytes.`);
    const decision = decide(service, call, firstString(call));
    if (decision.kind === 'refused') return newError(call, errors.denied, decision.why);
    call.interface = decision.interface;
    const client = this.#clientOf(call.sender ?? '');
    if (client === undefined)
      return newError(
        call,
        errors.limit,
        `Torpor serves no more than ${limits.clients} programs of one capsule.`,
      );
    if (this.#callsUnderWay >= limits.callsUnderWay || client.callsUnderWay >= limits.callsUnderWayOfClient)
      return newError(call, errors.limit, 'Too many calls to services outside of the capsule are under way.');
    const outside = this.#outside[service.side];
    if (outside === undefined) return newError(call, errors.noReply, `There is no ${service.name}.`);
    client.callsUnderWay++;
    this.#callsUnderWay++;
    try {
      const passage: Passage = {
        ...{ carried: this.#carried, service, client: client.name, call },
        exchange: (passed) => this.#exchange(service, outside, client, passed),
      };
      const answer = treatments[decision.treatment](passage);
      if (decision.treatment !== 'notify') return await answer;
      // What comes of it may come before we know what it is called.
      this.#notifying.add(answer);
      return await answer.finally(() => this.#notifying.delete(answer));
    } finally {
      client.callsUnderWay--;
      this.#callsUnderWay--;
    }
  }

  async #exchange(service: Service, outside: OutsideBus, client: Client, call: Message): Promise<Message> {
    const bus = await client.connect(outside);
    const { sender, ...passed } = this.#toOutside(client, call);
    // From here on they are the connection's.
    call.fds = [];
    const reply = await bus.exchange({ ...passed, destination: service.name });
    if (reply === undefined)
      return newError(call, errors.noReply, `${service.name} has ended, or its bus has.`);
    if (isTooLarge(reply)) {
      closeDescriptors(reply);
      return newError(call, errors.limit, `Torpor passes on no message larger than ${largestMessage} bytes.`);
    }
    return { ...this.#toInside(reply, client), flags: noReplyExpected };
  }

  #toOutside(client: Client, message: Message): Message {
    const map = (text: string): string => {
      if (!text.startsWith(secretSession)) return client.toOutside(text);
      return this.#carried.secretSessions.get(text)?.outside?.path ?? text;
    };
    return withPath(mapStrings(message, map), map);
  }

  #toInside(message: Message, client: Client | undefined): Message {
    const map = (text: string): string => {
      if (!text.startsWith(secretSession)) return client?.toInside(text) ?? text;
      const found = [...this.#carried.secretSessions].find(([, { outside }]) => outside?.path === text);
      return found?.[0] ?? text;
    };
    return withPath(mapStrings(message, map), map);
  }

  /* ---- from outside ---- */

  /** Something was said to a program's own connection. */
  #receiveOwn(client: Client, side: Side, message: Message): void {
    const outside = this.#outside[side];
    const service = outside?.serviceOf(message.sender ?? '', message.path ?? '');
    if (message.type === messageType.signal && service !== undefined)
      void this.#hear(service, message, client).catch(() => {});
    else closeDescriptors(message);
    if (message.type === messageType.call && outside !== undefined)
      void client
        .connect(outside)
        .then((bus) => bus.send(newError(message, errors.denied, 'Nothing is called by this name.')))
        .catch(() => {});
  }

  /** A service has said something to everybody. */
  async broadcast(service: Service, message: Message): Promise<void> {
    await this.#hear(service, { ...message, fds: [] }, undefined);
  }

  async #hear(service: Service, message: Message, client: Client | undefined): Promise<void> {
    closeDescriptors(message);
    // What comes of our own leaving is told after the resume.
    if (!this.#wanted) return;
    const isPassed = !isTooLarge(message) && hears(service, message, firstString(message));
    if (!isPassed) return;
    const { sender, destination, ...said } = this.#toInside(message, client);
    if (service.name === notifications && said.interface === notifications)
      return this.#hearNotification(said);
    if (said.member === 'Response') this.#carried.requests.delete(said.path ?? '');
    if (said.member === 'Completed') this.#carried.prompts.delete(said.path ?? '');
    this.#say(service.name, client === undefined ? said : { ...said, destination: client.name });
  }

  /** Of notifications it hears what is about its own, by the numbers that it knows them by. */
  async #hearNotification(message: Message): Promise<void> {
    if (!message.signature.startsWith('u')) return;
    await Promise.allSettled([...this.#notifying]);
    const [outside, ...rest] = readBody(message);
    const number = this.#carried.byOutsideNotification(Number(outside));
    if (number === undefined) return;
    if (message.member === 'NotificationClosed') this.#carried.notifications.delete(number);
    const { path = '', interface: name = '', member = '' } = message;
    this.#say(
      notifications,
      newSignal({ path, interface: name, member }, message.signature, [number, ...rest]),
    );
  }
}

/** Whether an inhibitor is held at one of these services. */
function isOf({ what }: HeldInhibitor, names: readonly string[]): boolean {
  return names.includes(serviceOf(what));
}

/** What held it has ended outside. */
function loseOutside(held: HeldInhibitor): void {
  if (held.outside?.kind === 'descriptor') closeSync(held.outside.fd);
  held.outside = undefined;
}

function serviceOf(what: Inhibitor): string {
  if (what.kind === 'cookie') return what.service;
  return what.kind === 'request' ? portal : 'org.freedesktop.login1';
}

function withPath(message: Message, map: (text: string) => string): Message {
  const { path } = message;
  const mapped = path === undefined ? undefined : map(path);
  return mapped === undefined || mapped === path ? message : { ...message, path: mapped };
}

const isTooLarge = ({ isCut, body }: Message) => isCut === true || body.length > largestMessage;

function firstString(message: Message): string | undefined {
  if (!message.signature.startsWith('s')) return undefined;
  return String(readBody({ ...message, signature: 's' })[0]);
}
