/** Inputs as nobody would write them. */
import { noise } from './bundle.ts';

/** One of the ways in which bytes come to be wrong. @param next from 0 to 1 @param other what parts are taken of */
export function mutated(bytes: Buffer, next: () => number, other: Buffer): Buffer {
  let result = Buffer.from(bytes);
  const below = (most: number) => Math.floor(next() * most);
  for (let changes = 1 + below(4); changes > 0 && result.length > 0; changes--) {
    const at = below(result.length);
    const length = Math.min(1 + below(16), result.length - at);
    switch (below(8)) {
      case 0:
        result.writeUInt8(result.readUInt8(at) ^ (1 << below(8)), at);
        break;
      case 1:
        if (at + 4 <= result.length)
          result.writeUInt32LE([0, 1, 0xffffffff, 0x7fffffff, 0x80000000, 65536, 4096][below(7)] ?? 0, at);
        break;
      case 2:
        result = Buffer.concat([result.subarray(0, at), result.subarray(at + length)]);
        break;
      case 3:
        result = Buffer.concat([result.subarray(0, at), noise(below(1000), length), result.subarray(at)]);
        break;
      case 4:
        result = Buffer.concat([result.subarray(0, at + length), result.subarray(at)]);
        break;
      case 5:
        result = result.subarray(0, at);
        break;
      case 6: {
        const from = below(other.length);
        other.copy(result, at, from, from + length);
        break;
      }
      case 7: {
        // A digit of the JSON, where numbers stand.
        const digit = result.findIndex((byte, index) => index > at && byte >= 0x30 && byte <= 0x39);
        if (digit >= 0) result.writeUInt8(0x30 + below(10), digit);
      }
    }
  }
  return result;
}
