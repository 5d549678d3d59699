/** A plugin that is on the bus: its methods, each with a limit, and nothing of what it answers taken unchecked. */
import { Message } from '@jellybrick/dbus-next';
import { BusConnection } from '../../api/connection.ts';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import {
  type PluginDescription,
  pluginFindingLimit,
  pluginStateLimit,
  pluginVersion,
} from '../../api/plugin-types.ts';
import { interfaceName, methods, objectPath, type PluginMethods } from '../../api/plugin1.ts';
import { decode, encode, type MethodWire } from '../../api/wire.ts';
import { unlessAborted } from '../abort.ts';

/** Nobody waits that long for a description; its answer is kept for those who ask later. */
const describeLimitMs = 60_000;

/** Why a call came to nothing; the message is part of a sentence. */
export class PluginFailure extends Error {
  /** It was not for want of time, so that it may be tried once more. */
  readonly mayRetry: boolean;

  constructor(message: string, mayRetry: boolean) {
    super(oneLine(message));
    this.mayRetry = mayRetry;
  }
}

export class ConnectedPlugin {
  readonly name: string;
  readonly uid: number;
  /** Its own name on the bus. */
  readonly address: string;
  readonly pid: number;
  readonly #busAddress: string;
  /**
   * One of the engine's for this plugin alone: a bus lets nobody wait for more than so many answers, and what one plugin
   * leaves unanswered is not to be in the way of others.
   */
  #connection: Promise<BusConnection> | undefined;
  #description: Promise<PluginDescription> | undefined;
  /** How many calls in a row it has not answered in time. */
  #lateInARow = 0;

  constructor(
    busAddress: string,
    { name, uid, address, pid }: { name: string; uid: number; address: string; pid: number },
  ) {
    this.#busAddress = busAddress;
    this.name = name;
    this.uid = uid;
    this.address = address;
    this.pid = pid;
  }

  /** It does not answer any more: one call may take too long, and the one to undo that should still reach it. */
  get isHanging(): boolean {
    return this.#lateInARow > 1;
  }

  /** What it says of itself; asked once, again where that failed. @throws PluginFailure; the signal's reason. */
  async describe(limitMs: number, signal?: AbortSignal): Promise<PluginDescription> {
    this.#description ??= this.call('describe', [pluginVersion], describeLimitMs).then((description) => {
      if (description.version === pluginVersion) return description;
      throw new PluginFailure(
        `it speaks version ${description.version} of ${interfaceName}, and this engine version ${pluginVersion}`,
        false,
      );
    });
    this.#description.catch(() => {
      this.#description = undefined;
    });
    return unlessAborted(unlessLate(this.#description, 'Describe', limitMs), signal);
  }

  /**
   * Calls a method and waits at most that long.
   * @throws PluginFailure where there is no answer in time, an error, or nonsense; the signal's reason.
   */
  async call<M extends keyof PluginMethods>(
    method: M,
    args: Parameters<PluginMethods[M]>,
    limitMs: number,
    signal?: AbortSignal,
  ): Promise<Awaited<ReturnType<PluginMethods[M]>>> {
    const wire: MethodWire = methods[method];
    const answer = this.#send(wire, args).catch((error: unknown) => {
      throw new PluginFailure(`${wire.member} failed: ${oneLine(sentenceOf(error))}`, true);
    });
    let hasAnswered = false;
    answer.then(
      () => {
        hasAnswered = true;
      },
      () => {
        hasAnswered = true;
      },
    );
    try {
      const reply = await unlessAborted(unlessLate(answer, wire.member, limitMs), signal);
      this.#lateInARow = 0;
      return checked(wire, reply) as Awaited<ReturnType<PluginMethods[M]>>;
    } catch (error) {
      if (!hasAnswered && !signal?.aborted) this.#lateInARow++;
      throw error;
    } finally {
      if (!hasAnswered) this.close();
    }
  }

  async #send(wire: MethodWire, args: readonly unknown[]): Promise<Message> {
    this.#connection ??= BusConnection.open(this.#busAddress);
    const connection = await this.#connection;
    return connection.call(
      new Message({
        destination: this.address,
        path: objectPath,
        interface: interfaceName,
        member: wire.member,
        signature: wire.inputs.map(({ signature }) => signature).join(''),
        body: wire.inputs.map((input, index) => encode(input, args[index])),
      }),
    );
  }

  /** Nothing is waited for any more; the next call begins anew. */
  close(): void {
    const closing = this.#connection;
    this.#connection = undefined;
    closing
      ?.then((connection) => connection[Symbol.asyncDispose]())
      // It never came to be.
      .catch(() => {});
  }
}

/** @throws PluginFailure where it takes longer. */
async function unlessLate<T>(promise: Promise<T>, member: string, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const seconds = Math.round(limitMs / 100) / 10;
    const failure = new PluginFailure(`it did not answer ${member} within ${seconds} s`, false);
    timer = setTimeout(() => reject(failure), limitMs);
  });
  promise.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function checked({ member, output }: MethodWire, { signature, body }: Message): unknown {
  const expected = output?.signature ?? '';
  const nonsense = (why: string) => new PluginFailure(`its answer to ${member} is ${why}`, true);
  if (signature !== expected) throw nonsense(`of the form "${signature.slice(0, 40)}", not "${expected}"`);
  if (output === undefined) return undefined;
  const raw: unknown = body[0];
  if (expected === 'ay' && (raw as Uint8Array).length > pluginStateLimit) {
    const bytes = (raw as Uint8Array).length;
    throw nonsense(`too large: ${bytes} bytes, and at most ${pluginStateLimit} are kept`);
  }
  if (expected === 'aa{sv}' && (raw as unknown[]).length > pluginFindingLimit) {
    const count = (raw as unknown[]).length;
    throw nonsense(`too long: ${count} findings, and at most ${pluginFindingLimit} are read`);
  }
  try {
    return decode(output, raw);
  } catch (error) {
    if (!(error instanceof TorporError)) throw error;
    throw nonsense(`not as expected: ${oneLine(error.message.replace(/^[^:]*: ?/, ''))}`);
  }
}

/** What others have written, as part of a sentence of ours. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is to be kept out
  const clean = text.replace(/[\u0000-\u001f\u007f]+/g, ' ').trim();
  return (clean.length > 300 ? `${clean.slice(0, 300)}…` : clean).replace(/\.$/, '');
}
