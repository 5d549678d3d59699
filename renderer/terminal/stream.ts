/**
 * What a job's terminal and this window say to each other, as api/terminal-stream.ts has it: frames of one byte type, four
 * bytes length and that many bytes. This page has no Node, so it makes them by itself.
 */
const types = { data: 0, size: 1, end: 3 } as const;
const headBytes = 5;

export type FromTerminal = { kind: 'data'; bytes: Uint8Array } | { kind: 'end' };

function frame(type: number, contents: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(headBytes + contents.length);
  bytes[0] = type;
  new DataView(bytes.buffer).setUint32(1, contents.length);
  bytes.set(contents, headBytes);
  return bytes;
}

const encoder = new TextEncoder();

/** What was typed: text, or bytes one a character, as reports of the mouse are. */
export const typed = (text: string) => frame(types.data, encoder.encode(text));
export const typedBytes = (text: string) =>
  frame(
    types.data,
    Uint8Array.from(text, (character) => character.charCodeAt(0)),
  );
/** How large this window can draw. */
export const sized = (columns: number, rows: number) =>
  frame(types.size, encoder.encode(JSON.stringify({ columns, rows })));

/** Frames out of the pieces in which they arrive. */
export class TerminalStream {
  #pending = new Uint8Array();

  /** @returns what is complete with these bytes; a kind that is not known is left out. */
  push(bytes: Uint8Array): FromTerminal[] {
    const all = new Uint8Array(this.#pending.length + bytes.length);
    all.set(this.#pending);
    all.set(bytes, this.#pending.length);
    const frames: FromTerminal[] = [];
    let at = 0;
    while (all.length - at >= headBytes) {
      const length = new DataView(all.buffer).getUint32(at + 1);
      if (all.length - at - headBytes < length) break;
      const contents = all.slice(at + headBytes, at + headBytes + length);
      if (all[at] === types.data) frames.push({ kind: 'data', bytes: contents });
      else if (all[at] === types.end) frames.push({ kind: 'end' });
      at += headBytes + length;
    }
    this.#pending = all.slice(at);
    return frames;
  }
}
