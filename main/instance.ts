/**
 * One app a user and engine. The first one listens on a socket that only its user can reach; a later one hands over what
 * it was asked for, says what was answered, and ends. What a crash has left behind is taken over.
 */
import { once } from 'node:events';
import { chmodSync, lstatSync, mkdirSync, rmdirSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { enginePaths } from '../api/paths.ts';
import { type Answer, answerSchema, type Request, requestSchema } from './request.ts';

const connectLimitMs = 2000;
/** Opening a window may mean that Chromium starts. */
const answerLimitMs = 60_000;
const mostMessageBytes = 1 << 20;
/** Together longer than a lock is kept. */
const mostTries = 100;
const retryMs = 50;
/** What takes longer was killed meanwhile: a lock is held for milliseconds. */
const lockLimitMs = 3000;
const endLimitMs = 15_000;

const replySchema = z.union([
  z.object({ answer: answerSchema }),
  z.object({ error: z.object({ code: z.string(), message: z.string(), hint: z.string() }) }),
]);
type Reply = z.infer<typeof replySchema>;

/** What another instance asks for is done by this. */
export type Handler = (request: Request) => Promise<Answer>;

export type Claim =
  | { kind: 'first'; instance: Instance }
  /** Another one runs, and this is what it says. */
  | { kind: 'handed-over'; answer: Answer };

/** @param address of the socket; that of this user and engine unless it is given */
export async function claimInstance(request: Request, address = instanceSocket(process.env)): Promise<Claim> {
  for (let tries = 0; tries < mostTries; tries++) {
    const claim = (await askRunning(request, address)) ?? (await becomeFirst(address));
    if (claim !== undefined) return claim;
    await sleep(retryMs);
  }
  throw new TorporError(
    'failed',
    'Torpor runs already, but did not take the request.',
    'End it with `torpor ui --quit` and start it again.',
  );
}

/** Undefined where none runs, or where the one that ran was just ending. */
async function askRunning(request: Request, address: string): Promise<Claim | undefined> {
  const found = await reach(address);
  if (found.kind !== 'running') return undefined;
  const answer = await handOver(found.socket, request);
  return answer && { kind: 'handed-over', answer };
}

/** Undefined where another one was quicker. What is found out and what is done about it must be one step. */
async function becomeFirst(address: string): Promise<Claim | undefined> {
  const lock = `${address}.lock`;
  if (!takeLock(lock)) return undefined;
  try {
    const found = await reach(address);
    if (found.kind === 'running') {
      found.socket.destroy();
      return undefined;
    }
    if (found.kind === 'stale') unlinkSync(address);
    return { kind: 'first', instance: await Instance.listen(address) };
  } finally {
    rmdirSync(lock);
  }
}

function takeLock(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const since = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - since > lockLimitMs) rmSync(lock, { recursive: true, force: true });
    return false;
  }
}

/** @throws TorporError where there is no folder that only this user can reach */
export function instanceSocket(env: NodeJS.ProcessEnv): string {
  const runtime = env.XDG_RUNTIME_DIR;
  const uid = process.getuid?.() ?? 0;
  const folder =
    runtime && isAbsolute(runtime) ? join(runtime, 'torpor') : join(tmpdir(), `torpor-of-${uid}`);
  return join(privateFolder(folder, uid), `app-${enginePaths(env.TORPOR_STATE_DIR || undefined).tag}`);
}

function privateFolder(folder: string, uid: number): string {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid: owner, mode } = lstatSync(folder);
    // In a folder for everybody, somebody else may have been there first.
    if (!lstatSync(folder).isDirectory() || owner !== uid) throw new Error('it belongs to somebody else');
    if ((mode & 0o077) !== 0) chmodSync(folder, 0o700);
    return folder;
  } catch (error) {
    throw new TorporError(
      'failed',
      `Torpor cannot use the folder ${folder} for its socket: ${sentenceOf(error)}.`,
      'Remove it, or set XDG_RUNTIME_DIR to a folder of your own.',
      {},
      { cause: error },
    );
  }
}

type Found = { kind: 'running'; socket: Socket } | { kind: 'stale' } | { kind: 'none' };

async function reach(address: string): Promise<Found> {
  const socket = connect(address);
  socket.setTimeout(connectLimitMs, () => socket.destroy(new Error('no answer')));
  try {
    await once(socket, 'connect');
    socket.setTimeout(0);
    return { kind: 'running', socket };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { kind: 'none' };
    if (code === 'ECONNREFUSED' || code === 'ENOTSOCK') return { kind: 'stale' };
    throw new TorporError(
      'failed',
      `Torpor seems to run already, but cannot be reached: ${sentenceOf(error)}.`,
      'End it and start it again.',
    );
  }
}

/** Undefined where the other one ended without an answer, which one that is ending does. */
async function handOver(socket: Socket, request: Request): Promise<Answer | undefined> {
  try {
    socket.setTimeout(answerLimitMs, () => socket.destroy(new Error('it does not answer')));
    socket.write(`${JSON.stringify(request)}\n`);
    const line = await readLine(socket).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE') return undefined;
      throw error;
    });
    if (line === undefined) return undefined;
    const reply = replySchema.parse(JSON.parse(line));
    if ('answer' in reply) {
      // It closes the connection when it has ended.
      if (request.quit) await Promise.race([once(socket.resume(), 'close'), sleep(endLimitMs)]);
      return reply.answer;
    }
    const { message, hint } = reply.error;
    throw new TorporError('failed', message, hint);
  } catch (error) {
    if (error instanceof TorporError) throw error;
    throw new TorporError(
      'failed',
      `Torpor runs already, but did not take the request: ${sentenceOf(error)}.`,
      'End it with `torpor ui --quit` and start it again.',
      {},
      { cause: error },
    );
  } finally {
    socket.destroy();
  }
}

/** Undefined where the connection ends before one is whole. */
async function readLine(socket: Socket): Promise<string | undefined> {
  let text = '';
  // The connection is still to be answered when the line has been read.
  for await (const chunk of socket.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    text += chunk;
    const end = text.indexOf('\n');
    if (end >= 0) return text.slice(0, end);
    if (text.length > mostMessageBytes) throw new Error('the message is too long');
  }
  return undefined;
}

/** The right to be the only one; given up at the end. */
export class Instance implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #settleHandler: (handler: Handler) => void = () => {};
  /** Requests that come while the app starts wait for it. */
  #handler = new Promise<Handler>((resolve) => {
    this.#settleHandler = resolve;
  });

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket: Socket) => void this.#serve(socket));
  }

  static async listen(address: string): Promise<Instance> {
    const server = createServer();
    const instance = new Instance(server);
    server.listen({ path: address, readableAll: false, writableAll: false });
    await once(server, 'listening');
    return instance;
  }

  /** Has this do from now on what other instances ask for. */
  handle(handler: Handler): void {
    this.#settleHandler(handler);
  }

  /** From now on, who asks for something waits until this one has ended, and is the first one then. */
  retire(): void {
    this.#handler = new Promise(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Removes the socket's name as well.
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
    const request = await this.#request(socket);
    socket.write(`${JSON.stringify(await this.#reply(request))}\n`);
    if (request?.quit !== true) socket.end();
  }

  async #request(socket: Socket): Promise<Request | undefined> {
    try {
      return requestSchema.safeParse(JSON.parse((await readLine(socket)) ?? '')).data;
    } catch {
      return undefined;
    }
  }

  async #reply(request: Request | undefined): Promise<Reply> {
    try {
      if (request === undefined) throw new TorporError('usage', 'Torpor did not understand the request.');
      return { answer: await (await this.#handler)(request) };
    } catch (error) {
      const known = error instanceof TorporError ? error : undefined;
      const { code = 'failed', hint = '' } = known ?? {};
      return { error: { code, message: sentenceOf(error), hint } };
    }
  }
}
