/** The DevTools protocol over the two pipes of `--remote-debugging-pipe`: JSON messages, each ended by a NUL. */
import type { Readable, Writable } from 'node:stream';

interface Incoming {
  id?: number;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: { message: string };
}

type Settle = { resolve: (result: unknown) => void; reject: (error: Error) => void };

export class DevToolsPipe {
  readonly #input: Writable;
  readonly #waiting = new Map<number, Settle>();
  readonly #event: (method: string, params: unknown) => void;
  #pending: Buffer[] = [];
  #last = 0;
  #hasEnded = false;

  /** @param output what Chromium writes. @param event called for everything that Chromium tells by itself */
  constructor(input: Writable, output: Readable, event: (method: string, params: unknown) => void) {
    this.#input = input;
    this.#event = event;
    output.on('data', (bytes: Buffer) => this.#receive(bytes));
    output.once('close', () => this.#end());
    for (const stream of [input, output]) stream.on('error', () => this.#end());
  }

  /**
   * @param session of a target that is attached to; the browser itself where it is absent
   * @throws Error with Chromium's own words, or that it has gone
   */
  async call<T>(method: string, params: object = {}, session?: string): Promise<T> {
    if (this.#hasEnded) throw new Error('Chromium has ended');
    const id = ++this.#last;
    const message = { id, method, params, ...(session === undefined ? {} : { sessionId: session }) };
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.#input.write(`${JSON.stringify(message)}\0`);
    return (await answer) as T;
  }

  #receive(bytes: Buffer): void {
    let rest = bytes;
    for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
      const message = Buffer.concat([...this.#pending, rest.subarray(0, end)]);
      this.#pending = [];
      rest = rest.subarray(end + 1);
      this.#handle(JSON.parse(message.toString('utf8')) as Incoming);
    }
    if (rest.length > 0) this.#pending.push(rest);
  }

  #handle({ id, method, params, result, error }: Incoming): void {
    if (id === undefined) {
      if (method !== undefined) this.#event(method, params);
      return;
    }
    const settle = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) settle?.resolve(result);
    else settle?.reject(new Error(error.message));
  }

  #end(): void {
    this.#hasEnded = true;
    for (const { reject } of this.#waiting.values()) reject(new Error('Chromium has ended'));
    this.#waiting.clear();
  }
}
