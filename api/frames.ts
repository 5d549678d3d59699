/** Frames on a stream: one byte code, four bytes length (big endian) and that many bytes. */
const headerBytes = 5;

export interface Frame {
  code: number;
  payload: Buffer;
}

export function encodeRawFrame(code: number, payload: Uint8Array): Buffer {
  const frame = Buffer.alloc(headerBytes + payload.length);
  frame.writeUInt8(code, 0);
  frame.writeUInt32BE(payload.length, 1);
  frame.set(payload, headerBytes);
  return frame;
}

/** Cuts a stream of bytes into frames. */
export class RawFrameReader {
  readonly #largest: number;
  #pending = Buffer.alloc(0);

  /** @param largest the longest payload, in bytes. */
  constructor(largest: number) {
    this.#largest = largest;
  }

  /** The frames that are complete with these bytes. @throws Error on one that is too long. */
  push(bytes: Uint8Array): Frame[] {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    const frames: Frame[] = [];
    while (this.#pending.length >= headerBytes) {
      const length = this.#pending.readUInt32BE(1);
      if (length > this.#largest) throw new Error(`a frame of ${length} bytes is too long`);
      if (this.#pending.length < headerBytes + length) break;
      const payload = this.#pending.subarray(headerBytes, headerBytes + length);
      frames.push({ code: this.#pending.readUInt8(0), payload });
      this.#pending = this.#pending.subarray(headerBytes + length);
    }
    return frames;
  }
}
