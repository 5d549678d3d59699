/**
 * What runs over the socket of an `Exec` call: frames of one byte kind, four bytes length (big endian) and that many
 * bytes. The client sends `input` and `inputEnd`; the engine sends `output` and `errors`, and at last one `exit`.
 */
export const frameKinds = { input: 0, inputEnd: 1, output: 2, errors: 3, exit: 4 } as const;
export type FrameKind = keyof typeof frameKinds;

const headerBytes = 5;
const largestFrame = 1024 * 1024;

export function encodeFrame(kind: FrameKind, payload: Uint8Array = new Uint8Array()): Buffer {
  const frame = Buffer.alloc(headerBytes + payload.length);
  frame.writeUInt8(frameKinds[kind], 0);
  frame.writeUInt32BE(payload.length, 1);
  frame.set(payload, headerBytes);
  return frame;
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  #pending = Buffer.alloc(0);

  /** The frames that are complete with these bytes. @throws Error on an unknown kind or a frame over 1 MiB. */
  push(bytes: Buffer): { kind: FrameKind; payload: Buffer }[] {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    const frames: { kind: FrameKind; payload: Buffer }[] = [];
    while (this.#pending.length >= headerBytes) {
      const code = this.#pending.readUInt8(0);
      const kind = (Object.keys(frameKinds) as FrameKind[]).find((name) => frameKinds[name] === code);
      const length = this.#pending.readUInt32BE(1);
      if (kind === undefined || length > largestFrame) throw new Error('not a frame of an exec stream');
      if (this.#pending.length < headerBytes + length) break;
      frames.push({ kind, payload: this.#pending.subarray(headerBytes, headerBytes + length) });
      this.#pending = this.#pending.subarray(headerBytes + length);
    }
    return frames;
  }
}
