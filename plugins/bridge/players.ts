/**
 * Media players inside (MPRIS): each is shown outside under its own name, so that media keys and panels reach it.
 * A suspend pauses those that play.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Bus, closeDescriptors } from './bus.ts';
import { largestMessage, type Message, messageType, newError, type Variant } from './message.ts';
import type { OutsideBus } from './outside.ts';
import { limits } from './policy.ts';

export const playerPrefix = 'org.mpris.MediaPlayer2.';
const playerPath = '/org/mpris/MediaPlayer2';
const playerInterface = 'org.mpris.MediaPlayer2.Player';
const properties = 'org.freedesktop.DBus.Properties';
const answerLimitMs = 1500;
const pauseLimitMs = 2000;

/** Of whom an outside caller may ask what. */
const allowed =
  /^(org\.mpris\.MediaPlayer2(\.\w+)?|org\.freedesktop\.DBus\.(Properties|Introspectable|Peer))$/;

interface Player {
  /** Its connection inside, from which its signals come. */
  owner: string;
  outside: Bus | undefined;
  callsUnderWay: number;
}

export class Players {
  readonly #inside: Bus;
  readonly #session: OutsideBus | undefined;
  readonly #suffix: string;
  readonly #players = new Map<string, Player>();
  #isClosed = false;
  #showing: Promise<void> = Promise.resolve();

  constructor(inside: Bus, session: OutsideBus | undefined, capsule: string) {
    this.#inside = inside;
    this.#session = session;
    this.#suffix = `.torpor_${capsule.replace(/\W/g, '_')}`;
  }

  get names(): string[] {
    return [...this.#players.keys()];
  }

  /** A name inside has come, changed hands, or gone. */
  async noteOwner(name: string, owner: string): Promise<void> {
    if (!name.startsWith(playerPrefix)) return;
    const player = this.#players.get(name);
    if (owner === '') {
      this.#players.delete(name);
      await player?.outside?.close();
    } else if (player !== undefined) player.owner = owner;
    else if (this.#players.size < limits.players) {
      const fresh: Player = { owner, outside: undefined, callsUnderWay: 0 };
      this.#players.set(name, fresh);
      await this.#inside
        .ask('AddMatch', 's', [`type='signal',sender='${name}',path='${playerPath}'`])
        .catch(() => {});
      await this.show();
    }
  }

  /** Shows those outside that are not shown yet: also again, when the bus outside has come back. */
  show(): Promise<void> {
    // One after the other, so that none is shown twice.
    this.#showing = this.#showing.then(() => this.#showAll()).catch(() => {});
    return this.#showing;
  }

  async #showAll(): Promise<void> {
    for (const [name, player] of this.#players) {
      if (player.outside?.isOpen || this.#session?.bus === undefined) continue;
      const outside = await this.#session.open().catch(() => undefined);
      if (outside === undefined) continue;
      if (this.#isClosed || this.#players.get(name) !== player) {
        outside.abort();
        continue;
      }
      player.outside = outside;
      outside.onMessage = (message) => void this.#receive(name, player, outside, message);
      for (const each of [name, `${name}${this.#suffix}`]) {
        if (await outside.own(each).catch(() => false)) break;
      }
    }
  }

  /** A signal from inside; whether it was a player's. */
  passSignal(message: Message): boolean {
    const found = [...this.#players.values()].find(({ owner }) => owner === message.sender);
    if (found === undefined || message.path !== playerPath) return false;
    if (
      allowed.test(message.interface ?? '') &&
      !message.isCut &&
      message.body.length <= largestMessage &&
      message.fds.length === 0
    ) {
      const { destination, sender, ...rest } = message;
      if (found.outside?.isOpen) found.outside.send({ ...rest, fds: [] });
    }
    return true;
  }

  async #receive(name: string, player: Player, outside: Bus, message: Message): Promise<void> {
    closeDescriptors(message);
    if (message.type !== messageType.call) return;
    const reply = await this.#answer(name, player, message);
    if (reply !== undefined && outside.isOpen && (message.flags & 1) === 0) outside.send(reply);
  }

  async #answer(name: string, player: Player, call: Message): Promise<Message | undefined> {
    const isKnown = allowed.test(call.interface ?? '') && call.path?.startsWith(playerPath) === true;
    if (!isKnown || call.isCut || call.body.length > largestMessage)
      return newError(call, 'org.freedesktop.DBus.Error.UnknownMethod', 'There is no such method.');
    if (player.callsUnderWay >= limits.callsUnderWayOfClient)
      return newError(call, 'org.freedesktop.DBus.Error.LimitsExceeded', 'Too many calls are under way.');
    player.callsUnderWay++;
    const reply = await this.#inside.exchange({ ...call, destination: name, fds: [] });
    player.callsUnderWay--;
    if (reply === undefined)
      return newError(call, 'org.freedesktop.DBus.Error.NoReply', 'The player was suspended or has ended.');
    closeDescriptors(reply);
    if (reply.isCut)
      return newError(call, 'org.freedesktop.DBus.Error.LimitsExceeded', 'The answer is too large.');
    const { sender, ...rest } = reply;
    return { ...rest, flags: 1, replySerial: call.serial, destination: call.sender ?? '', fds: [] };
  }

  async #isPlaying(name: string): Promise<boolean> {
    const get = { destination: name, path: playerPath, interface: properties, member: 'Get' };
    const [status] = await this.#inside
      .invoke(get, 'ss', [playerInterface, 'PlaybackStatus'], answerLimitMs)
      .catch(() => []);
    return (status as Variant | undefined)?.value === 'Playing';
  }

  async #tell(name: string, member: 'Pause' | 'Play'): Promise<void> {
    const to = { destination: name, path: playerPath, interface: playerInterface, member };
    await this.#inside.invoke(to, '', [], answerLimitMs).catch(() => {});
  }

  /** Pauses what plays, and says which players did. */
  async pause(): Promise<string[]> {
    const paused = await Promise.all(
      this.names.map(async (name) => {
        if (!(await this.#isPlaying(name))) return [];
        await this.#tell(name, 'Pause');
        const limit = performance.now() + pauseLimitMs;
        while (performance.now() < limit && (await this.#isPlaying(name))) await sleep(20);
        return [name];
      }),
    );
    return paused.flat();
  }

  async play(names: readonly string[]): Promise<void> {
    await Promise.all(
      names.filter((each) => each.startsWith(playerPrefix)).map((name) => this.#tell(name, 'Play')),
    );
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#players.values()].map(({ outside }) => outside?.close()));
    this.#players.clear();
  }
}
