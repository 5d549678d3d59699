/**
 * One app a user and engine. The first one listens on a socket that only its user can reach; a later one hands over what
 * it was asked for, says what was answered, and ends. What a crash has left behind is taken over.
 */
import { once } from 'node:events';
import { chmodSync, linkSync, lstatSync, mkdirSync, statSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { enginePaths } from '../api/paths.ts';
import { type Answer, answerSchema, type Request, requestSchema } from './request.ts';

const connectLimitMs = 2000;
/** Opening a window may mean that Chromium starts. */
const answerLimitMs = 60_000;
const mostMessageBytes = 1 << 20;
const mostTries = 5;

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
    const found = await reach(address);
    if (found.kind === 'running')
      return { kind: 'handed-over', answer: await handOver(found.socket, request) };
    if (found.kind === 'stale') removeIfSame(address, found.inode);
    const instance = await Instance.listen(address);
    if (instance !== undefined) return { kind: 'first', instance };
  }
  throw new TorporError(
    'failed',
    `Torpor cannot find out whether it runs already: ${address} changes all the time.`,
    'Try again.',
  );
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

type Found = { kind: 'running'; socket: Socket } | { kind: 'stale'; inode: number } | { kind: 'none' };

async function reach(address: string): Promise<Found> {
  const inode = inodeOf(address);
  if (inode === undefined) return { kind: 'none' };
  const socket = connect(address);
  socket.setTimeout(connectLimitMs, () => socket.destroy(new Error('no answer')));
  try {
    await once(socket, 'connect');
    socket.setTimeout(0);
    return { kind: 'running', socket };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { kind: 'none' };
    if (code === 'ECONNREFUSED' || code === 'ENOTSOCK') return { kind: 'stale', inode };
    throw new TorporError(
      'failed',
      `Torpor seems to run already, but cannot be reached: ${sentenceOf(error)}.`,
      'End it and start it again.',
    );
  }
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/** Not what has meanwhile taken its place. */
function removeIfSame(path: string, inode: number): void {
  try {
    if (inodeOf(path) === inode) unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

async function handOver(socket: Socket, request: Request): Promise<Answer> {
  try {
    socket.setTimeout(answerLimitMs, () => socket.destroy(new Error('it does not answer')));
    socket.write(`${JSON.stringify(request)}\n`);
    const reply = replySchema.parse(JSON.parse(await readLine(socket)));
    if ('answer' in reply) return reply.answer;
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

async function readLine(socket: Socket): Promise<string> {
  let text = '';
  // The connection is still to be answered when the line has been read.
  for await (const chunk of socket.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    text += chunk;
    const end = text.indexOf('\n');
    if (end >= 0) return text.slice(0, end);
    if (text.length > mostMessageBytes) throw new Error('the message is too long');
  }
  throw new Error('the connection has ended');
}

/** The right to be the only one; given up at the end. */
export class Instance implements AsyncDisposable {
  readonly #server: Server;
  readonly #address: string;
  readonly #inode: number | undefined;
  #settleHandler: (handler: Handler) => void = () => {};
  /** Requests that come while the app starts wait for it. */
  readonly #handler = new Promise<Handler>((resolve) => {
    this.#settleHandler = resolve;
  });

  private constructor(server: Server, address: string) {
    this.#server = server;
    this.#address = address;
    this.#inode = inodeOf(address);
    server.on('connection', (socket: Socket) => void this.#serve(socket));
  }

  /** Undefined where another one was quicker: the name is made by link(2), which fails where there is one. */
  static async listen(address: string): Promise<Instance | undefined> {
    const own = `${address}.${process.pid}`;
    removeIfSame(own, inodeOf(own) ?? 0);
    const server = createServer();
    server.listen({ path: own, readableAll: false, writableAll: false });
    await once(server, 'listening');
    try {
      linkSync(own, address);
      return new Instance(server, address);
    } catch (error) {
      server.close();
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined;
      throw error;
    } finally {
      removeIfSame(own, inodeOf(own) ?? 0);
    }
  }

  /** Has this do from now on what other instances ask for. */
  handle(handler: Handler): void {
    this.#settleHandler(handler);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#inode !== undefined) removeIfSame(this.#address, this.#inode);
    this.#server.close();
  }

  async #serve(socket: Socket): Promise<void> {
    socket.on('error', () => {});
    const reply = await this.#reply(socket);
    socket.end(`${JSON.stringify(reply)}\n`);
  }

  async #reply(socket: Socket): Promise<Reply> {
    try {
      const request = requestSchema.safeParse(JSON.parse(await readLine(socket)));
      if (!request.success) throw new TorporError('usage', 'Torpor did not understand the request.');
      return { answer: await (await this.#handler)(request.data) };
    } catch (error) {
      const known = error instanceof TorporError ? error : undefined;
      const { code = 'failed', hint = '' } = known ?? {};
      return { error: { code, message: sentenceOf(error), hint } };
    }
  }
}
