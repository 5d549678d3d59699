/**
 * The bytes of a stream, handed out in the amounts asked for. Nothing is kept beyond the stream's own buffer, so a
 * peer that sends without end is held back by the kernel.
 */
import type { Readable } from 'node:stream';

const skippedAtOnce = 64 * 1024;

export class ByteReader {
  readonly #source: Readable;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(source: Readable) {
    this.#source = source;
    source.on('readable', () => this.#wake?.());
  }

  /** From now on, what waits for bytes that did not come is rejected with this. The first reason stays. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  /** The next bytes, exactly that many. One caller at a time. */
  async take(count: number): Promise<Buffer> {
    if (count === 0) return Buffer.alloc(0);
    for (;;) {
      const bytes: Buffer | null = this.#source.read(count);
      // At its end a stream hands out the rest, however short.
      if (bytes?.length === count) return bytes;
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0; left -= skippedAtOnce) await this.take(Math.min(left, skippedAtOnce));
  }
}
