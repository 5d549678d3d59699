/**
 * The protocol buffers wire format (proto2), as far as CRIU uses it: a message is described once, as a table of
 * fields, and its TypeScript type follows from the table. Decoding is bounded by its input, skips fields it does not
 * know, keeps enum values it does not know as numbers, and refuses what is cut off or malformed. Being our own, it
 * also lets an entry be rewritten field by field with every other byte kept, which a codec that goes through objects
 * cannot do. Integers of 64 bits are bigint. Groups, long out of use, are refused.
 */

/** Bytes that are not the message they should be. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

const varint = 0;
const fixed64Bits = 1;
const delimited = 2;
const fixed32Bits = 5;

const wireTypes = {
  int32: varint,
  uint32: varint,
  sint32: varint,
  int64: varint,
  uint64: varint,
  sint64: varint,
  bool: varint,
  enum: varint,
  fixed32: fixed32Bits,
  fixed64: fixed64Bits,
  string: delimited,
  bytes: delimited,
} as const;

interface ScalarValues {
  int32: number;
  uint32: number;
  sint32: number;
  int64: bigint;
  uint64: bigint;
  sint64: bigint;
  bool: boolean;
  enum: number;
  fixed32: number;
  fixed64: bigint;
  string: string;
  bytes: Buffer;
}

export type Scalar = keyof ScalarValues;
type FieldType = Scalar | Message<Fields>;
type Rule = 'required' | 'optional' | 'repeated';

export interface Field<T extends FieldType = FieldType, R extends Rule = Rule> {
  readonly number: number;
  readonly type: T;
  readonly rule: R;
}
export type Fields = Readonly<Record<string, Field>>;

/** A message's name, as errors call it, and its fields. */
export interface Message<F extends Fields> {
  readonly name: string;
  readonly fields: F;
}

type ValueOf<T> = T extends Scalar ? ScalarValues[T] : T extends Message<infer F> ? Decoded<F> : never;
type KeysOf<F extends Fields, R extends Rule> = {
  [K in keyof F]: F[K]['rule'] extends R ? K : never;
}[keyof F];
type Decoded<F extends Fields> = { [K in KeysOf<F, 'required'>]: ValueOf<F[K]['type']> } & {
  [K in KeysOf<F, 'optional'>]?: ValueOf<F[K]['type']>;
} & { [K in KeysOf<F, 'repeated'>]: ValueOf<F[K]['type']>[] };
type Encodable<F extends Fields> = { [K in KeysOf<F, 'required'>]: EncodableOf<F[K]['type']> } & {
  [K in KeysOf<F, 'optional'>]?: EncodableOf<F[K]['type']> | undefined;
} & { [K in KeysOf<F, 'repeated'>]?: readonly EncodableOf<F[K]['type']>[] | undefined };
type EncodableOf<T> = T extends Scalar ? ScalarValues[T] : T extends Message<infer F> ? Encodable<F> : never;

/** What {@link decode} returns for a message. */
export type MessageOf<M> = M extends Message<infer F> ? Decoded<F> : never;
/** What {@link encode} takes for a message. */
export type InputOf<M> = M extends Message<infer F> ? Encodable<F> : never;

export function message<const F extends Fields>(name: string, fields: F): Message<F> {
  return { name, fields };
}
export function required<const T extends FieldType>(number: number, type: T): Field<T, 'required'> {
  return { number, type, rule: 'required' };
}
export function optional<const T extends FieldType>(number: number, type: T): Field<T, 'optional'> {
  return { number, type, rule: 'optional' };
}
export function repeated<const T extends FieldType>(number: number, type: T): Field<T, 'repeated'> {
  return { number, type, rule: 'repeated' };
}

/** One field as it lies on the wire; the bytes are views into the source, not copies. */
export interface RawField {
  readonly number: number;
  /** The content of a delimited field; empty where it is a number. */
  readonly content: Buffer;
  /** The whole field with its tag, for copying it unchanged. */
  readonly whole: Buffer;
}

/** The fields of one message in the order they lie. @throws WireError where the bytes are no message. */
export function* rawFields(bytes: Buffer, what: string): Generator<RawField> {
  const cursor = new Cursor(bytes, what);
  for (let start = 0; cursor.next(); start = cursor.offset) {
    const { number, content } = cursor;
    yield { number, content, whole: bytes.subarray(start, cursor.offset) };
  }
}

const noBytes = Buffer.alloc(0);

/**
 * Goes through a message field by field, holding the current one: the mappings of a browser are tens of thousands of
 * messages in the path of a resume, so nothing is allocated for a number that fits.
 */
class Cursor {
  readonly #bytes: Buffer;
  readonly #what: string;
  offset = 0;
  number = 0;
  wireType = 0;
  /** The number of a varint or fixed field, as bigint only where it may not fit. */
  value: number | bigint = 0;
  content: Buffer = noBytes;

  constructor(bytes: Buffer, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  /** Reads the next field. @returns false at the end. */
  next(): boolean {
    if (this.offset === this.#bytes.length) return false;
    const start = this.offset;
    const tag = Number(this.#varint());
    this.number = Math.floor(tag / 8);
    this.wireType = tag % 8;
    if (this.number === 0 || this.number > 0x1fffffff) {
      throw new WireError(`${this.#what}: no such field number at byte ${start}`);
    }
    this.value = 0;
    this.content = noBytes;
    switch (this.wireType) {
      case varint:
        this.value = this.#varint();
        break;
      case fixed64Bits:
        this.value = this.#bytes.readBigUInt64LE(this.#take(8));
        break;
      case fixed32Bits:
        this.value = this.#bytes.readUInt32LE(this.#take(4));
        break;
      case delimited: {
        const length = this.#varint();
        const at = this.#take(length);
        this.content = this.#bytes.subarray(at, this.offset);
        break;
      }
      default:
        throw new WireError(
          `${this.#what}: wire type ${this.wireType} of field ${this.number} is not supported`,
        );
    }
    return true;
  }

  #varint(): number | bigint {
    let low = 0;
    let factor = 1;
    // Seven bytes hold 49 bits, which a number holds exactly.
    for (let count = 0; count < 7; count++) {
      const byte = this.#byte();
      low += (byte & 0x7f) * factor;
      if (byte < 0x80) return low;
      factor *= 128;
    }
    let value = BigInt(low);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new WireError(`${this.#what}: a number longer than 64 bits at byte ${this.offset}`);
  }

  #byte(): number {
    const byte = this.#bytes[this.offset];
    if (byte === undefined) throw this.#cutOff();
    this.offset++;
    return byte;
  }

  /** Passes over that many bytes. @returns where they begin. */
  #take(length: number | bigint): number {
    if (length > this.#bytes.length - this.offset) throw this.#cutOff();
    this.offset += Number(length);
    return this.offset - Number(length);
  }

  #cutOff(): WireError {
    return new WireError(`${this.#what}: cut off at byte ${this.offset} of ${this.#bytes.length}`);
  }
}

function scalarFrom(type: Scalar, value: number | bigint, content: Buffer): unknown {
  switch (type) {
    case 'int32':
    case 'enum':
      return typeof value === 'number' && value <= 0x7fffffff
        ? value
        : Number(BigInt.asIntN(32, BigInt(value)));
    case 'uint32':
    case 'fixed32':
      return typeof value === 'number' && value <= 0xffffffff
        ? value
        : Number(BigInt.asUintN(32, BigInt(value)));
    case 'sint32': {
      const bits = Number(BigInt.asUintN(32, BigInt(value)));
      return (bits >>> 1) ^ -(bits & 1);
    }
    case 'int64':
      return BigInt.asIntN(64, BigInt(value));
    case 'uint64':
    case 'fixed64':
      return BigInt(value);
    case 'sint64': {
      const bits = BigInt(value);
      return BigInt.asIntN(64, (bits >> 1n) ^ -(bits & 1n));
    }
    case 'bool':
      return BigInt(value) !== 0n;
    case 'string':
      return content.toString('utf8');
    case 'bytes':
      return content;
  }
}

/** Packed elements: a writer may send repeated numbers as one delimited field; both forms are to be read. */
function* unpack(type: Scalar, content: Buffer, what: string): Generator<unknown> {
  const width = wireTypes[type] === fixed64Bits ? 8 : wireTypes[type] === fixed32Bits ? 4 : 0;
  let offset = 0;
  while (offset < content.length) {
    let end = offset + width;
    if (width === 0) {
      end = offset + 1;
      while (((content[end - 1] ?? 0) & 0x80) !== 0) end++;
    }
    if (end > content.length || end - offset > 10) throw new WireError(`${what}: malformed packed numbers`);
    let value = 0n;
    for (let index = end - 1; index >= offset; index--) {
      const byte = BigInt(content[index] ?? 0);
      value = width === 0 ? (value << 7n) | (byte & 0x7fn) : (value << 8n) | byte;
    }
    yield scalarFrom(type, BigInt.asUintN(64, value), content);
    offset = end;
  }
}

type FieldIndex = ReadonlyMap<number, readonly [name: string, field: Field]>;
const indexes = new WeakMap<Fields, FieldIndex>();

function indexOf({ fields }: Message<Fields>): FieldIndex {
  let index = indexes.get(fields);
  if (index === undefined) {
    index = new Map(Object.entries(fields).map(([name, field]) => [field.number, [name, field]]));
    indexes.set(fields, index);
  }
  return index;
}

/** Reads one message. @throws WireError on malformed bytes, a field of the wrong type, a message twice or a required field missing. */
export function decode<F extends Fields>(spec: Message<F>, bytes: Buffer): Decoded<F> {
  const index = indexOf(spec);
  const result: Record<string, unknown> = {};
  for (const [name, { rule }] of index.values()) if (rule === 'repeated') result[name] = [];
  const cursor = new Cursor(bytes, spec.name);
  while (cursor.next()) {
    const known = index.get(cursor.number);
    if (known === undefined) continue;
    const [name, { type, rule }] = known;
    const isScalar = typeof type === 'string';
    const expected = isScalar ? wireTypes[type] : delimited;
    if (cursor.wireType !== expected) {
      if (rule === 'repeated' && isScalar && cursor.wireType === delimited) {
        for (const one of unpack(type, cursor.content, `${spec.name}.${name}`))
          (result[name] as unknown[]).push(one);
        continue;
      }
      throw new WireError(
        `${spec.name}.${name}: wire type ${cursor.wireType} where ${expected} was expected`,
      );
    }
    const value = isScalar ? scalarFrom(type, cursor.value, cursor.content) : decode(type, cursor.content);
    if (rule === 'repeated') (result[name] as unknown[]).push(value);
    // CRIU would put both together, and so read what nobody has seen here.
    else if (!isScalar && result[name] !== undefined)
      throw new WireError(`${spec.name}.${name}: there twice`);
    else result[name] = value;
  }
  for (const [name, { rule }] of index.values()) {
    if (rule === 'required' && result[name] === undefined)
      throw new WireError(`${spec.name}.${name}: missing`);
  }
  return result as Decoded<F>;
}

function varintBytes(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** A delimited field, tag and length included. */
export function delimitedField(number: number, content: Uint8Array): Buffer {
  const tag = varintBytes((BigInt(number) << 3n) | BigInt(delimited));
  return Buffer.concat([tag, varintBytes(BigInt(content.length)), content]);
}

function encodeScalar(number: number, type: Scalar, value: unknown): Buffer {
  if (type === 'string') return delimitedField(number, Buffer.from(value as string));
  if (type === 'bytes') return delimitedField(number, value as Buffer);
  const tag = varintBytes((BigInt(number) << 3n) | BigInt(wireTypes[type]));
  if (type === 'fixed64' || type === 'fixed32') {
    const bytes = Buffer.alloc(type === 'fixed64' ? 8 : 4);
    if (type === 'fixed64') bytes.writeBigUInt64LE(value as bigint);
    else bytes.writeUInt32LE(value as number);
    return Buffer.concat([tag, bytes]);
  }
  const integer = BigInt(value as number | bigint | boolean);
  const zigzag = type === 'sint32' || type === 'sint64';
  return Buffer.concat([tag, varintBytes(zigzag ? (integer << 1n) ^ (integer >> 63n) : integer)]);
}

/** Writes one message, its fields in the order of the table; fields that are undefined are left out. */
export function encode<F extends Fields>(spec: Message<F>, value: Encodable<F>): Buffer {
  const parts: Buffer[] = [];
  for (const [name, { number, type, rule }] of Object.entries(spec.fields)) {
    const given = (value as Record<string, unknown>)[name];
    if (given === undefined) {
      if (rule === 'required') throw new WireError(`${spec.name}.${name}: missing`);
      continue;
    }
    for (const one of rule === 'repeated' ? (given as unknown[]) : [given]) {
      parts.push(
        typeof type === 'string'
          ? encodeScalar(number, type, one)
          : delimitedField(number, encode(type, one as Encodable<Fields>)),
      );
    }
  }
  return Buffer.concat(parts);
}

/** A message with some of its delimited fields changed: those for which this gives a new content. */
export function withFields(
  bytes: Buffer,
  name: string,
  change: (number: number, content: Buffer) => Buffer | undefined,
): Buffer {
  return Buffer.concat(
    Array.from(rawFields(bytes, name), ({ number, content, whole }) => {
      const changed = change(number, content);
      return changed === undefined ? whole : delimitedField(number, changed);
    }),
  );
}
