/**
 * What runs over the socket of an `Exec` call. The client sends `input` and `inputEnd`; the engine sends `output` and
 * `errors`, and at last one `exit`.
 */
import { encodeRawFrame, RawFrameReader } from './frames.ts';

export const frameKinds = { input: 0, inputEnd: 1, output: 2, errors: 3, exit: 4 } as const;
export type FrameKind = keyof typeof frameKinds;

const largestFrame = 1024 * 1024;

export function encodeFrame(kind: FrameKind, payload: Uint8Array = new Uint8Array()): Buffer {
  return encodeRawFrame(frameKinds[kind], payload);
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  readonly #frames = new RawFrameReader(largestFrame);

  /** The frames that are complete with these bytes. @throws Error on an unknown kind or a frame over 1 MiB. */
  push(bytes: Buffer): { kind: FrameKind; payload: Buffer }[] {
    return this.#frames.push(bytes).map(({ code, payload }) => {
      const kind = (Object.keys(frameKinds) as FrameKind[]).find((name) => frameKinds[name] === code);
      if (kind === undefined) throw new Error('not a frame of an exec stream');
      return { kind, payload };
    });
  }
}
