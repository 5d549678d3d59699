import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { criuRequest, criuResponse, requestType } from '../../proto/criu-rpc.ts';
import {
  decode,
  encode,
  message,
  optional,
  rawFields,
  repeated,
  required,
  WireError,
} from '../../proto/wire.ts';

const inner = message('inner', { text: required(1, 'string'), next: optional(2, 'sint64') });
const everything = message('everything', {
  int32: required(1, 'int32'),
  uint32: optional(2, 'uint32'),
  sint32: optional(3, 'sint32'),
  int64: optional(4, 'int64'),
  uint64: optional(5, 'uint64'),
  bool: optional(6, 'bool'),
  fixed64: repeated(7, 'fixed64'),
  string: optional(8, 'string'),
  bytes: optional(9, 'bytes'),
  numbers: repeated(10, 'uint32'),
  inner: repeated(300, inner),
  fixed32: optional(12, 'fixed32'),
  signed: repeated(13, 'sint32'),
});

/** The same message as another implementation understands it. */
const reference = protobuf
  .parse(`syntax = "proto2";
    message Inner { required string text = 1; optional sint64 next = 2; }
    message Everything {
      required int32 int32 = 1; optional uint32 uint32 = 2; optional sint32 sint32 = 3; optional int64 int64 = 4;
      optional uint64 uint64 = 5; optional bool bool = 6; repeated fixed64 fixed64 = 7; optional string string = 8;
      optional bytes bytes = 9; repeated uint32 numbers = 10; repeated Inner inner = 300;
      optional fixed32 fixed32 = 12; repeated sint32 signed = 13 [packed = true];
    }`)
  .root.lookupType('Everything');

const values = [
  { int32: 0, fixed64: [], numbers: [], inner: [], signed: [] },
  {
    int32: -1,
    uint32: 0xffffffff,
    sint32: -2147483648,
    int64: -5n,
    uint64: 1n << 40n,
    bool: true,
    fixed64: [0n, 1n << 52n],
    string: 'größer 漢字',
    bytes: Buffer.from([0, 255, 10]),
    numbers: [0, 1, 127, 128, 300, 0xffffffff],
    inner: [{ text: '', next: -9007199254740991n }, { text: 'x' }],
    fixed32: 0x80000000,
    signed: [-1, 0, 1, 2147483647, -2147483648],
  },
];

describe('wire format', () => {
  it.each(values)('reads what another implementation writes, and the reverse', (value) => {
    // The reference takes 64-bit integers as numbers or decimal text.
    const plain = JSON.parse(
      JSON.stringify(value, (_key, one) => (typeof one === 'bigint' ? one.toString() : one)),
    );
    if ('bytes' in value) plain.bytes = value.bytes;
    const theirs = Buffer.from(reference.encode(reference.fromObject(plain)).finish());
    expect(decode(everything, theirs)).toEqual(value);
    const back = reference.toObject(reference.decode(encode(everything, value)), {
      longs: String,
      arrays: true,
    });
    expect(back).toEqual({ ...plain });
  });

  it('keeps the largest 64-bit numbers exact', () => {
    const value = { int32: 2147483647, uint64: (1n << 64n) - 1n, int64: -(1n << 63n) };
    expect(decode(everything, encode(everything, value))).toMatchObject(value);
  });

  it('skips fields and keeps enum values that it does not know', () => {
    const newer = message('criu_resp', {
      type: required(1, 'enum'),
      success: required(2, 'bool'),
      later: optional(99, 'string'),
    });
    const bytes = encode(newer, { type: 77, success: true, later: 'something' });
    expect(decode(criuResponse, bytes)).toEqual({ type: 77, success: true });
  });

  it('names a required field that is missing, in both directions', () => {
    expect(() => decode(criuResponse, Buffer.alloc(0))).toThrow('criu_resp.type: missing');
    expect(() => encode(criuRequest, {} as { type: number })).toThrow('criu_req.type: missing');
  });

  it('writes a request as CRIU reads it', () => {
    const request = encode(criuRequest, {
      type: requestType.dump,
      opts: { imagesDirFd: -1, pid: 300, logFile: 'a' },
    });
    expect(request.toString('hex')).toBe(`0801121108${'ff'.repeat(9)}0110ac02520161`);
  });

  it('refuses every cut, without reading past the end', () => {
    const bytes = encode(everything, values[1] ?? { int32: 0 });
    let refused = 0;
    for (let length = 0; length < bytes.length; length++) {
      try {
        decode(everything, bytes.subarray(0, length));
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
        refused++;
      }
    }
    // A cut between two fields leaves a whole message.
    expect(refused).toBeGreaterThan(bytes.length / 2);
  });

  it.each([
    ['a length of 2^60', '0801' + '42' + 'ffffffffffffffff0f'],
    ['a number of more than 64 bits', `08${'ff'.repeat(10)}01`],
    ['a group', '0801' + '5b5c'],
    ['field number 0', '0001'],
    ['a wrong wire type', '0d01000000'],
    ['packed numbers that run out', '0801' + '520180'],
  ])('refuses %s', (_what, hex) => {
    expect(() => decode(everything, Buffer.from(hex, 'hex'))).toThrow(WireError);
  });

  it('survives any bytes', () => {
    let seed = 1;
    const random = () => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return seed >> 8;
    };
    for (let round = 0; round < 5_000; round++) {
      const bytes = Buffer.from(Array.from({ length: random() % 40 }, () => random() & 0xff));
      try {
        decode(everything, bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    }
  });

  it('gives raw fields that put together are the message again', () => {
    const bytes = encode(everything, values[1] ?? { int32: 0 });
    expect(Buffer.concat(Array.from(rawFields(bytes, 'message'), (field) => field.whole))).toEqual(bytes);
  });
});
