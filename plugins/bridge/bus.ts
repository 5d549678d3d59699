/** A connection to a message bus that carries messages as they are, descriptors included. */
import { closeSync } from 'node:fs';
import {
  type Addressed,
  headerLength,
  largestMessage,
  type Message,
  messageLength,
  messageType,
  newCall,
  noReplyExpected,
  parseMessage,
  readBody,
  type Value,
  writeMessage,
} from './message.ts';
import { DescriptorStream, mostDescriptors, type SocketLoop } from './sockets.ts';

/** Nothing more is read for a side that does not take what it is sent. */
const mostQueued = 8 * largestMessage;
/** Of a larger message only the header is kept, to be answered. */
const mostKept = 2 * largestMessage;
const greetingLimitMs = 10_000;
const farewellLimitMs = 2000;

/** An error that came as the answer to a call of our own. */
export class BusError extends Error {
  override readonly name: string;
  constructor(name: string, text: string) {
    super(text || name);
    this.name = name;
  }
}

const daemon = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};

/** RequestName, and what comes of it (D-Bus specification, message bus). */
const doNotQueue = 4;
const isOwner = 1;
const isOwnerAlready = 4;

export class Bus {
  /** Its own name. */
  name = '';
  /** Resolves when the connection has ended, whoever ended it. */
  readonly ended: Promise<void>;
  /** Gets calls and signals. It owns their descriptors. */
  onMessage: ((message: Message) => void) | undefined;
  readonly #stream: DescriptorStream;
  readonly #waiting = new Map<number, (reply: Message | undefined) => void>();
  #resolveEnded: () => void = () => {};
  #onLine: ((line: string) => void) | undefined;
  #parts: Buffer[] = [];
  #length = 0;
  #needed = 16;
  /** Bytes still to come of a body that is not kept. */
  #skipped = 0;
  #fds: number[] = [];
  #serial = 0;
  #hasEnded = false;

  private constructor(stream: DescriptorStream) {
    this.#stream = stream;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    stream.listen({ data: (bytes, fds) => this.#take(bytes, fds), end: () => this.#end() });
  }

  /** Connects and greets. @throws Error where nobody listens at any of the addresses. */
  static async open(address: string, loop: SocketLoop): Promise<Bus> {
    return Bus.#greet(connectTo(address, loop));
  }

  /** The same for a socket in a folder that is not ours to trust. */
  static async openForeign(path: string, loop: SocketLoop): Promise<Bus> {
    return Bus.#greet(DescriptorStream.connect(path, loop, true));
  }

  static async #greet(stream: DescriptorStream): Promise<Bus> {
    const bus = new Bus(stream);
    const timer = setTimeout(() => bus.abort(), greetingLimitMs);
    try {
      await bus.#authenticate();
      const [name] = readBody(await bus.ask('Hello'));
      bus.name = String(name);
      return bus;
    } catch (error) {
      bus.abort();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  get isOpen(): boolean {
    return !this.#hasEnded;
  }

  async #authenticate(): Promise<void> {
    const uid = Buffer.from(String(process.getuid?.() ?? 0)).toString('hex');
    const answer = (text: string) => {
      const line = new Promise<string>((resolve) => {
        this.#onLine = resolve;
      });
      this.#stream.write(Buffer.from(text));
      return Promise.race([
        line,
        this.ended.then((): never => {
          throw new Error('the bus has closed the connection');
        }),
      ]);
    };
    const ok = await answer(`\0AUTH EXTERNAL ${uid}\r\n`);
    if (!ok.startsWith('OK')) throw new Error(`the bus does not take us: ${ok.slice(0, 80)}`);
    await answer('NEGOTIATE_UNIX_FD\r\n');
    this.#onLine = undefined;
    this.#stream.write(Buffer.from('BEGIN\r\n'));
  }

  /** Sends a message, with a serial of its own, and its descriptors, which are closed here. */
  send(message: Message): number {
    const serial = ++this.#serial;
    // A side that takes nothing must not fill our memory.
    if (this.#stream.queued > mostQueued) this.abort();
    const data = writeMessage({ ...message, serial });
    this.#stream.write(data, message.fds.splice(0));
    return serial;
  }

  /** Sends a call and waits for what answers it, be it an error; undefined where the connection ends before. */
  exchange(call: Message): Promise<Message | undefined> {
    return new Promise((resolve) => {
      if (this.#hasEnded) {
        closeDescriptors(call);
        resolve(undefined);
        return;
      }
      const serial = this.send({ ...call, flags: call.flags & ~noReplyExpected });
      // Sending may be what shows that the other side has gone.
      if (this.#hasEnded) resolve(undefined);
      else this.#waiting.set(serial, resolve);
    });
  }

  /** A call of our own. @throws BusError for an error, Error where the connection ends or nobody answers in time. */
  async call(call: Message, limitMs = 25_000): Promise<Message> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), limitMs);
    });
    const exchanged = this.exchange(call);
    const reply = await Promise.race([exchanged, late]);
    clearTimeout(timer);
    // What comes yet is nobody's.
    if (reply === undefined) void exchanged.then((last) => last && closeDescriptors(last));
    return answerIn(call, reply);
  }

  /** A call to the bus itself. */
  ask(member: string, signature = '', values: readonly Value[] = []): Promise<Message> {
    return this.call(newCall({ ...daemon, member }, signature, values));
  }

  /** Has a name, unless somebody else has it. */
  async own(name: string): Promise<boolean> {
    const [result] = readBody(await this.ask('RequestName', 'su', [name, doNotQueue]));
    return result === isOwner || result === isOwnerAlready;
  }

  /** A call with its answer's values. */
  async invoke(
    to: Addressed,
    signature = '',
    values: readonly Value[] = [],
    limitMs?: number,
  ): Promise<Value[]> {
    const reply = await this.call(newCall(to, signature, values), limitMs);
    closeDescriptors(reply);
    return readBody(reply);
  }

  /** Takes leave, and returns when the bus has let go too. */
  async close(): Promise<void> {
    if (this.#hasEnded) return;
    this.onMessage = undefined;
    this.#stream.end();
    const timer = setTimeout(() => this.abort(), farewellLimitMs);
    await this.ended;
    clearTimeout(timer);
  }

  abort(): void {
    this.#stream.close();
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    for (const fd of this.#fds.splice(0)) closeSync(fd);
    for (const resolve of this.#waiting.values()) resolve(undefined);
    this.#waiting.clear();
    this.#resolveEnded();
  }

  #take(bytes: Buffer, fds: number[]): void {
    this.#fds.push(...fds);
    // They come with the first byte of the message that they belong to, or before.
    if (this.#fds.length > 4 * mostDescriptors) {
      this.abort();
      return;
    }
    const wanted = bytes.subarray(Math.min(this.#skipped, bytes.length));
    this.#skipped -= bytes.length - wanted.length;
    this.#parts.push(wanted);
    this.#length += wanted.length;
    try {
      if (this.#onLine !== undefined) this.#takeLine(this.#onLine);
      else if (this.#length >= this.#needed) this.#takeMessages();
    } catch {
      // What is no message is no bus either.
      this.abort();
    }
  }

  #takeLine(onLine: (line: string) => void): void {
    const data = Buffer.concat(this.#parts);
    const end = data.indexOf('\r\n');
    if (end < 0 && data.length > 4096) throw new Error('no greeting');
    if (end < 0) return;
    this.#keep(data.subarray(end + 2));
    onLine(data.toString('latin1', 0, end));
  }

  #keep(data: Buffer): void {
    this.#parts = data.length === 0 ? [] : [data];
    this.#length = data.length;
  }

  #takeMessages(): void {
    let data = Buffer.concat(this.#parts);
    this.#needed = 16;
    for (let length = messageLength(data); length !== undefined; length = messageLength(data)) {
      const isCut = length > mostKept;
      const kept = isCut ? headerLength(data) : length;
      if (kept > mostKept) throw new Error('a header without end');
      this.#needed = kept;
      if (data.length < kept) break;
      this.#needed = 16;
      this.#deliver(data.subarray(0, kept), isCut);
      if (this.#hasEnded) return;
      const rest = data.length - length;
      this.#skipped = Math.max(0, -rest);
      data = rest > 0 ? data.subarray(length) : Buffer.alloc(0);
    }
    this.#keep(data);
  }

  #deliver(data: Buffer, isCut: boolean): void {
    const message: Message = { ...parseMessage(data), ...(isCut ? { isCut } : {}) };
    message.fds = this.#fds.splice(0, message.descriptors);
    const { replySerial } = message;
    if (message.type === messageType.call || message.type === messageType.signal) {
      if (this.onMessage === undefined) closeDescriptors(message);
      else this.onMessage(message);
      return;
    }
    const resolve = replySerial === undefined ? undefined : this.#waiting.get(replySerial);
    if (replySerial === undefined || resolve === undefined) {
      closeDescriptors(message);
      return;
    }
    this.#waiting.delete(replySerial);
    resolve(message);
  }
}

export function closeDescriptors(message: Message): void {
  for (const fd of message.fds.splice(0)) closeSync(fd);
}

/** The answer to a call. @throws BusError where it is an error, Error where there is none. */
export function answerIn(call: Message, reply: Message | undefined): Message {
  if (reply === undefined)
    throw new Error(`${call.destination ?? 'the bus'} has not answered ${call.member}`);
  if (reply.type !== messageType.error) return reply;
  closeDescriptors(reply);
  throw new BusError(reply.errorName ?? '', textOf(reply));
}

function textOf(message: Message): string {
  if (!message.signature.startsWith('s')) return '';
  return String(readBody(message)[0] ?? '');
}

/** The first of the addresses that answers (D-Bus specification, server addresses). */
function connectTo(address: string, loop: SocketLoop): DescriptorStream {
  let reason: unknown = new Error(`"${address.slice(0, 200)}" is no address of a bus on this machine`);
  for (const each of address.split(';')) {
    const place = placeOf(each);
    if (place === undefined) continue;
    try {
      return DescriptorStream.connect(place, loop);
    } catch (error) {
      reason = error;
    }
  }
  throw reason;
}

function placeOf(address: string): string | undefined {
  if (!address.startsWith('unix:')) return undefined;
  const values = new Map(
    address
      .slice(5)
      .split(',')
      .map((pair): [string, string] => {
        const at = pair.indexOf('=');
        return [pair.slice(0, at), decodeURIComponent(pair.slice(at + 1))];
      }),
  );
  const name = values.get('abstract');
  return values.get('path') ?? (name === undefined ? undefined : `\0${name}`);
}
