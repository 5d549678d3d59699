/**
 * A client of the Remote Framebuffer protocol 3.8 (RFC 6143) over a unix socket, as far as Torpor itself needs it: a
 * picture of the screen, keys and the pointer. The viewer in the windows is another one. It is made for short visits:
 * it reads only while it waits for an answer. What the server says is bounded and checked; on the first thing that is
 * not understood, or comes too late, the connection is ended and every later call is rejected with that reason.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { sentenceOf, TorporError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { keysymsOfChord, keysymsOfText } from './keys.ts';
import { fitsLimits, type Picture } from './picture.ts';

const defaultLimitMs = 10_000;
const bytesPerPixel = 4;
/** Rows are taken together up to this size. */
const bandBytes = 64 * 1024;
const longestName = 65_536;
const longestReason = 4096;
const longestCutText = 64 * 1024 * 1024;

/** Section 7.2. */
const securityNone = 1;
/**
 * Encodings, sections 7.7 and 7.8; the last two are the community's (rfbproto, "ExtendedDesktopSize" and "QEMU LED
 * State" pseudo-encodings). A client that does not take the state of the lock keys is believed to have Caps Lock on
 * when it sends a capital letter, and TigerVNC then turns it on in the server, where it stays.
 */
const encoding = { raw: 0, desktopSize: -223, extendedDesktopSize: -308, ledState: -261 } as const;
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
/** ExtendedDesktopSize's reason for a size that this client asked for, and what became of it. */
const askedByUs = 1;
const refusals: Readonly<Record<number, string>> = {
  1: 'resizing is not allowed',
  2: 'it has not enough memory',
  3: 'it does not take such a size',
};

interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** One screen of the server's layout, as it must be sent back with a new size. */
interface Screen {
  readonly id: number;
  readonly flags: number;
}

/** What one update brought. */
interface Update {
  pixels: number;
  /** It told the size, be it a new one or not. */
  hasSize: boolean;
  /** The answer to our SetDesktopSize: 0 is success. */
  resizeStatus?: number;
}

/** Why a socket cannot be used, from the system's error. */
function connectionError(path: string, error: NodeJS.ErrnoException): TorporError {
  switch (error.code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return new TorporError(
        'failed',
        `The screen at ${path} cannot be reached: nothing listens there.`,
        'See `torpor ps` whether it runs.',
      );
    case 'EACCES':
    case 'EPERM':
      return new TorporError('not-permitted', `The screen at ${path} belongs to another user.`);
    default:
      return new TorporError(
        'failed',
        `The connection to the screen at ${path} failed: ${error.message}.`,
        'See `torpor ps` whether it runs.',
      );
  }
}

export class RfbClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #reader: ByteReader;
  readonly #limitMs: number;
  readonly #path: string;
  #width = 0;
  #height = 0;
  #name = '';
  /** Known once the server has sent its layout, which shows that it can be resized. */
  #screen: Screen | undefined;
  #failure: Error | undefined;
  /** One request at a time: their answers cannot be told apart. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(socket: Socket, path: string, limitMs: number) {
    this.#socket = socket;
    this.#reader = new ByteReader(socket);
    this.#path = path;
    this.#limitMs = limitMs;
    socket.on('error', (error) => this.#fail(connectionError(path, error)));
    const closed = () =>
      this.#fail(
        new TorporError(
          'failed',
          `The screen at ${path} closed the connection.`,
          'See `torpor ps` whether it runs.',
        ),
      );
    socket.on('end', closed);
    socket.on('close', closed);
  }

  /** In pixels, as the server told it last. */
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
    const client = new RfbClient(connect(path), path, limitMs);
    await client.#inTurn(() => client.#handshake());
    return client;
  }

  /** Sections 7.1 to 7.4. */
  async #handshake(): Promise<void> {
    const version = (await this.#reader.take(12)).toString('latin1');
    const [, major, minor] = /^RFB (\d{3})\.(\d{3})\n$/.exec(version) ?? [];
    if (major === undefined) throw this.#nonsense('a greeting of another protocol');
    if (Number(major) === 3 && Number(minor) < 8) throw this.#nonsense(`an old version, ${major}.${minor},`);
    this.#socket.write('RFB 003.008\n');
    const count = (await this.#reader.take(1)).readUInt8(0);
    if (count === 0) throw await this.#refusal();
    const types = await this.#reader.take(count);
    if (!types.includes(securityNone)) throw this.#nonsense('no security type without a password');
    this.#socket.write(Buffer.from([securityNone]));
    if ((await this.#reader.take(4)).readUInt32BE(0) !== 0) throw await this.#refusal();
    const shared = 1;
    this.#socket.write(Buffer.from([shared]));
    const init = await this.#reader.take(24);
    this.#resize(init.readUInt16BE(0), init.readUInt16BE(2));
    const nameLength = init.readUInt32BE(20);
    if (nameLength > longestName) throw this.#nonsense(`a name of ${nameLength} bytes`);
    this.#name = (await this.#reader.take(nameLength)).toString('utf8');
    this.#sendFormat();
  }

  /** The reason that follows a refusal, sections 7.1.2 and 7.1.3. */
  async #refusal(): Promise<TorporError> {
    const length = (await this.#reader.take(4)).readUInt32BE(0);
    if (length > longestReason) throw this.#nonsense(`a reason of ${length} bytes`);
    const reason = (await this.#reader.take(length)).toString('utf8').replace(/\p{Cc}+/gu, ' ');
    return new TorporError('failed', `The screen at ${this.#path} refused the connection: ${reason}.`);
  }

  /** 32 bits a pixel, little endian, red in the lowest byte (section 7.4), and the encodings we read (7.5.2). */
  #sendFormat(): void {
    const format = Buffer.alloc(20);
    format.set([request.setPixelFormat, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16]);
    const kinds = Object.values(encoding);
    const encodings = Buffer.alloc(4 + 4 * kinds.length);
    encodings.writeUInt8(request.setEncodings, 0);
    encodings.writeUInt16BE(kinds.length, 2);
    kinds.forEach((kind, index) => {
      encodings.writeInt32BE(kind, 4 + 4 * index);
    });
    this.#socket.write(Buffer.concat([format, encodings]));
  }

  #resize(width: number, height: number): void {
    if (!fitsLimits(width, height)) throw this.#nonsense(`a size of ${width}x${height}`);
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

  /** Ends the connection; the first reason is what all that waits and all that comes is told. */
  #fail(error: Error): void {
    this.#failure ??= error;
    this.#reader.fail(this.#failure);
    this.#socket.destroy();
  }

  /** Runs it after what was asked before, with a time limit of its own. Whatever goes wrong in it is the end. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(async () => {
      if (this.#failure !== undefined) throw this.#failure;
      const late = setTimeout(() => {
        this.#fail(
          new TorporError(
            'failed',
            `The screen at ${this.#path} did not answer within ${this.#limitMs / 1000} s.`,
            'See `torpor ps` whether it runs.',
          ),
        );
      }, this.#limitMs);
      try {
        return await work();
      } catch (error) {
        this.#fail(error instanceof Error ? error : new Error(sentenceOf(error)));
        throw this.#failure ?? error;
      } finally {
        clearTimeout(late);
      }
    });
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /**
   * The whole screen as it is now, with the pointer drawn in it by the server.
   * @throws TorporError `failed` where the server does not send it in time.
   */
  capture(): Promise<Picture> {
    return this.#inTurn(async () => {
      for (;;) {
        const [width, height] = [this.#width, this.#height];
        const picture = { width, height, rgb: new Uint8Array(width * height * 3) };
        if (await this.#fill(width, height, picture)) return picture;
      }
    });
  }

  /**
   * Asks for an area from the upper left corner until all of it has come. TigerVNC answers each full request with its
   * screen layout alone and then waits; what it still owes comes with an incremental one.
   * @returns false where the screen has got another size meanwhile.
   */
  async #fill(width: number, height: number, picture?: Picture): Promise<boolean> {
    const [fullWidth, fullHeight] = [this.#width, this.#height];
    this.#askFor(width, height, false);
    for (let missing = width * height; missing > 0; ) {
      const update = await this.#readUpdate(picture);
      if (this.#width !== fullWidth || this.#height !== fullHeight) return false;
      missing -= update.pixels;
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

  /** Reads messages up to and with the next update (section 7.6.1); its pixels go into the picture, if there is one. */
  async #readUpdate(picture?: Picture): Promise<Update> {
    for (let skipped = 1; !(await this.#isUpdate()); skipped++) if (skipped % 256 === 0) await nextTurn();
    const rectangles = (await this.#reader.take(3)).readUInt16BE(1);
    const update: Update = { pixels: 0, hasSize: false };
    for (let index = 0; index < rectangles; index++) {
      const header = await this.#reader.take(12);
      const [x, y, width, height] = [0, 2, 4, 6].map((at) => header.readUInt16BE(at)) as [
        number,
        number,
        number,
        number,
      ];
      const rectangle = { x, y, width, height };
      const kind = header.readInt32BE(8);
      if (kind === encoding.raw) update.pixels += await this.#readRaw(rectangle, picture);
      else if (kind === encoding.desktopSize) this.#resize(width, height);
      else if (kind === encoding.extendedDesktopSize) await this.#readLayout(rectangle, update);
      else if (kind === encoding.ledState) await this.#reader.skip(1);
      else throw this.#nonsense(`encoding ${kind}`);
      update.hasSize ||= kind === encoding.desktopSize || kind === encoding.extendedDesktopSize;
    }
    return update;
  }

  /** Reads the type of a message, and skips it unless it is an update. */
  async #isUpdate(): Promise<boolean> {
    const type = (await this.#reader.take(1)).readUInt8(0);
    switch (type) {
      case answer.update:
        return true;
      case answer.bell:
        return false;
      case answer.colourMap: {
        const colours = (await this.#reader.take(5)).readUInt16BE(3);
        await this.#reader.skip(colours * 6);
        return false;
      }
      case answer.cutText: {
        const length = (await this.#reader.take(7)).readUInt32BE(3);
        if (length > longestCutText) throw this.#nonsense(`a clipboard of ${length} bytes`);
        await this.#reader.skip(length);
        return false;
      }
      default:
        throw this.#nonsense(`a message of type ${type}`);
    }
  }

  /** Section 7.7.1. @returns the number of pixels. */
  async #readRaw({ x, y, width, height }: Rectangle, picture?: Picture): Promise<number> {
    if (x + width > this.#width || y + height > this.#height)
      throw this.#nonsense('a rectangle outside of it');
    const pixels = width * height;
    // After a new size in the same update the picture is void.
    if (picture === undefined || picture.width !== this.#width || picture.height !== this.#height) {
      await this.#reader.skip(pixels * bytesPerPixel);
      return pixels;
    }
    if (pixels === 0) return 0;
    const rowsAtOnce = Math.max(1, Math.floor(bandBytes / (width * bytesPerPixel)));
    for (let row = 0; row < height; row += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, height - row);
      const band = await this.#reader.take(rows * width * bytesPerPixel);
      for (let line = 0; line < rows; line++) {
        let from = line * width * bytesPerPixel;
        let to = ((y + row + line) * picture.width + x) * 3;
        for (const end = to + width * 3; to < end; from += bytesPerPixel) {
          picture.rgb[to++] = band[from] ?? 0;
          picture.rgb[to++] = band[from + 1] ?? 0;
          picture.rgb[to++] = band[from + 2] ?? 0;
        }
      }
    }
    return pixels;
  }

  /** ExtendedDesktopSize: x is the reason, y the status, and the body lists the screens. */
  async #readLayout({ x, y, width, height }: Rectangle, update: Update): Promise<void> {
    const count = (await this.#reader.take(4)).readUInt8(0);
    const screens = await this.#reader.take(count * 16);
    this.#screen =
      count === 0 ? { id: 0, flags: 0 } : { id: screens.readUInt32BE(0), flags: screens.readUInt32BE(12) };
    if (x === askedByUs) update.resizeStatus = y;
    const isRefusal = x === askedByUs && y !== 0;
    if (!isRefusal) this.#resize(width, height);
  }

  /** Sends something and waits until the server has worked it off: it answers in order. */
  #send(message: Uint8Array): Promise<void> {
    return this.#inTurn(async () => {
      this.#socket.write(message);
      while (!(await this.#fill(1, 1)));
    });
  }

  /** Presses or releases the key of an X11 keysym (section 7.5.4). Returns when the server has taken it. */
  key(keysym: number, down: boolean): Promise<void> {
    return this.#send(keyEvent(keysym, down));
  }

  /**
   * Types a text, one key after the other. Returns when the server has taken them all.
   * @throws TorporError `usage`, before anything is typed, on a character that no key stands for.
   */
  async type(text: string): Promise<void> {
    const keysyms = keysymsOfText(text);
    // The first key of a new server is lost if it needs a new mapping (measured with TigerVNC 1.12, whatever the pace).
    if (keysyms.some((keysym) => keysym > 0x7f)) await this.press('shift');
    for (const keysym of keysyms) {
      await this.#send(Buffer.concat([keyEvent(keysym, true), keyEvent(keysym, false)]));
      // The server maps a character without a key of its own onto a spare one, and applications need to notice that.
      await sleep(5);
    }
  }

  /** Presses keys together, as in `ctrl+shift+s` or `Return`. @throws TorporError `usage` on an unknown name. */
  async press(chord: string): Promise<void> {
    const keysyms = keysymsOfChord(chord);
    await this.#send(
      Buffer.concat([
        ...keysyms.map((keysym) => keyEvent(keysym, true)),
        ...keysyms.toReversed().map((keysym) => keyEvent(keysym, false)),
      ]),
    );
  }

  /**
   * Moves the pointer; `buttons` is a bit mask, bit 0 the left one (section 7.5.5). Returns when the server has taken it.
   * @throws TorporError `usage` on a place outside of the screen.
   */
  async pointer(x: number, y: number, buttons = 0): Promise<void> {
    const isInside = (at: number, size: number) => Number.isInteger(at) && at >= 0 && at < size;
    if (!isInside(x, this.#width) || !isInside(y, this.#height)) {
      throw new TorporError('usage', `${x},${y} is outside of the screen of ${this.#width}x${this.#height}.`);
    }
    const message = Buffer.alloc(6);
    message.writeUInt8(request.pointer, 0);
    message.writeUInt8(buttons, 1);
    message.writeUInt16BE(x, 2);
    message.writeUInt16BE(y, 4);
    await this.#send(message);
  }

  /** Presses and releases a button; 1 is the left one, 2 the middle, 3 the right, 4 and 5 the wheel. */
  async click(x: number, y: number, button = 1): Promise<void> {
    await this.pointer(x, y);
    await this.pointer(x, y, 1 << (button - 1));
    await this.pointer(x, y);
  }

  /**
   * Gives the server's desktop another size, as one screen; resolves when it has it.
   * @throws TorporError `usage` on a size beyond the limits, `failed` where the server cannot or will not.
   */
  async setDesktopSize(width: number, height: number): Promise<void> {
    if (!fitsLimits(width, height)) {
      throw new TorporError(
        'usage',
        `A screen cannot be ${width}x${height} pixels large.`,
        'Choose another size.',
      );
    }
    const refusal = await this.#inTurn(async () => {
      // Whether it can be resized shows in the answer to a full request.
      if (this.#screen === undefined) while (!(await this.#fill(1, 1)));
      if (this.#screen === undefined) return 'it has a fixed size';
      this.#socket.write(resizeRequest(width, height, this.#screen));
      const status = await this.#resizeStatus();
      return status === 0 ? undefined : (refusals[status] ?? `status ${status}`);
    });
    if (refusal !== undefined) {
      throw new TorporError(
        'failed',
        `The screen at ${this.#path} was not resized to ${width}x${height}: ${refusal}.`,
      );
    }
  }

  /** The server tells it with the next update, and sends that only when asked. */
  async #resizeStatus(): Promise<number> {
    for (;;) {
      this.#askFor(1, 1, false);
      for (;;) {
        const update = await this.#readUpdate();
        if (update.resizeStatus !== undefined) return update.resizeStatus;
        if (!update.hasSize) break;
        this.#askFor(1, 1, true);
      }
    }
  }

  /** Ends the connection; whatever still waits is rejected. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#socket.closed) return;
    const closed = once(this.#socket, 'close');
    this.#fail(new TorporError('failed', `The connection to the screen at ${this.#path} was ended.`));
    await closed;
  }
}

function keyEvent(keysym: number, down: boolean): Buffer {
  const message = Buffer.alloc(8);
  message.writeUInt8(request.key, 0);
  message.writeUInt8(down ? 1 : 0, 1);
  message.writeUInt32BE(keysym, 4);
  return message;
}

function resizeRequest(width: number, height: number, screen: Screen): Buffer {
  const message = Buffer.alloc(24);
  message.writeUInt8(request.setDesktopSize, 0);
  message.writeUInt16BE(width, 2);
  message.writeUInt16BE(height, 4);
  message.writeUInt8(1, 6);
  message.writeUInt32BE(screen.id, 8);
  message.writeUInt16BE(width, 16);
  message.writeUInt16BE(height, 18);
  message.writeUInt32BE(screen.flags, 20);
  return message;
}

/**
 * Connects to the RFB server at this socket, beside any other viewer. `timeoutMs` limits the handshake and each later
 * request, by default 10 s.
 * @throws TorporError `failed` naming the socket where nobody answers or what answers is no RFB server without a
 * password; `not-permitted` where the socket is another user's.
 */
export function connectRfb(path: string, options: { timeoutMs?: number } = {}): Promise<RfbClient> {
  return RfbClient.open(path, options.timeoutMs ?? defaultLimitMs);
}
