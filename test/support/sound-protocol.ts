/**
 * PulseAudio's native protocol from a program's side, for what no tool can be made to do: buffers of any size, acts at any
 * moment, frames that make no sense. https://gitlab.freedesktop.org/pulseaudio/pulseaudio, PROTOCOL.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { rate } from './sound.ts';

export const command = {
  error: 0,
  reply: 2,
  createPlayback: 3,
  deletePlayback: 4,
  createRecording: 5,
  auth: 8,
  setClientName: 9,
  drain: 12,
  latency: 14,
  moduleInfo: 25,
  sampleInfo: 33,
  cork: 41,
  killSinkInput: 49,
  killSourceOutput: 50,
  request: 61,
  overflow: 62,
  killed: 64,
  recordingKilled: 65,
  updateProperties: 82,
  cardInfo: 88,
  bufferChanged: 94,
} as const;

const nothing = 0xffff_ffff;
/** Of a frame of the stream: two channels of 16 bits. */
export const frameBytes = 4;

const text = (value: string) => Buffer.from(value, 'latin1');

export function frame(payload: Buffer, stream = nothing, offset = 0n, seek = 0): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt32BE(payload.length, 0);
  header.writeUInt32BE(stream, 4);
  header.writeBigInt64BE(offset, 8);
  header.writeUInt32BE(seek, 16);
  return Buffer.concat([header, payload]);
}

export function number(value: number): Buffer {
  const bytes = text('L0000');
  bytes.writeUInt32BE(value >>> 0, 1);
  return bytes;
}

const flag = (value: boolean) => text(value ? '1' : '0');
export const name = (value: string | undefined) => (value === undefined ? text('N') : text(`t${value}\0`));
const spec = text('a\x03\x02\x00\x00\xbb\x80');
const map = text('m\x02\x01\x02');
const normalVolume = text('v\x02\x00\x01\x00\x00\x00\x01\x00\x00');
const noProperties = text('PN');

/** Names with a value each. */
export const properties = (names: readonly string[]) =>
  Buffer.concat([
    text('P'),
    ...names.map((each) => Buffer.concat([name(each), number(1), text('x\0\0\0\x01v')])),
    text('N'),
  ]);

/** Without shared memory, with any cookie. */
const authorisation = Buffer.concat([number(32), text('x'), Buffer.from([0, 0, 1, 0]), Buffer.alloc(256)]);
export const greeting = frame(Buffer.concat([number(command.auth), number(0), authorisation]));

/** In bytes; what is left out is the server's to choose. */
export interface BufferSizes {
  maximum?: number;
  target?: number;
  prebuffer?: number;
  request?: number;
}

function playback({ maximum, target, prebuffer, request }: BufferSizes): Buffer {
  const or = (size: number | undefined) => number(size ?? nothing);
  return Buffer.concat([
    ...[spec, map, number(nothing), name(undefined), or(maximum), flag(false)],
    ...[or(target), or(prebuffer), or(request), number(0), normalVolume, text('0000000')],
    ...[text('00'), noProperties, text('10'), text('000'), text('0'), text('0'), text('B\x00')],
  ]);
}

/** The frame that makes a stream with these buffers. */
export const stream = (sizes: BufferSizes) =>
  frame(Buffer.concat([number(command.createPlayback), number(1), playback(sizes)]));

/** Values of a message, in order; what is no number, text or flag is left out. */
function values(body: Buffer): (number | string | boolean | undefined)[] {
  const found: (number | string | boolean | undefined)[] = [];
  for (let at = 0; at < body.length; ) {
    const tag = String.fromCharCode(body[at++] ?? 0);
    const end = body.indexOf(0, at);
    switch (tag) {
      case 'L':
        found.push(body.readUInt32BE(at));
        at += 4;
        break;
      case 'B':
        found.push(body.readUInt8(at));
        at += 1;
        break;
      case 'R':
      case 'r':
      case 'U':
        found.push(Number(body.readBigInt64BE(at)));
        at += 8;
        break;
      case '0':
      case '1':
        found.push(tag === '1');
        break;
      case 'N':
        found.push(undefined);
        break;
      case 't':
        found.push(body.toString('utf8', at, end));
        at = end + 1;
        break;
      case 'T':
        at += 8;
        break;
      case 'a':
        at += 6;
        break;
      case 'm':
        at += 1 + (body[at] ?? 0);
        break;
      case 'v':
        at += 1 + (body[at] ?? 0) * 4;
        break;
      default:
        // Properties and formats: nothing that follows them is looked at.
        return found;
    }
  }
  return found;
}

export interface Created {
  stream: number;
  /** As everybody sees it. */
  number: number;
  /** How much is asked for at once. */
  missing: number;
  target: number;
}

export interface Latency {
  /** Of what the device has taken. */
  delayUsec: number;
  isPlaying: boolean;
  written: number;
  heard: number;
}

interface Answer {
  resolve: (body: Buffer) => void;
  reject: (error: Error) => void;
}

export class SoundProgram implements Disposable {
  readonly #socket: Socket;
  #received: Buffer = Buffer.of();
  #tag = 1;
  readonly #answers = new Map<number, Answer>();
  /** What the server said by itself: the command, then its values. */
  readonly told: (number | string | boolean | undefined)[][] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => this.#hear(chunk));
    socket.once('close', () => {
      for (const { reject } of this.#answers.values()) reject(new Error('the sound server has hung up'));
    });
  }

  static async connect(path: string): Promise<SoundProgram> {
    const socket = connect(path);
    await once(socket, 'connect');
    const program = new SoundProgram(socket);
    await program.ask(command.auth, authorisation);
    await program.ask(command.setClientName, noProperties);
    return program;
  }

  #hear(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    while (this.#received.length >= 20) {
      const end = 20 + this.#received.readUInt32BE(0);
      if (this.#received.length < end) return;
      const isCommand = this.#received.readUInt32BE(4) === nothing;
      const body = this.#received.subarray(20, end);
      this.#received = this.#received.subarray(end);
      if (isCommand) this.#handle(body);
    }
  }

  #handle(body: Buffer): void {
    const [what, tag] = [body.readUInt32BE(1), body.readUInt32BE(6)];
    const rest = body.subarray(10);
    if (what !== command.reply && what !== command.error) {
      this.told.push([what, ...values(rest)]);
      return;
    }
    const answer = this.#answers.get(tag);
    this.#answers.delete(tag);
    if (what === command.reply) answer?.resolve(rest);
    else answer?.reject(new Error(`the sound server refuses with error ${values(rest)[0]}`));
  }

  /** @throws Error with the server's number of what is wrong. */
  ask(what: number, ...parts: Buffer[]): Promise<Buffer> {
    const tag = this.#tag++;
    const answered = new Promise<Buffer>((resolve, reject) => {
      this.#answers.set(tag, { resolve, reject });
    });
    this.#socket.write(frame(Buffer.concat([number(what), number(tag), ...parts])));
    return answered;
  }

  async play(sizes: BufferSizes): Promise<Created> {
    const [stream, index, missing, , target] = values(
      await this.ask(command.createPlayback, playback(sizes)),
    );
    return {
      stream: Number(stream),
      number: Number(index),
      missing: Number(missing),
      target: Number(target),
    };
  }

  /** @param of the number of a stream whose level is to be shown. */
  async record(options: { fragment?: number; source?: string; of?: number } = {}): Promise<Created> {
    const body = Buffer.concat([
      ...[spec, map, number(nothing), name(options.source), number(nothing), flag(false)],
      ...[number(options.fragment ?? nothing), text('0000000'), text('01'), noProperties],
      ...[number(options.of ?? nothing), text('0'), text('00'), text('B\x00'), normalVolume],
      text('00000'),
    ]);
    const [stream, index, , fragment] = values(await this.ask(command.createRecording, body));
    return { stream: Number(stream), number: Number(index), missing: 0, target: Number(fragment) };
  }

  write(stream: number, samples: Buffer): void {
    this.#socket.write(frame(samples, stream));
  }

  cork(stream: number, isCorked: boolean): Promise<Buffer> {
    return this.ask(command.cork, number(stream), flag(isCorked));
  }

  async latency(stream: number): Promise<Latency> {
    const time = text('T00000000');
    const [delay, , isPlaying, written, heard] = values(
      await this.ask(command.latency, number(stream), time),
    );
    return {
      delayUsec: Number(delay),
      isPlaying: isPlaying === true,
      written: Number(written),
      heard: Number(heard),
    };
  }

  /** How often something was told. */
  count(what: number): number {
    return this.told.filter(([told]) => told === what).length;
  }

  /** How many bytes were asked for since the stream was made. */
  requested(stream: number): number {
    const requests = this.told.filter(([told, of]) => told === command.request && of === stream);
    return requests.reduce((sum, [, , bytes]) => sum + Number(bytes), 0);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** So many seconds of samples in bytes. */
export const bytesOf = (seconds: number) => Math.round(rate * seconds) * frameBytes;
