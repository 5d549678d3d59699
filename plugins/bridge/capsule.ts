/**
 * The bridge of one capsule: it stands on the capsule's bus for the services of the user's session, each on a connection
 * of its own that has the service's name, and outside for the programs in the capsule, each on a connection of its own.
 * This is its coming and going; what it does in between is in `calls.ts`, `signals.ts` and `holdings.ts`.
 */
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bridgedMark } from '../../api/paths.ts';
import { Bus, closeDescriptors } from './bus.ts';
import { Calls } from './calls.ts';
import { Carried, type KeptState, type State, stateSchema } from './carried.ts';
import { Clients, type Outside } from './clients.ts';
import { Faces } from './faces.ts';
import { Holdings, withHolders } from './holdings.ts';
import type { Kept } from './kept.ts';
import { type Message, messageType, newError, readBody } from './message.ts';
import { Players } from './players.ts';
import type { Service } from './policy.ts';
import { Signals } from './signals.ts';
import type { SocketLoop } from './sockets.ts';
import { errors } from './treatments.ts';
import { within } from './under-way.ts';

const firstPauseMs = 20;
const longestPauseMs = 1000;
/** What is asked at that moment is answered yet, before the bridge leaves. */
const leaveLimitMs = 1000;

export interface CapsuleParts {
  id: string;
  /** Of its bus. */
  socket: string;
  outside: Outside;
  loop: SocketLoop;
  kept: Kept;
  /** Its processes, as the host counts. */
  pids: () => Promise<readonly number[]>;
}

/** What is to be brought back when its bus answers. */
interface Expected {
  state: State | KeptState;
  /** Whether the players go on that were playing. */
  plays: boolean;
}

export class Capsule {
  readonly #parts: CapsuleParts;
  readonly #carried = new Carried(() => this.#noteChange());
  readonly #clients: Clients;
  readonly #faces: Faces;
  readonly #holdings: Holdings;
  readonly #calls: Calls;
  readonly #signals: Signals;
  #lookout: Bus | undefined;
  #players: Players | undefined;
  #wanted = false;
  #attaching: Promise<void> | undefined;
  #expected: Expected | undefined;
  #bringing: Promise<void> = Promise.resolve();
  /** Whether what is carried is kept for a bridge that comes after this one. */
  #keeps = true;
  #hasChanged = false;

  constructor(parts: CapsuleParts) {
    this.#parts = parts;
    const { id, socket, outside, loop, kept } = parts;
    this.#clients = new Clients(outside, this.#carried, {
      came: ({ name }) => void this.#forgetAbsent(name),
      said: (...said) => this.#signals.receive(...said),
    });
    this.#faces = new Faces(socket, outside, loop, {
      isWanted: () => this.#wanted && this.isAttached,
      shown: ({ name }) => this.#holdings.tellEnded(name),
      received: (...what) => this.#calls.receive(...what),
    });
    this.#holdings = new Holdings(outside, this.#carried, this.#clients, this.#faces);
    this.#calls = new Calls(outside, this.#carried, this.#clients);
    const { notifying } = this.#calls;
    this.#signals = new Signals(outside, this.#carried, this.#clients, this.#faces, notifying);
    const state = kept.read(id);
    if (state !== undefined) this.#expected = { state, plays: false };
  }

  get isAttached(): boolean {
    return this.#lookout?.isOpen === true;
  }

  /** How much is held outside at present. */
  get holds(): { inhibitors: number; notifications: number; requests: number } {
    const { inhibitors, notifications, requests } = this.#carried;
    return { inhibitors: inhibitors.size, notifications: notifications.size, requests: requests.size };
  }

  /* ---- coming ---- */

  /** Connects to the capsule's bus, as soon as it is there, and again where it is lost, until {@link detach}. */
  attach(): void {
    this.#wanted = true;
    this.#attaching ??= this.#keepAttached().finally(() => {
      this.#attaching = undefined;
    });
  }

  async #keepAttached(): Promise<void> {
    let pauseMs = firstPauseMs;
    while (this.#wanted) {
      try {
        const lookout = await Bus.openForeign(this.#parts.socket, this.#parts.loop);
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
    const players = new Players(lookout, this.#parts.outside.session, this.#parts.id);
    this.#players = players;
    lookout.onMessage = (message) => this.#receive(lookout, players, message);
    try {
      await lookout.ask('AddMatch', 's', [
        "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'",
      ]);
      this.#lookout = lookout;
      void this.#faces.sync().then(() => this.#mark());
      void this.#bringBack();
      const [names] = readBody(await lookout.ask('ListNames'));
      for (const name of names as string[]) {
        if (!name.startsWith('org.mpris.')) continue;
        // One may leave meanwhile.
        const reply = await lookout.ask('GetNameOwner', 's', [name]).catch(() => undefined);
        if (reply !== undefined) await players.noteOwner(name, String(readBody(reply)[0]));
      }
      await lookout.ended;
    } finally {
      lookout.abort();
      this.#lookout = undefined;
      await players.close();
      // The programs have lost their bus too: what had come of it is forgotten.
      if (this.#wanted) await this.#letGo();
    }
  }

  /** From now on nobody need wait for a name that is not there (engine/capsule/session-bus.ts). */
  async #mark(): Promise<void> {
    const path = join(dirname(this.#parts.socket), bridgedMark);
    await writeFile(path, '', { flag: 'wx' }).catch(() => {});
  }

  /**
   * Brings back what {@link detach} has let go of, and tells the application what has ended meanwhile; later, where its bus
   * does not answer now.
   * @param plays whether the players go on that were playing.
   * @returns services of which something could not be brought back; undefined where the bus does not answer.
   */
  async restore(state: State, plays: boolean, limitMs: number): Promise<string[] | undefined> {
    this.#expected = { state, plays };
    this.attach();
    for (const limit = performance.now() + limitMs; !this.isAttached && performance.now() < limit; )
      await sleep(10);
    if (!this.isAttached) return undefined;
    await this.#bringBack();
    return this.#holdings.missing;
  }

  #bringBack(): Promise<void> {
    this.#bringing = this.#bringing.then(async () => {
      await this.#faces.settled();
      const pids = await this.#parts.pids().catch(() => []);
      const expected = this.#expected;
      if (expected === undefined || !this.isAttached) return;
      this.#expected = undefined;
      await this.#holdings.expect(expected.state, pids, (name) => this.#isThere(name));
      if (expected.plays) await this.#players?.play(expected.state.playing);
    });
    return this.#bringing;
  }

  /* ---- going ---- */

  /**
   * Releases what is held outside and leaves the capsule's bus.
   * @param pids its processes, as the host counts.
   * @returns what {@link restore} needs.
   */
  async detach(pids: readonly number[]): Promise<State> {
    const playing = (await this.#players?.pause()) ?? [];
    // What it has begun to bring back is part of what it lets go of.
    if (this.isAttached) await within(leaveLimitMs, this.#bringing);
    this.#wanted = false;
    // What an application has asked for, and is told that it has, is kept; and what it has released is not.
    await this.#faces.inOrder(() => this.#faces.release(leaveLimitMs));
    await this.#calls.underWay.settled(leaveLimitMs);
    this.#signals.stop();
    await this.#faces.close();
    const expected = this.#expected && stateSchema.parse(this.#expected.state);
    const state = withHolders(expected ?? this.#carried.state(playing), pids);
    // Should this bridge not live to see how the suspend ends, the next one goes on from here.
    this.#keeps = false;
    await this.#holdings.release();
    await this.#lookout?.close();
    await this.#attaching;
    await this.#letGo();
    return state;
  }

  /** Leaves: this bridge ends, and the application runs on. What cannot last until another comes is ended. */
  async leave(): Promise<void> {
    await this.#holdings.release();
    this.#holdings.endAll();
    this.#keep();
    await this.#end();
  }

  /** Leaves at once and for good: its workload has ended, or is in a snapshot. */
  async end(): Promise<void> {
    this.#keeps = false;
    this.#parts.kept.remove(this.#parts.id);
    await this.#holdings.release();
    await this.#end();
  }

  async #end(): Promise<void> {
    this.#keeps = false;
    this.#wanted = false;
    this.#signals.stop();
    this.#lookout?.abort();
    await this.#letGo();
  }

  /** Ends all connections, with what was held by them. */
  async #letGo(): Promise<void> {
    await this.#faces.inOrder(async () => {
      await Promise.all([this.#clients.close(), this.#faces.close()]);
      this.#holdings.drop();
    });
  }

  /* ---- what is carried, for a bridge after this one ---- */

  #noteChange(): void {
    if (this.#hasChanged) return;
    this.#hasChanged = true;
    // All that belongs together, and before any answer is sent that says it.
    queueMicrotask(() => {
      this.#hasChanged = false;
      this.#keep();
    });
  }

  #keep(): void {
    const { kept, id } = this.#parts;
    // What is still to be brought back is there as it was.
    if (this.#keeps && this.#expected === undefined) kept.write(id, this.#carried.keptState());
  }

  /* ---- the programs on the bus, and the services outside ---- */

  #receive(lookout: Bus, players: Players, message: Message): void {
    closeDescriptors(message);
    if (message.type === messageType.call) {
      lookout.send(newError(message, errors.denied, 'Nothing is called by this name.'));
    } else if (message.sender === 'org.freedesktop.DBus') {
      if (message.member !== 'NameOwnerChanged' || message.signature !== 'sss') return;
      const [name = '', , owner = ''] = readBody(message) as string[];
      if (name.startsWith(':') && owner === '') void this.#forget(name);
      else void players.noteOwner(name, owner).catch(() => {});
    } else players.passSignal(message);
  }

  /** Whether a program is on the capsule's bus. A bus that does not answer has not said that it has left. */
  async #isThere(name: string): Promise<boolean> {
    const reply = await this.#lookout?.ask('NameHasOwner', 's', [name]).catch(() => undefined);
    return reply === undefined || readBody(reply)[0] === true;
  }

  /** What a program has sent as its last may be read when its leaving has been heard of already. */
  async #forgetAbsent(name: string): Promise<void> {
    if (!(await this.#isThere(name))) await this.#forget(name);
  }

  /** A program has left the capsule's bus. */
  async #forget(name: string): Promise<void> {
    const client = this.#clients.take(name);
    if (client === undefined) {
      this.#carried.forgetClient(name);
      return;
    }
    // What it has asked for is done yet, and known then.
    await client.callsUnderWay.settled(leaveLimitMs);
    client.isOver = true;
    await this.#holdings.releaseOf(client);
    await client.close();
  }

  /** A service outside has come, gone, or is another program now. */
  async serviceChanged(service: Service): Promise<void> {
    const owner = this.#parts.outside[service.side]?.ownerOf(service.name);
    this.#holdings.noteOwner(service, owner);
    await this.#faces.sync();
    if (service.side === 'session') await this.#players?.show();
    if (owner !== undefined) await this.#holdings.noteComing(service);
  }

  /** A service has said something to everybody. */
  async broadcast(service: Service, message: Message): Promise<void> {
    await this.#signals.hear(service, { ...message, fds: [] }, undefined);
  }
}
