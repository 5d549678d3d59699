/**
 * What a job's terminal and those who look at it say to each other, over the unix socket that a workload's `terminal`
 * names.
 */
import { z } from 'zod';
import { encodeRawFrame, RawFrameReader } from './frames.ts';
import { exitSchema } from './types.ts';

const limits = { columns: { least: 2, most: 1000 }, rows: { least: 1, most: 1000 } } as const;
/** As terminals are when nobody says otherwise. */
const usual = { columns: 80, rows: 24 } as const;

export const terminalSizeSchema = z.object({
  columns: z.number().int().min(limits.columns.least).max(limits.columns.most),
  rows: z.number().int().min(limits.rows.least).max(limits.rows.most),
});
export type TerminalSize = z.infer<typeof terminalSizeSchema>;

/** The nearest size that a job's terminal can have. A terminal that does not know how large it is says 0. */
export function nearestSize(size: Partial<TerminalSize>): TerminalSize {
  const near = (name: keyof TerminalSize) => {
    const { least, most } = limits[name];
    return Math.min(Math.max(size[name] || usual[name], least), most);
  };
  return { columns: near('columns'), rows: near('rows') };
}

/** Why the connection ends. */
export const terminalEndSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('ended'), exit: exitSchema.optional() }),
  z.object({ kind: z.literal('suspended') }),
  z.object({ kind: z.literal('left') }),
]);
export type TerminalEnd = z.infer<typeof terminalEndSchema>;

export type TerminalFrame =
  /** To the terminal: what was typed. From it: what is to be drawn. */
  | { kind: 'data'; bytes: Uint8Array }
  /** To the terminal: how large whoever looks at it can draw. The first frame, and again on every change. */
  | { kind: 'size'; size: TerminalSize }
  /** To the terminal: no more is wanted. It answers with what leaves the viewer's own terminal as it was, and the end. */
  | { kind: 'leave' }
  /** From the terminal: the last frame. */
  | { kind: 'end'; end: TerminalEnd };

const types = { data: 0, size: 1, leave: 2, end: 3 } as const;
/** More than any screen with its scrollback. */
const longestFrame = 64 * 1024 * 1024;

function contentsOf(frame: TerminalFrame): Uint8Array {
  switch (frame.kind) {
    case 'data':
      return frame.bytes;
    case 'size':
      return Buffer.from(JSON.stringify(frame.size));
    case 'leave':
      return Buffer.alloc(0);
    case 'end':
      return Buffer.from(JSON.stringify(frame.end));
  }
}

export function encodeTerminalFrame(frame: TerminalFrame): Buffer {
  return encodeRawFrame(types[frame.kind], contentsOf(frame));
}

/** Frames out of the pieces in which a socket delivers them. */
export class TerminalFrameReader {
  readonly #frames = new RawFrameReader(longestFrame);

  /** @returns the frames that are complete with these bytes. @throws Error for what is no frame. */
  push(bytes: Uint8Array): TerminalFrame[] {
    return this.#frames.push(bytes).map(({ code, payload }) => decode(code, payload));
  }
}

function decode(type: number, contents: Buffer): TerminalFrame {
  switch (type) {
    case types.data:
      return { kind: 'data', bytes: contents };
    case types.size:
      return { kind: 'size', size: terminalSizeSchema.parse(JSON.parse(contents.toString())) };
    case types.leave:
      return { kind: 'leave' };
    case types.end:
      return { kind: 'end', end: terminalEndSchema.parse(JSON.parse(contents.toString())) };
    default:
      throw new Error(`a frame of the unknown type ${type}`);
  }
}
