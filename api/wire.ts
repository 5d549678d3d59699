/**
 * The one place where our values become D-Bus values and back. Nothing further in sees a Variant or a BigInt;
 * nothing that came over the bus is used before its schema accepted it.
 */
import { DBusError, Message, Variant } from '@jellybrick/dbus-next';
import type { z } from 'zod';
import { type ErrorCode, errorCodes, sentenceOf, TorporError } from './errors.ts';

/** How one argument crosses the bus: a dictionary (or a list of them) with its schema, or a plain value. */
export interface ArgumentWire {
  readonly signature: string;
  readonly schema?: z.ZodType;
}
export interface MethodWire {
  readonly member: string;
  readonly inputs: readonly ArgumentWire[];
  readonly output?: ArgumentWire;
}
export interface SignalWire {
  readonly member: string;
  readonly argument: ArgumentWire;
}

type Dictionary = Record<string, Variant>;

/** A text of D-Bus has no NUL, but a sentence may quote one out of somebody's file: sent, it would end the connection. */
const toText = (value: string) => value.replaceAll('\0', '\ufffd');

function toVariant(value: unknown): Variant {
  if (typeof value === 'string') return new Variant('s', toText(value));
  if (typeof value === 'boolean') return new Variant('b', value);
  if (typeof value === 'number') {
    return Number.isSafeInteger(value) ? new Variant('x', BigInt(value)) : new Variant('d', value);
  }
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item === 'string')) return new Variant('as', value.map(toText));
    if (value.every((item) => typeof item === 'number'))
      return new Variant(
        'ax',
        value.map((item) => BigInt(item)),
      );
    return new Variant('aa{sv}', value.map(toDictionary));
  }
  if (typeof value === 'object' && value !== null) return new Variant('a{sv}', toDictionary(value));
  throw new TypeError(`a ${typeof value} cannot cross the bus`);
}

function toDictionary(value: object): Dictionary {
  const dictionary: Dictionary = {};
  for (const [key, item] of Object.entries(value)) {
    if (item !== undefined && item !== null) dictionary[key] = toVariant(item);
  }
  return dictionary;
}

function fromWire(value: unknown): unknown {
  if (value instanceof Variant) return fromWire(value.value);
  if (value instanceof Uint8Array) return value;
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(fromWire);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fromWire(item)]));
  }
  return value;
}

/** Our value as what the bus library marshals for this argument. */
export function encode(wire: ArgumentWire, value: unknown): unknown {
  switch (wire.signature) {
    case 'a{sv}':
      return toDictionary(value as object);
    case 'aa{sv}':
      return (value as object[]).map(toDictionary);
    case 's':
      return toText(value as string);
    case 't':
      return BigInt(value as number);
    case 'ay':
      return Buffer.from(value as Uint8Array);
    default:
      return value;
  }
}

/**
 * The value that came over the bus, checked against its schema.
 * @throws TorporError `usage` naming the field that is wrong.
 */
export function decode(wire: ArgumentWire, raw: unknown): unknown {
  const value = fromWire(raw);
  if (wire.schema === undefined) return value;
  const schema = wire.signature === 'aa{sv}' ? wire.schema.array() : wire.schema;
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new TorporError(
    'usage',
    `A value on the bus is not as expected: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}.`,
    'The engine and the program that talks to it may be of different versions: restart both.',
  );
}

const errorPrefix = 'io.github.torpor.Error.';
const errorNames: Readonly<Record<ErrorCode, string>> = {
  failed: `${errorPrefix}Failed`,
  usage: `${errorPrefix}Usage`,
  blocked: `${errorPrefix}Blocked`,
  'not-found': `${errorPrefix}NotFound`,
  'not-permitted': `${errorPrefix}NotPermitted`,
};

/** The error reply for whatever a method threw: sentence, hint, details as JSON text. */
export function errorReply(call: Message, error: unknown): Message {
  const known = error instanceof TorporError ? error : new TorporError('failed', sentenceOf(error));
  const reply = Message.newError(call, errorNames[known.code]);
  reply.signature = 'sss';
  reply.body = [known.message, known.hint, JSON.stringify(known.details)].map(toText);
  return reply;
}

/** The TorporError that an error reply stands for. */
export function errorFromReply(error: unknown): TorporError {
  if (error instanceof TorporError) return error;
  if (!(error instanceof DBusError)) return new TorporError('failed', sentenceOf(error));
  const code = errorCodes.find((candidate) => errorNames[candidate] === error.type);
  const body = (error.reply as Message | undefined)?.body ?? [];
  if (code === undefined) return new TorporError('failed', `The bus answered: ${error.text || error.type}.`);
  const [sentence, hint, details] = body.map(String);
  return new TorporError(code, sentence ?? error.text, hint ?? '', parseDetails(details));
}

function parseDetails(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? '{}');
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
