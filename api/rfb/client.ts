/**
 * A client of the Remote Framebuffer protocol 3.8 (RFC 6143) over a unix socket, as far as Torpor itself needs it: a
 * picture of the screen, keys and the pointer. The viewer in the windows is another one.
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../errors.ts';
import type { Picture } from './picture.ts';

const largestSide = 16_384;
const defaultLimitMs = 10_000;

/** Encodings, RFC 6143 section 7.7 and 7.8. */
const encoding = { raw: 0, desktopSize: -223, extendedDesktopSize: -308 } as const;
/** Messages of the client, section 7.5, and the community's SetDesktopSize. */
const request = {
  setPixelFormat: 0,
  setEncodings: 2,
  update: 3,
  key: 4,
  pointer: 5,
  setDesktopSize: 251,
} as const;
/** Messages of the server, section 7.6. */
const answer = { update: 0, colourMap: 1, bell: 2, cutText: 3 } as const;

/** Names of keys that are no characters, as X11 knows them (keysymdef.h). */
const keysyms: Readonly<Record<string, number>> = {
  ctrl: 0xffe3, shift: 0xffe1, alt: 0xffe9, super: 0xffeb, return: 0xff0d, enter: 0xff0d, tab: 0xff09, escape: 0xff1b,
  backspace: 0xff08, delete: 0xffff, home: 0xff50, end: 0xff57, left: 0xff51, up: 0xff52, right: 0xff53, down: 0xff54,
  pageup: 0xff55, pagedown: 0xff56, f1: 0xffbe, f2: 0xffbf, f3: 0xffc0, f4: 0xffc1, f5: 0xffc2, f10: 0xffc7, space: 0x20,
}; // biome-ignore format: a table

function keysymOf(character: string): number {
  if (character === '\n') return keysyms.return ?? 0;
  if (character === '\t') return keysyms.tab ?? 0;
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? code : 0x0100_0000 + code;
}

/** Bytes as they come, handed out in the amounts asked for. */
class Reader {
  readonly #chunks: Buffer[] = [];
  #available = 0;
  #wake: (() => void) | undefined;
  #failure: Error | undefined;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#available += chunk.length;
    this.#wake?.();
  }

  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  async take(count: number): Promise<Buffer> {
    while (this.#available < count) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const out = Buffer.allocUnsafe(count);
    let filled = 0;
    while (filled < count) {
      const first = this.#chunks[0] ?? Buffer.alloc(0);
      const used = Math.min(first.length, count - filled);
      first.copy(out, filled, 0, used);
      filled += used;
      if (used === first.length) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(used);
    }
    this.#available -= count;
    return out;
  }
}

export class RfbClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #reader: Reader;
  readonly #limitMs: number;
  readonly #path: string;
  #width = 0;
  #height = 0;
  #name = '';
  /** One request at a time: their answers cannot be told apart. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(socket: Socket, reader: Reader, path: string, limitMs: number) {
    this.#socket = socket;
    this.#reader = reader;
    this.#path = path;
    this.#limitMs = limitMs;
  }

  get width(): number {
    return this.#width;
  }
  get height(): number {
    return this.#height;
  }
  /** What the server calls its desktop. */
  get name(): string {
    return this.#name;
  }

  static async open(path: string, limitMs: number): Promise<RfbClient> {
    const reader = new Reader();
    const broken = (reason: string) =>
      reader.fail(
        new TorporError(
          'failed',
          `The screen at ${path} cannot be reached: ${reason}.`,
          'See `torpor ps` whether it runs.',
        ),
      );
    const socket = connect(path);
    socket.on('data', (chunk) => reader.push(chunk));
    socket.on('error', (error) => broken(error.message));
    socket.on('close', () => broken('the connection was closed'));
    const client = new RfbClient(socket, reader, path, limitMs);
    try {
      await client.#within(client.#handshake());
      return client;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** Sections 7.1 to 7.4. */
  async #handshake(): Promise<void> {
    const version = (await this.#reader.take(12)).toString('latin1');
    if (!/^RFB 003\.\d{3}\n$/.test(version) || Number(version.slice(8, 11)) < 8)
      throw this.#nonsense('its version');
    this.#socket.write('RFB 003.008\n');
    const count = (await this.#reader.take(1)).readUInt8(0);
    const types = await this.#reader.take(count);
    if (!types.includes(1)) throw this.#nonsense('no security type that fits');
    this.#socket.write(Buffer.from([1]));
    if ((await this.#reader.take(4)).readUInt32BE(0) !== 0) throw this.#nonsense('a refusal');
    this.#socket.write(Buffer.from([1]));
    const init = await this.#reader.take(24);
    this.#resize(init.readUInt16BE(0), init.readUInt16BE(2));
    const nameLength = init.readUInt32BE(20);
    if (nameLength > 65_536) throw this.#nonsense('the length of its name');
    this.#name = (await this.#reader.take(nameLength)).toString('utf8');
    this.#sendFormat();
  }

  /** 32 bits a pixel, little endian, red in the lowest byte, so that rows can be copied as they come. */
  #sendFormat(): void {
    const format = Buffer.alloc(20);
    format.set([request.setPixelFormat, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16]);
    const kinds = [encoding.raw, encoding.desktopSize, encoding.extendedDesktopSize];
    const encodings = Buffer.alloc(4 + 4 * kinds.length);
    encodings.writeUInt8(request.setEncodings, 0);
    encodings.writeUInt16BE(kinds.length, 2);
    kinds.forEach((kind, index) => {
      encodings.writeInt32BE(kind, 4 + 4 * index);
    });
    this.#socket.write(Buffer.concat([format, encodings]));
  }

  #resize(width: number, height: number): void {
    if (width < 1 || height < 1 || width > largestSide || height > largestSide) {
      throw this.#nonsense(`a size of ${width}x${height}`);
    }
    this.#width = width;
    this.#height = height;
  }

  #nonsense(what: string): TorporError {
    return new TorporError(
      'failed',
      `The screen at ${this.#path} sent ${what}, which is not understood.`,
      'See `torpor doctor`.',
    );
  }

  async #within<T>(work: Promise<T>): Promise<T> {
    const waiting = new AbortController();
    const late = sleep(this.#limitMs, undefined, { signal: waiting.signal, ref: false }).then(() => {
      this.#socket.destroy();
      throw new TorporError(
        'failed',
        `The screen at ${this.#path} did not answer within ${this.#limitMs / 1000} s.`,
        'See `torpor ps`.',
      );
    });
    late.catch(() => {});
    try {
      return await Promise.race([work, late]);
    } finally {
      waiting.abort();
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(() => this.#within(work()));
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** The whole screen as it is now. */
  capture(): Promise<Picture> {
    return this.#inTurn(async () => {
      for (;;) {
        const [width, height] = [this.#width, this.#height];
        const picture = { width, height, rgb: new Uint8Array(width * height * 3) };
        const whole = await this.#fill(width, height, (header) => this.#readRaw(header, picture));
        if (whole) return picture;
      }
    });
  }

  /**
   * Asks for an area from the upper left corner until all of it has come. A server may answer the first, full request
   * with its screen layout alone (ExtendedDesktopSize); what it then still owes comes with an incremental one.
   * @returns false where the screen has got another size meanwhile.
   */
  async #fill(width: number, height: number, readRaw: (header: Buffer) => Promise<number>): Promise<boolean> {
    const [fullWidth, fullHeight] = [this.#width, this.#height];
    this.#askFor(width, height, false);
    for (let missing = width * height; missing > 0; ) {
      const pixels = await this.#readUpdate(readRaw);
      if (this.#width !== fullWidth || this.#height !== fullHeight) return false;
      missing -= pixels;
      if (missing > 0) this.#askFor(width, height, true);
    }
    return true;
  }

  /** Section 7.5.3. */
  #askFor(width: number, height: number, incremental: boolean): void {
    const message = Buffer.alloc(10);
    message.writeUInt8(request.update, 0);
    message.writeUInt8(incremental ? 1 : 0, 1);
    message.writeUInt16BE(width, 6);
    message.writeUInt16BE(height, 8);
    this.#socket.write(message);
  }

  /** Reads messages up to and with the next update. @returns how many pixels came with it. */
  async #readUpdate(readRaw: (header: Buffer) => Promise<number>): Promise<number> {
    while (!(await this.#skipToUpdate()));
    const rectangles = (await this.#reader.take(3)).readUInt16BE(1);
    let pixels = 0;
    for (let index = 0; index < rectangles; index++) {
      const header = await this.#reader.take(12);
      const kind = header.readInt32BE(8);
      if (kind === encoding.raw) pixels += await readRaw(header);
      else await this.#readSize(header, kind);
    }
    return pixels;
  }

  /** Reads the type of a message, and skips it unless it is an update. */
  async #skipToUpdate(): Promise<boolean> {
    const type = (await this.#reader.take(1)).readUInt8(0);
    switch (type) {
      case answer.update:
        return true;
      case answer.bell:
        return false;
      case answer.colourMap:
        await this.#reader.take((await this.#reader.take(5)).readUInt16BE(3) * 6);
        return false;
      case answer.cutText: {
        const length = (await this.#reader.take(7)).readUInt32BE(3);
        if (length > 64 * 1024 * 1024) throw this.#nonsense('the length of a clipboard');
        await this.#reader.take(length);
        return false;
      }
      default:
        throw this.#nonsense(`a message of type ${type}`);
    }
  }

  async #readRaw(
    header: Buffer,
    picture: { width: number; height: number; rgb: Uint8Array },
  ): Promise<number> {
    const [x, y, width, height] = [0, 2, 4, 6].map((at) => header.readUInt16BE(at)) as [
      number,
      number,
      number,
      number,
    ];
    if (x + width > picture.width || y + height > picture.height)
      throw this.#nonsense('a rectangle outside of it');
    for (let row = 0; row < height; row++) {
      const line = await this.#reader.take(width * 4);
      let to = ((y + row) * picture.width + x) * 3;
      for (let from = 0; from < line.length; from += 4) {
        picture.rgb[to++] = line[from] ?? 0;
        picture.rgb[to++] = line[from + 1] ?? 0;
        picture.rgb[to++] = line[from + 2] ?? 0;
      }
    }
    return width * height;
  }

  /** A new size: DesktopSize (section 7.8.2) has no body, the extended one lists screens. */
  async #readSize(header: Buffer, kind: number): Promise<void> {
    if (kind !== encoding.desktopSize && kind !== encoding.extendedDesktopSize)
      throw this.#nonsense(`encoding ${kind}`);
    if (kind === encoding.extendedDesktopSize) {
      const screens = (await this.#reader.take(4)).readUInt8(0);
      await this.#reader.take(screens * 16);
      const refused = header.readUInt16BE(2) !== 0;
      if (refused) return;
    }
    this.#resize(header.readUInt16BE(4), header.readUInt16BE(6));
  }

  /** Waits until the server has worked off what was sent before: it answers in order. */
  #settle(): Promise<void> {
    return this.#inTurn(async () => {
      const discard = async (header: Buffer) => {
        const pixels = header.readUInt16BE(4) * header.readUInt16BE(6);
        await this.#reader.take(pixels * 4);
        return pixels;
      };
      await this.#fill(1, 1, discard);
    });
  }

  #sendKey(keysym: number, down: boolean): void {
    const message = Buffer.alloc(8);
    message.writeUInt8(request.key, 0);
    message.writeUInt8(down ? 1 : 0, 1);
    message.writeUInt32BE(keysym, 4);
    this.#socket.write(message);
  }

  /** Types a text, a key after the other. Returns when the server has taken them all. */
  async type(text: string): Promise<void> {
    for (const character of text) {
      const keysym = keysymOf(character);
      this.#sendKey(keysym, true);
      this.#sendKey(keysym, false);
      // The server maps a character without a key of its own onto a spare one, and applications need to notice that.
      await this.#settle();
      await sleep(5);
    }
  }

  /** Presses keys together, as in `ctrl+shift+s` or `Return`. @throws TorporError `usage` on an unknown name. */
  async press(chord: string): Promise<void> {
    const keys = chord.split('+').map((name) => {
      const keysym = keysyms[name.toLowerCase()] ?? ([...name].length === 1 ? keysymOf(name) : undefined);
      if (keysym === undefined) throw new TorporError('usage', `There is no key named ${name}.`);
      return keysym;
    });
    for (const keysym of keys) this.#sendKey(keysym, true);
    for (const keysym of keys.reverse()) this.#sendKey(keysym, false);
    await this.#settle();
  }

  /** Moves the pointer; `buttons` is a bit mask, bit 0 the left one (section 7.5.5). */
  async pointer(x: number, y: number, buttons = 0): Promise<void> {
    const message = Buffer.alloc(6);
    message.writeUInt8(request.pointer, 0);
    message.writeUInt8(buttons, 1);
    message.writeUInt16BE(x, 2);
    message.writeUInt16BE(y, 4);
    this.#socket.write(message);
    await this.#settle();
  }

  /** Presses and releases a button, 1 being the left one. */
  async click(x: number, y: number, button = 1): Promise<void> {
    await this.pointer(x, y);
    await this.pointer(x, y, 1 << (button - 1));
    await this.pointer(x, y);
  }

  /** Asks the server for another size of one screen, and waits until it has it or refuses. */
  async setDesktopSize(width: number, height: number): Promise<void> {
    const message = Buffer.alloc(24);
    message.writeUInt8(request.setDesktopSize, 0);
    message.writeUInt16BE(width, 2);
    message.writeUInt16BE(height, 4);
    message.writeUInt8(1, 6);
    message.writeUInt16BE(width, 16);
    message.writeUInt16BE(height, 18);
    this.#socket.write(message);
    await this.#settle();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }
}

/**
 * Connects to the RFB server at this socket.
 * @throws TorporError `failed` naming the socket where nobody answers or what answers is no RFB server.
 */
export function connectRfb(path: string, options: { timeoutMs?: number } = {}): Promise<RfbClient> {
  return RfbClient.open(path, options.timeoutMs ?? defaultLimitMs);
}
