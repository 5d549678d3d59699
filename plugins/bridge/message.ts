/**
 * D-Bus messages as they are on the wire (D-Bus specification, message protocol). What is passed on is mostly passed on
 * as it came: only the header is made anew, and a body is read where something in it belongs to one of the two sides.
 * Written here and not taken from the library because one side may be hostile: nothing that comes may throw outside of
 * these functions, be taken for more than it is, or change on its way.
 */

export const messageType = { call: 1, reply: 2, error: 3, signal: 4 } as const;
export const noReplyExpected = 1;

/** No message larger than this is passed on. */
export const largestMessage = 1024 * 1024;
const deepest = 32;

export interface Variant {
  signature: string;
  value: Value;
}
/** Structs and arrays are lists, entries of dictionaries pairs, `ay` is a buffer, `h` the index of a descriptor. */
export type Value = number | bigint | boolean | string | Buffer | Variant | Value[];

export interface Message {
  type: number;
  flags: number;
  serial: number;
  path?: string;
  interface?: string;
  member?: string;
  errorName?: string;
  replySerial?: number;
  destination?: string;
  sender?: string;
  signature: string;
  body: Buffer;
  /** Of the body, and of the header when it is written. */
  bigEndian: boolean;
  /** It was too large, and its body was not kept. */
  isCut?: boolean;
  /** How many descriptors its header says that it has. */
  descriptors: number;
  /** Descriptors that came with it. Whoever has the message closes them, or sends it on. */
  fds: number[];
}

export class WireError extends Error {
  override readonly name = 'WireError';
}

const fixedHeader = 16;
const pad = (at: number, to: number) => Math.ceil(at / to) * to;

/** Bytes of the whole message that begins here, or undefined where too little has come to tell. @throws WireError */
export function messageLength(data: Buffer): number | undefined {
  if (data.length < fixedHeader) return undefined;
  const order = data[0];
  if (order !== 0x6c && order !== 0x42) throw new WireError('neither byte order');
  const read = (at: number) => (order === 0x42 ? data.readUInt32BE(at) : data.readUInt32LE(at));
  return fixedHeader + pad(read(12), 8) + read(4);
}

/** Bytes of its header, as far as this tells. @throws WireError */
export function headerLength(data: Buffer): number {
  const length = data[0] === 0x42 ? data.readUInt32BE(12) : data.readUInt32LE(12);
  return fixedHeader + pad(length, 8);
}

/** The message in this data, of which the body may be missing. @throws WireError, RangeError */
export function parseMessage(data: Buffer): Message {
  const bigEndian = data[0] === 0x42;
  const reader = new Reader(data, bigEndian, 12);
  const fields = reader.read(complete('a(yv)')) as [number, Variant][];
  const body = data.subarray(pad(reader.at, 8));
  const message: Message = {
    type: data[1] ?? 0,
    flags: data[2] ?? 0,
    serial: bigEndian ? data.readUInt32BE(8) : data.readUInt32LE(8),
    signature: '',
    body,
    bigEndian,
    descriptors: 0,
    fds: [],
  };
  for (const [code, { value }] of fields) {
    if (code === descriptorsField && typeof value === 'number') message.descriptors = value;
    const name = fieldNames[code];
    if (name !== undefined && typeof value === fieldKinds[name]) Object.assign(message, { [name]: value });
  }
  return message;
}

const fieldNames: Readonly<Record<number, keyof typeof fieldKinds>> = {
  1: 'path',
  2: 'interface',
  3: 'member',
  4: 'errorName',
  5: 'replySerial',
  6: 'destination',
  7: 'sender',
  8: 'signature',
};
const fieldKinds = {
  path: 'string',
  interface: 'string',
  member: 'string',
  errorName: 'string',
  replySerial: 'number',
  destination: 'string',
  sender: 'string',
  signature: 'string',
} as const;
const descriptorsField = 9;
const fieldTypes = ['o', 's', 's', 's', 'u', 's', 's', 'g'];

/** The message as it is sent; the bus adds who has sent it. */
export function writeMessage(message: Message): Buffer {
  const writer = new Writer(message.bigEndian);
  const order = message.bigEndian ? 0x42 : 0x6c;
  for (const byte of [order, message.type, message.flags, 1]) writer.write({ code: 'y', inner: [] }, byte);
  writer.write(uint32, message.body.length);
  writer.write(uint32, message.serial);
  const fields: Value[] = [];
  for (const [code, name] of Object.entries(fieldNames)) {
    const value = message[name];
    if (name !== 'sender' && value !== undefined && value !== '')
      fields.push([Number(code), { signature: fieldTypes[Number(code) - 1] ?? 's', value }]);
  }
  if (message.fds.length > 0) fields.push([descriptorsField, { signature: 'u', value: message.fds.length }]);
  writer.write(complete('a(yv)'), fields);
  writer.align(8);
  return Buffer.concat([writer.data(), message.body]);
}

/** What the body says. @throws WireError, RangeError where it is not of its signature. */
export function readBody({
  body,
  bigEndian,
  signature,
}: Pick<Message, 'body' | 'bigEndian' | 'signature'>): Value[] {
  const reader = new Reader(body, bigEndian);
  return parseSignature(signature).map((type) => reader.read(type));
}

/** A body of this signature. */
export function writeBody(signature: string, values: readonly Value[], bigEndian = false): Buffer {
  const writer = new Writer(bigEndian);
  for (const [index, type] of parseSignature(signature).entries()) writer.write(type, values[index] ?? 0);
  return writer.data();
}

const blank = { flags: 0, serial: 0, signature: '', body: Buffer.alloc(0), bigEndian: false, descriptors: 0 };

export interface Addressed {
  destination?: string;
  path: string;
  interface: string;
  member: string;
}

export function newCall(to: Addressed, signature = '', values: readonly Value[] = []): Message {
  return { ...blank, ...to, type: messageType.call, signature, body: writeBody(signature, values), fds: [] };
}

export function newSignal(from: Addressed, signature = '', values: readonly Value[] = []): Message {
  return { ...newCall(from, signature, values), type: messageType.signal, flags: noReplyExpected };
}

const answerTo = ({ serial, sender }: Message) => ({
  ...blank,
  flags: noReplyExpected,
  replySerial: serial,
  ...(sender === undefined ? {} : { destination: sender }),
  fds: [],
});

export function newReply(call: Message, signature = '', values: readonly Value[] = []): Message {
  return { ...answerTo(call), type: messageType.reply, signature, body: writeBody(signature, values) };
}

export function newError(call: Message, errorName: string, text: string): Message {
  const body = writeBody('s', [text]);
  return { ...answerTo(call), type: messageType.error, errorName, signature: 's', body };
}

/**
 * The same message with what a function makes of its strings and object paths; itself where nothing is different.
 * @throws WireError, RangeError
 */
export function mapStrings(message: Message, map: (text: string, isPath: boolean) => string): Message {
  if (!/[sov]/.test(message.signature)) return message;
  const types = parseSignature(message.signature);
  const values = readBody(message);
  let isChanged = false;
  const change = (type: Type, value: Value): Value => {
    if (type.code === 's' || type.code === 'o') {
      const mapped = map(value as string, type.code === 'o');
      if (mapped !== value) isChanged = true;
      return mapped;
    }
    if (type.code === 'v') {
      const { signature, value: inner } = value as Variant;
      return { signature, value: change(complete(signature), inner) };
    }
    if (!Array.isArray(value)) return value;
    const [first] = type.inner;
    if (type.code === 'a' && first !== undefined) return value.map((each) => change(first, each));
    return value.map((each, index) => change(type.inner[index] ?? type, each));
  };
  const changed = values.map((value, index) => change(types[index] ?? complete('y'), value));
  if (!isChanged) return message;
  return { ...message, body: writeBody(message.signature, changed, message.bigEndian) };
}

/** Whether it is more than is passed on. */
export const isTooLarge = ({ isCut, body }: Message) => isCut === true || body.length > largestMessage;

/** The first value of a body, where that is a string. @throws WireError, RangeError */
export function firstString(message: Message): string | undefined {
  if (!message.signature.startsWith('s')) return undefined;
  return String(readBody({ ...message, signature: 's' })[0]);
}

/** The value of a key in a dictionary of type a{sv}. */
export function entryOf(dictionary: Value | undefined, key: string): Value | undefined {
  if (!Array.isArray(dictionary)) return undefined;
  const found = dictionary.find((each) => Array.isArray(each) && each[0] === key);
  return (found as [string, Variant] | undefined)?.[1].value;
}

/* ---- types ---- */

interface Type {
  code: string;
  inner: Type[];
}

const uint32: Type = { code: 'u', inner: [] };
const basic = 'ybnqiuxtdsogh';
const known = new Map<string, Type[]>();

/** @throws WireError */
export function parseSignature(signature: string): Type[] {
  const there = known.get(signature);
  if (there !== undefined) return there;
  if (signature.length > 255) throw new WireError('a signature is too long');
  let at = 0;
  const one = (depth: number): Type => {
    if (depth > deepest) throw new WireError('a signature is too deep');
    const code = signature[at++] ?? '';
    if (code === 'a') return { code, inner: [one(depth + 1)] };
    if (code === '(' || code === '{') {
      const end = code === '(' ? ')' : '}';
      const inner: Type[] = [];
      while (at < signature.length && signature[at] !== end) inner.push(one(depth + 1));
      if (signature[at++] !== end || inner.length === 0) throw new WireError('a signature is not closed');
      if (code === '{' && inner.length !== 2) throw new WireError('an entry is no pair');
      return { code, inner };
    }
    if (code === 'v' || (code !== '' && basic.includes(code))) return { code, inner: [] };
    throw new WireError('a signature has an unknown type');
  };
  const types: Type[] = [];
  while (at < signature.length) types.push(one(0));
  // What others choose must not fill the memory.
  if (known.size < 500) known.set(signature, types);
  return types;
}

function complete(signature: string): Type {
  const [type, ...more] = parseSignature(signature);
  if (type === undefined || more.length > 0) throw new WireError('not one complete type');
  return type;
}

const alignments: Readonly<Record<string, number>> = {
  ...{ y: 1, g: 1, v: 1, n: 2, q: 2, i: 4, u: 4, b: 4, s: 4, o: 4, a: 4, h: 4 },
  ...{ x: 8, t: 8, d: 8, '(': 8, '{': 8 },
};

class Reader {
  readonly #view: DataView;
  readonly #data: Buffer;
  readonly #little: boolean;
  at: number;

  constructor(data: Buffer, bigEndian: boolean, at = 0) {
    this.#data = data;
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    this.#little = !bigEndian;
    this.at = at;
  }

  read(type: Type, depth = 0): Value {
    if (depth > deepest * 2) throw new WireError('a value is too deep');
    this.at = pad(this.at, alignments[type.code] ?? 1);
    switch (type.code) {
      case 'y':
        return this.#view.getUint8(this.#take(1));
      case 'b':
        return this.#view.getUint32(this.#take(4), this.#little) !== 0;
      case 'n':
        return this.#view.getInt16(this.#take(2), this.#little);
      case 'q':
        return this.#view.getUint16(this.#take(2), this.#little);
      case 'i':
        return this.#view.getInt32(this.#take(4), this.#little);
      case 'u':
      case 'h':
        return this.#view.getUint32(this.#take(4), this.#little);
      case 'x':
        return this.#view.getBigInt64(this.#take(8), this.#little);
      case 't':
        return this.#view.getBigUint64(this.#take(8), this.#little);
      case 'd':
        return this.#view.getFloat64(this.#take(8), this.#little);
      case 's':
      case 'o':
        return this.#text(this.#view.getUint32(this.#take(4), this.#little));
      case 'g':
        return this.#text(this.#view.getUint8(this.#take(1)));
      case 'v': {
        const signature = this.#text(this.#view.getUint8(this.#take(1)));
        return { signature, value: this.read(complete(signature), depth + 1) };
      }
      case 'a':
        return this.#array(type.inner[0] ?? uint32, depth);
      default:
        return type.inner.map((each) => this.read(each, depth + 1));
    }
  }

  #array(inner: Type, depth: number): Value {
    const length = this.#view.getUint32(this.#take(4), this.#little);
    this.at = pad(this.at, alignments[inner.code] ?? 1);
    const end = this.at + length;
    if (end > this.#data.length) throw new WireError('an array is longer than its message');
    if (inner.code === 'y') return Buffer.from(this.#data.subarray(this.#take(length), end));
    const values: Value[] = [];
    while (this.at < end) values.push(this.read(inner, depth + 1));
    if (this.at !== end) throw new WireError('an array ends in the middle of a value');
    return values;
  }

  #text(length: number): string {
    const start = this.#take(length + 1);
    return this.#data.toString('utf8', start, start + length);
  }

  #take(length: number): number {
    const start = this.at;
    if (start + length > this.#data.length) throw new WireError('a value is longer than its message');
    this.at += length;
    return start;
  }
}

class Writer {
  readonly #little: boolean;
  #data = Buffer.alloc(256);
  #at = 0;

  constructor(bigEndian: boolean) {
    this.#little = !bigEndian;
  }

  data(): Buffer {
    return Buffer.from(this.#data.subarray(0, this.#at));
  }

  align(to: number): void {
    this.#room(pad(this.#at, to) - this.#at);
  }

  write(type: Type, value: Value): void {
    this.align(alignments[type.code] ?? 1);
    switch (type.code) {
      case 'y':
        this.#number(1, (view, at) => view.setUint8(at, value as number));
        return;
      case 'b':
        this.#uint32(value ? 1 : 0);
        return;
      case 'n':
        this.#number(2, (view, at) => view.setInt16(at, value as number, this.#little));
        return;
      case 'q':
        this.#number(2, (view, at) => view.setUint16(at, value as number, this.#little));
        return;
      case 'i':
        this.#number(4, (view, at) => view.setInt32(at, value as number, this.#little));
        return;
      case 'u':
      case 'h':
        this.#uint32(value as number);
        return;
      case 'x':
        this.#number(8, (view, at) => view.setBigInt64(at, BigInt(value as bigint), this.#little));
        return;
      case 't':
        this.#number(8, (view, at) => view.setBigUint64(at, BigInt(value as bigint), this.#little));
        return;
      case 'd':
        this.#number(8, (view, at) => view.setFloat64(at, value as number, this.#little));
        return;
      case 's':
      case 'o':
        this.#uint32(Buffer.byteLength(value as string));
        this.#bytes(Buffer.from(`${value as string}\0`));
        return;
      case 'g':
        this.#number(1, (view, at) => view.setUint8(at, (value as string).length));
        this.#bytes(Buffer.from(`${value as string}\0`));
        return;
      case 'v': {
        const { signature, value: inner } = value as Variant;
        this.write({ code: 'g', inner: [] }, signature);
        this.write(complete(signature), inner);
        return;
      }
      case 'a':
        this.#array(type.inner[0] ?? uint32, value);
        return;
      default:
        for (const [index, inner] of type.inner.entries()) this.write(inner, (value as Value[])[index] ?? 0);
    }
  }

  #array(inner: Type, value: Value): void {
    const lengthAt = this.#room(4);
    this.align(alignments[inner.code] ?? 1);
    const start = this.#at;
    if (Buffer.isBuffer(value)) this.#bytes(value);
    else for (const each of value as Value[]) this.write(inner, each);
    new DataView(this.#data.buffer, this.#data.byteOffset).setUint32(
      lengthAt,
      this.#at - start,
      this.#little,
    );
  }

  #uint32(value: number): void {
    this.#number(4, (view, at) => view.setUint32(at, value, this.#little));
  }

  #number(size: number, set: (view: DataView, at: number) => void): void {
    const at = this.#room(size);
    set(new DataView(this.#data.buffer, this.#data.byteOffset), at);
  }

  #bytes(bytes: Buffer): void {
    const at = this.#room(bytes.length);
    bytes.copy(this.#data, at);
  }

  #room(size: number): number {
    const at = this.#at;
    this.#at += size;
    if (this.#at > this.#data.length)
      this.#data = Buffer.concat([this.#data], Math.max(this.#at, this.#data.length * 2));
    return at;
  }
}
