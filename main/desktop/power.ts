/**
 * The power of the machine as the user's session sees it, on the system bus: the battery and the lid by UPower, sleep by the
 * log-in manager, which waits for who has asked it to.
 * https://upower.freedesktop.org/docs/UPower.html, https://systemd.io/INHIBITOR_LOCKS
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import type { Message } from '@jellybrick/dbus-next';
import { BusConnection } from '../../api/connection.ts';
import { systemBusAddress } from '../../api/paths.ts';
import { Peer, type PeerName } from '../../api/peer.ts';
import type { Power } from '../desktop-parts.ts';

const upower: PeerName = {
  name: 'org.freedesktop.UPower',
  path: '/org/freedesktop/UPower',
  interface: 'org.freedesktop.UPower',
};
const login: PeerName = {
  name: 'org.freedesktop.login1',
  path: '/org/freedesktop/login1',
  interface: 'org.freedesktop.login1.Manager',
};

interface PowerEvents {
  /** The machine has come to run on its battery, or on the mains again. */
  battery: [];
  /** The lid was closed. */
  lid: [];
}

export class MachinePower extends EventEmitter<PowerEvents> implements Power, AsyncDisposable {
  readonly #connection: BusConnection;
  readonly #peers: Peer[] = [];
  #onBattery = false;
  #isLidClosed = false;
  #sleeps: (() => Promise<void>) | undefined;
  #isDelayWanted = false;
  #isSleeping = false;
  #delay: ChildProcess | undefined;

  private constructor(connection: BusConnection) {
    super();
    this.#connection = connection;
  }

  /** Undefined where there is no system bus. */
  static async open(): Promise<MachinePower | undefined> {
    const address = systemBusAddress();
    if (address === undefined) return undefined;
    const connection = await BusConnection.open(address).catch(() => undefined);
    if (connection === undefined) return undefined;
    const power = new MachinePower(connection);
    try {
      await power.#follow();
      return power;
    } catch {
      await power[Symbol.asyncDispose]();
      return undefined;
    }
  }

  async #follow(): Promise<void> {
    const supply = await Peer.follow(this.#connection, upower, {
      came: (peer) => {
        for (const property of ['OnBattery', 'LidIsClosed'] as const)
          peer.property(property).then(
            (value) => this.#supplyChanged({ [property]: value === true }),
            // Of a machine without a lid.
            () => {},
          );
      },
      left: () => this.#supplyChanged({ OnBattery: false, LidIsClosed: false }),
      signal: ({ member, path, body }: Message) => {
        if (member !== 'PropertiesChanged' || path !== upower.path || body[0] !== upower.interface) return;
        const changed = body[1] as Record<string, { value: unknown } | undefined>;
        this.#supplyChanged({
          ...(changed.OnBattery === undefined ? {} : { OnBattery: changed.OnBattery.value === true }),
          ...(changed.LidIsClosed === undefined ? {} : { LidIsClosed: changed.LidIsClosed.value === true }),
        });
      },
    });
    const manager = await Peer.follow(this.#connection, login, {
      came: () => this.#update(),
      left: () => {
        this.#isSleeping = false;
        this.#update();
      },
      signal: ({ member, path, body }: Message) => {
        if (member === 'PrepareForSleep' && path === login.path) void this.#sleepChanged(body[0] === true);
      },
    });
    this.#peers.push(supply, manager);
    this.#update();
  }

  get onBattery(): boolean {
    return this.#onBattery;
  }

  get knowsBattery(): boolean {
    return this.#peers[0]?.isThere ?? false;
  }

  get knowsSleep(): boolean {
    return this.#peers[1]?.isThere ?? false;
  }

  onSleep(listener: () => Promise<void>): void {
    this.#sleeps = listener;
  }

  delaySleep(isWanted: boolean): void {
    this.#isDelayWanted = isWanted;
    this.#update();
  }

  #supplyChanged({ OnBattery, LidIsClosed }: { OnBattery?: boolean; LidIsClosed?: boolean }): void {
    if (OnBattery !== undefined && OnBattery !== this.#onBattery) {
      this.#onBattery = OnBattery;
      this.emit('battery');
    }
    if (LidIsClosed === undefined || LidIsClosed === this.#isLidClosed) return;
    this.#isLidClosed = LidIsClosed;
    if (LidIsClosed) this.emit('lid');
  }

  async #sleepChanged(isSleeping: boolean): Promise<void> {
    this.#isSleeping = isSleeping;
    if (isSleeping) await this.#sleeps?.();
    this.#update();
  }

  /** The delay is held from before the machine is to sleep until what was to be done before is done. */
  #update(): void {
    const isHeld = this.#isDelayWanted && this.knowsSleep && !this.#isSleeping;
    if (!isHeld) {
      this.#letSleep();
    } else if (this.#delay === undefined) {
      const words = ['--what=sleep', '--mode=delay', '--who=Torpor', '--why=Applications are put aside'];
      const delay = spawn('systemd-inhibit', [...words, 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] });
      this.#delay = delay;
      // It is there wherever the log-in manager is; without it the machine sleeps at once.
      delay.once('error', () => {});
      delay.stdin?.on('error', () => {});
      delay.once('exit', () => {
        if (this.#delay === delay) this.#delay = undefined;
      });
    }
  }

  /** The log-in manager's program holds it for as long as the program that it runs, which ends with its input. */
  #letSleep(): void {
    this.#delay?.stdin?.end();
    this.#delay = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.removeAllListeners();
    this.#letSleep();
    for (const peer of this.#peers) peer[Symbol.dispose]();
    await this.#connection[Symbol.asyncDispose]();
  }
}
