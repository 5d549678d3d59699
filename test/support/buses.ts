/** Real message buses, programs on them and services of a desktop, all ended with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { EventEmitter } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Message, type MessageBus, MessageType, sessionBus } from '@jellybrick/dbus-next';
import { Bus } from '../../plugins/bridge/bus.ts';
import { HeldPipe } from '../../plugins/bridge/held-pipe.ts';
import {
  messageType,
  newError,
  newReply,
  readBody,
  type Message as WireMessage,
} from '../../plugins/bridge/message.ts';
import { SocketLoop } from '../../plugins/bridge/sockets.ts';
import type { TestEngine } from './engine.ts';

export class Desktop implements AsyncDisposable {
  readonly folder: string;
  readonly #children: ChildProcess[] = [];
  readonly #buses: MessageBus[] = [];

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(): Promise<Desktop> {
    return new Desktop(await mkdtemp(join(tmpdir(), 'torpor-desktop-')));
  }

  start(
    program: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = process.env,
    user: { uid?: number; gid?: number } = {},
  ): ChildProcess {
    const child = spawn(program, args, { ...user, env, stdio: ['ignore', 'pipe', 'ignore'] });
    this.#children.push(child);
    return child;
  }

  async firstLine({ stdout }: ChildProcess): Promise<string> {
    if (stdout === null) throw new Error('it has no output');
    for await (const line of createInterface({ input: stdout })) return line;
    throw new Error('it said nothing');
  }

  /**
   * A message bus. It starts nothing by itself; for these names it believes that it does, so that what is sent to one
   * waits until somebody takes it. @returns its address and the program.
   */
  async startBus(
    name: string,
    startable: readonly string[] = [],
  ): Promise<{ address: string; socket: string; daemon: ChildProcess }> {
    const socket = join(this.folder, name);
    const config = `${socket}.conf`;
    await mkdir(`${socket}.services`, { recursive: true });
    for (const each of startable) {
      const file = join(`${socket}.services`, `${each}.service`);
      await writeFile(file, `[D-BUS Service]\nName=${each}\nExec=/bin/true\n`);
    }
    await writeFile(
      config,
      `<busconfig><type>session</type><listen>unix:path=${socket}</listen><auth>EXTERNAL</auth>
<servicedir>${socket}.services</servicedir>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
    );
    const daemon = this.start('dbus-daemon', ['--nofork', '--print-address', `--config-file=${config}`]);
    await this.firstLine(daemon);
    return { address: `unix:path=${socket}`, socket, daemon };
  }

  async startDisplay(): Promise<string> {
    const args = ['-displayfd', '1', '-screen', '0', '1024x768x24', '-nolisten', 'tcp'];
    return `:${await this.firstLine(this.start('Xvfb', args))}`;
  }

  /** Ends one program and waits until it has. */
  async stop(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill();
    // A test may have stopped it.
    child.kill('SIGCONT');
    await ended;
  }

  /** A program on a bus. */
  async connect(address: string): Promise<MessageBus> {
    const bus = sessionBus({ busAddress: address });
    (bus as EventEmitter).on('error', () => {});
    await new Promise<void>((resolve) => bus.once('connect', () => resolve()));
    this.#buses.push(bus);
    return bus;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bus of this.#buses.splice(0)) bus.disconnect();
    for (const child of this.#children.splice(0).reverse()) await this.stop(child);
    await rm(this.folder, { recursive: true, force: true });
  }
}

export interface Target {
  destination: string;
  path: string;
  interface: string;
  member: string;
}

/** A call; its answer's values. @throws DBusError */
export async function call(
  bus: MessageBus,
  to: Target,
  signature = '',
  body: unknown[] = [],
): Promise<unknown[]> {
  const reply = await bus.call(new Message({ ...to, signature, body }));
  return reply?.body ?? [];
}

const daemon = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};

export async function hasOwner(bus: MessageBus, name: string): Promise<boolean> {
  const [owned] = await call(bus, { ...daemon, member: 'NameHasOwner' }, 's', [name]);
  return owned === true;
}

/** All signals of an interface from now on. */
export async function signalsOf(bus: MessageBus, rule: string): Promise<Message[]> {
  const heard: Message[] = [];
  bus.on('message', (message: Message) => {
    if (message.type === MessageType.SIGNAL) heard.push(message);
  });
  await call(bus, { ...daemon, member: 'AddMatch' }, 's', [rule]);
  return heard;
}

/** An inhibitor as a screen saver keeps it. */
export interface Inhibition {
  application: string;
  reason: string;
  by: string;
}

/**
 * A screen saver that can be kept from its work, on a bus of its own choice; it forgets those who leave the bus.
 * It stands where a real one cannot run without a seat.
 */
export async function runScreenSaver(
  desktop: Desktop,
  address: string,
): Promise<{
  inhibitions: Map<number, Inhibition>;
  readonly asked: number;
  bus: MessageBus;
  activate(): void;
}> {
  const bus = await desktop.connect(address);
  const inhibitions = new Map<number, Inhibition>();
  let next = 100;
  bus.addMethodHandler((message: Message) => {
    if (message.interface !== 'org.freedesktop.ScreenSaver') return false;
    const [first, second] = message.body;
    if (message.member === 'Inhibit') {
      const cookie = next++;
      inhibitions.set(cookie, { application: String(first), reason: String(second), by: message.sender });
      bus.send(Message.newMethodReturn(message, 'u', [cookie]));
    } else if (message.member === 'UnInhibit' && inhibitions.delete(Number(first))) {
      bus.send(Message.newMethodReturn(message));
    } else bus.send(Message.newError(message, 'org.freedesktop.DBus.Error.InvalidArgs', 'no such cookie'));
    return true;
  });
  bus.on('message', ({ member, body }: Message) => {
    if (member !== 'NameOwnerChanged') return;
    const [name, , owner] = body as string[];
    for (const [cookie, { by }] of inhibitions) if (owner === '' && by === name) inhibitions.delete(cookie);
  });
  await call(bus, { ...daemon, member: 'AddMatch' }, 's', ["type='signal',member='NameOwnerChanged'"]);
  await bus.requestName('org.freedesktop.ScreenSaver', 0);
  const activate = () => {
    const path = '/org/freedesktop/ScreenSaver';
    bus.send(Message.newSignal(path, 'org.freedesktop.ScreenSaver', 'ActiveChanged', 'b', [true]));
  };
  return {
    inhibitions,
    get asked() {
      return next - 100;
    },
    bus,
    activate,
  };
}

export const screenSaver = (member: string): Target => ({
  destination: 'org.freedesktop.ScreenSaver',
  path: '/org/freedesktop/ScreenSaver',
  interface: 'org.freedesktop.ScreenSaver',
  member,
});

/** A log-in manager that holds inhibitors as logind does: as long as somebody has the descriptor that it gave out. */
export async function runLoginManager(
  address: string,
): Promise<{ inhibitions: Set<string>; stop(): Promise<void> }> {
  const bus = await Bus.open(address, new SocketLoop());
  const inhibitions = new Set<string>();
  bus.onMessage = (message) => {
    if (message.member !== 'Inhibit') {
      bus.send(newError(message, 'org.freedesktop.DBus.Error.UnknownMethod', 'It only inhibits.'));
      return;
    }
    const inhibition = readBody(message).join(' ');
    const { pipe, given } = HeldPipe.make();
    inhibitions.add(inhibition);
    void pipe.ended.then(() => inhibitions.delete(inhibition));
    bus.send({ ...newReply(message, 'h', [0]), fds: [given] });
  };
  await bus.ask('RequestName', 'su', ['org.freedesktop.login1', 0]);
  return { inhibitions, stop: () => bus.close() };
}

/** A service of which the test itself says what it answers, and when. Calls that nothing has answered yet wait in `asked`. */
export async function runByHand(
  address: string,
  name: string,
): Promise<{ bus: Bus; asked: WireMessage[]; stop(): Promise<void> }> {
  const bus = await Bus.open(address, new SocketLoop());
  const asked: WireMessage[] = [];
  bus.onMessage = (message) => {
    if (message.type === messageType.call) asked.push(message);
  };
  await bus.ask('RequestName', 'su', [name, 0]);
  return { bus, asked, stop: () => bus.close() };
}

/** Calls a program on the bus of the capsule named `client`, from inside. @throws Error with the bus's words. */
export async function askInside(engine: TestEngine, destination: string, ...call: string[]): Promise<string> {
  const send = ['dbus-send', '--session', '--print-reply=literal', `--dest=${destination}`, ...call];
  const { code, stdout, stderr } = await engine.run(['exec', 'client', '--', ...send]);
  if (code !== 0) throw new Error(stderr);
  return stdout.trim();
}

/** The same of test/fixtures/desktop_client.py. @returns a number as it is, without its type. */
export async function askClient(engine: TestEngine, member: string, ...args: string[]): Promise<string> {
  const name = 'org.example.Client';
  const answer = await askInside(engine, name, '/org/example/Client', `${name}.${member}`, ...args);
  return answer.replace(/^uint32 /, '');
}
