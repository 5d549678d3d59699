/**
 * A client of the X server that shows the user's windows: as much of the protocol (X11R7.7, in its own byte order of choice) as
 * it takes to ask for properties, to be told of their changes, and to send a window manager a message. Xlib would end the process when a window has gone
 * meanwhile, and the programs that could do it instead are not on every desktop.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { homedir, hostname } from 'node:os';
import { join } from 'node:path';

const opcodes = {
  changeWindowAttributes: 2,
  getGeometry: 14,
  internAtom: 16,
  getProperty: 20,
  sendEvent: 25,
  translateCoordinates: 40,
  getInputFocus: 43,
  queryExtension: 98,
} as const;
const [propertyNotify, clientMessage] = [28, 33];
/** Of the values that change, and of the events, those of properties. */
const [eventMask, propertyChange] = [0x800, 0x400000];
/** The X-Resource extension 1.2, which knows the processes of clients on this machine. */
const resource = { queryVersion: 0, queryClientIds: 4, localPid: 2 } as const;
/** SubstructureNotify and SubstructureRedirect: who listens to those of the root window is the window manager. */
const toWindowManager = 0x180000;
/** A server that does not answer must not keep an application from being suspended. */
const limitMs = 3000;
const mostPropertyBytes = 1 << 16;

type Settle = { resolve: (reply: Buffer) => void; reject: (error: Error) => void };

export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** What may go wrong is that there is none, or that a window has gone: each call then rejects. */
export class XConnection implements Disposable {
  readonly #socket: Socket;
  readonly #atoms = new Map<string, Promise<number>>();
  readonly #waiting = new Map<number, Settle>();
  #received: Buffer = Buffer.alloc(0);
  #sequence = 0;
  #root = 0;
  #isSetUp = false;
  #resource: Promise<number | undefined> | undefined;
  #changed: ((window: number, atom: number) => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    // Whoever waits is told by its end.
    socket.on('error', () => {});
  }

  /** @throws Error where the display of this environment cannot be opened. */
  static async open(env: NodeJS.ProcessEnv = process.env): Promise<XConnection> {
    const display = parseDisplay(env.DISPLAY ?? '');
    const socket = connect(
      display.host === ''
        ? { path: `/tmp/.X11-unix/X${display.number}` }
        : { host: display.host, port: 6000 + display.number },
    );
    const connection = new XConnection(socket);
    socket.setTimeout(limitMs, () => {
      if (!connection.#isSetUp || connection.#waiting.size > 0)
        socket.destroy(new Error('the X server does not answer'));
    });
    try {
      await once(socket, 'connect');
      await connection.#setUp(await cookieFor(display, env));
      connection.#isSetUp = true;
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return connection;
  }

  get root(): number {
    return this.#root;
  }

  async atom(name: string): Promise<number> {
    const known = this.#atoms.get(name);
    if (known !== undefined) return known;
    const body = Buffer.alloc(4);
    body.writeUInt16LE(name.length, 0);
    const asked = this.#ask(opcodes.internAtom, 0, body, padded(Buffer.from(name, 'latin1'))).then((reply) =>
      reply.readUInt32LE(8),
    );
    this.#atoms.set(name, asked);
    return asked;
  }

  /** Of 32 bits each; none where the window does not have it. */
  async numbers(window: number, property: string): Promise<number[]> {
    const value = await this.#property(window, property);
    return Array.from({ length: value.length >> 2 }, (_, at) => value.readUInt32LE(at * 4));
  }

  /** Texts, each of which ends with a NUL. */
  async texts(window: number, property: string): Promise<string[]> {
    return (await this.#property(window, property)).toString('latin1').split('\0').slice(0, -1);
  }

  /** A text in UTF-8; empty where the window does not have it. */
  async text(window: number, property: string): Promise<string> {
    return (await this.#property(window, property)).toString('utf8');
  }

  async #property(window: number, property: string): Promise<Buffer> {
    const body = numbers(window, await this.atom(property), 0, 0, mostPropertyBytes / 4);
    const reply = await this.#ask(opcodes.getProperty, 0, body);
    const bytes = reply.readUInt32LE(16) * ((reply[1] ?? 0) / 8);
    return reply.subarray(32, 32 + bytes);
  }

  /** Has the listener be told of each property of a window that changes from now on, and of this one's. There is one listener. */
  async follow(window: number, changed: (window: number, atom: number) => void): Promise<void> {
    this.#changed = changed;
    this.#send(opcodes.changeWindowAttributes, 0, numbers(window, eventMask, propertyChange));
    // It has no answer of its own; when this one is there, the server has had it.
    await this.#ask(opcodes.getInputFocus, 0);
  }

  /** Calls the listener when the server has hung up. */
  onEnd(listener: () => void): void {
    this.#socket.once('close', listener);
  }

  /** The process whose window it is, as the server knows it; undefined where it does not, such as of another machine's. */
  async processOf(window: number): Promise<number | undefined> {
    this.#resource ??= this.#askForResource();
    const opcode = await this.#resource;
    if (opcode === undefined) return undefined;
    const reply = await this.#ask(
      opcode,
      resource.queryClientIds,
      numbers(1, window, resource.localPid),
    ).catch(() => undefined);
    // Of each: the client, what is told of it, its length in bytes, and the pid.
    const isThere = reply !== undefined && reply.readUInt32LE(8) === 1 && reply.length >= 48;
    return isThere && reply.readUInt32LE(36) === resource.localPid ? reply.readUInt32LE(44) : undefined;
  }

  /** @returns the opcode of the extension; undefined where the server does not have it */
  async #askForResource(): Promise<number | undefined> {
    const name = Buffer.from('X-Resource', 'latin1');
    const length = Buffer.alloc(4);
    length.writeUInt16LE(name.length, 0);
    const found = await this.#ask(opcodes.queryExtension, 0, length, padded(name));
    if (found.readUInt8(8) === 0) return undefined;
    const opcode = found.readUInt8(9);
    await this.#ask(opcode, resource.queryVersion, Buffer.from([1, 2, 0, 0]));
    return opcode;
  }

  /** Of what is inside its frame, on the screen. */
  async rectangle(window: number): Promise<Rectangle> {
    const origin = numbers(window, this.#root, 0);
    const [geometry, place] = await Promise.all([
      this.#ask(opcodes.getGeometry, 0, numbers(window)),
      this.#ask(opcodes.translateCoordinates, 0, origin),
    ]);
    return {
      x: place.readInt16LE(12),
      y: place.readInt16LE(14),
      width: geometry.readUInt16LE(16),
      height: geometry.readUInt16LE(18),
    };
  }

  /** Tells the window manager what is wanted of a window. */
  async tell(window: number, message: string, data: readonly number[]): Promise<void> {
    const event = Buffer.alloc(32);
    event.writeUInt8(clientMessage, 0);
    event.writeUInt8(32, 1);
    event.writeUInt32LE(window, 4);
    event.writeUInt32LE(await this.atom(message), 8);
    data.slice(0, 5).forEach((value, at) => {
      event.writeUInt32LE(value >>> 0, 12 + at * 4);
    });
    this.#send(opcodes.sendEvent, 0, numbers(this.#root, toWindowManager), event);
    // It has no answer of its own; when this one is there, the server has had it.
    await this.#ask(opcodes.getInputFocus, 0);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #setUp(cookie: Buffer): Promise<void> {
    const name = Buffer.from(cookie.length > 0 ? cookieName : '', 'latin1');
    const head = Buffer.alloc(12);
    head.write('l', 0, 'latin1');
    head.writeUInt16LE(11, 2);
    head.writeUInt16LE(name.length, 6);
    head.writeUInt16LE(cookie.length, 8);
    const answer = new Promise<Buffer>((resolve, reject) => {
      const receive = (bytes: Buffer) => {
        this.#received = Buffer.concat([this.#received, bytes]);
        if (this.#received.length < 8) return;
        const length = 8 + this.#received.readUInt16LE(6) * 4;
        if (this.#received.length < length) return;
        this.#socket.off('data', receive);
        resolve(this.#received.subarray(0, length));
      };
      this.#socket.on('data', receive);
      this.#socket.once('close', () => reject(new Error('the X server has hung up')));
      this.#socket.once('error', reject);
    });
    this.#socket.write(Buffer.concat([head, padded(name), padded(cookie)]));
    const setup = await answer;
    if (setup[0] !== 1)
      throw new Error(`the X server refuses: ${setup.toString('latin1', 8, 8 + (setup[1] ?? 0))}`);
    const formats = setup.readUInt8(29);
    this.#root = setup.readUInt32LE(40 + paddedLength(setup.readUInt16LE(24)) + formats * 8);
    this.#received = Buffer.alloc(0);
    this.#socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    this.#socket.once('close', () => this.#end());
  }

  #ask(opcode: number, detail: number, ...parts: Buffer[]): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) reject(new Error('the X server has hung up'));
      else this.#waiting.set(this.#send(opcode, detail, ...parts), { resolve, reject });
    });
  }

  /** @returns the number by which its reply, or its error, names it */
  #send(opcode: number, detail: number, ...parts: Buffer[]): number {
    const body = Buffer.concat(parts);
    const head = Buffer.alloc(4);
    head.writeUInt8(opcode, 0);
    head.writeUInt8(detail, 1);
    head.writeUInt16LE(1 + body.length / 4, 2);
    this.#socket.write(Buffer.concat([head, body]));
    this.#sequence = (this.#sequence + 1) & 0xffff;
    return this.#sequence;
  }

  #receive(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    while (this.#received.length >= 32) {
      const kind = this.#received.readUInt8(0);
      const length = kind === 1 ? 32 + this.#received.readUInt32LE(4) * 4 : 32;
      if (this.#received.length < length) return;
      const message = this.#received.subarray(0, length);
      this.#received = this.#received.subarray(length);
      if ((kind & 0x7f) === propertyNotify) this.#changed?.(message.readUInt32LE(4), message.readUInt32LE(8));
      // Anything else is an event that was not asked for.
      if (kind > 1) continue;
      const sequence = message.readUInt16LE(2);
      const settle = this.#waiting.get(sequence);
      this.#waiting.delete(sequence);
      if (kind === 1) settle?.resolve(message);
      else settle?.reject(new Error(`the X server answers with error ${message.readUInt8(1)}`));
    }
  }

  #end(): void {
    for (const { reject } of this.#waiting.values()) reject(new Error('the X server has hung up'));
    this.#waiting.clear();
  }
}

interface Display {
  /** Empty for this machine, by its socket in the file system. */
  host: string;
  number: number;
}

/** @throws Error where it is none, such as where there is no X server. */
export function parseDisplay(text: string): Display {
  const [, host = '', number] = /^(?:unix(?=:)|([^:/]*)):(\d+)(?:\.\d+)?$/.exec(text) ?? [];
  if (number === undefined) throw new Error(`"${text}" is no display`);
  return { host, number: Number(number) };
}

const cookieName = 'MIT-MAGIC-COOKIE-1';
/** Kinds of addresses in an authority file. */
const [local, wild] = [256, 65535];

/** Empty where there is none, which is enough for servers that know users by their sockets. */
async function cookieFor({ host, number }: Display, env: NodeJS.ProcessEnv): Promise<Buffer> {
  const path = env.XAUTHORITY || join(env.HOME || homedir(), '.Xauthority');
  const bytes = await readFile(path).catch(() => Buffer.alloc(0));
  const fitting = entriesOf(bytes).filter(
    (entry) => entry.name === cookieName && (entry.display === '' || entry.display === String(number)),
  );
  const isHere = ({ family, address }: Entry) =>
    family === wild || (family === local && address === hostname()) || host !== '';
  return (fitting.find(isHere) ?? fitting[0])?.cookie ?? Buffer.alloc(0);
}

interface Entry {
  family: number;
  address: string;
  display: string;
  name: string;
  cookie: Buffer;
}

/** Of an authority file, whose numbers have the high byte first; up to where it is damaged. */
function entriesOf(bytes: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at + 2 <= bytes.length; ) {
    const family = bytes.readUInt16BE(at);
    at += 2;
    const fields: Buffer[] = [];
    for (let field = 0; field < 4; field++) {
      if (at + 2 > bytes.length) return entries;
      const length = bytes.readUInt16BE(at);
      if (at + 2 + length > bytes.length) return entries;
      fields.push(bytes.subarray(at + 2, at + 2 + length));
      at += 2 + length;
    }
    const [address, display, name, cookie] = fields as [Buffer, Buffer, Buffer, Buffer];
    entries.push({
      family,
      address: address.toString('latin1'),
      display: display.toString('latin1'),
      name: name.toString('latin1'),
      cookie,
    });
  }
  return entries;
}

const paddedLength = (length: number) => (length + 3) & ~3;

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(paddedLength(bytes.length) - bytes.length)]);
}

function numbers(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, at) => {
    bytes.writeUInt32LE(value, at * 4);
  });
  return bytes;
}
