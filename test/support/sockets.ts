/** Both ends of unix sockets for tests: a server outside, and an application that does what it is told, in a capsule or not. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { killIfThere, type TestEngine } from './engine.ts';
import { end } from './programs.ts';

const fixture = (name: string) => new URL(`../fixtures/${name}`, import.meta.url).pathname;
const answerLimitMs = 15_000;

export type SocketKind = 'stream' | 'seqpacket' | 'datagram';

/** A server outside of all capsules, which can be ended and started again. */
export class EchoServer implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(kind: SocketKind, address: string, uid?: number): Promise<EchoServer> {
    const child = spawn('python3', [fixture('echo_server.py'), kind, address], {
      stdio: ['ignore', 'pipe', 'inherit'],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    const server = new EchoServer(child);
    const said = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
    if (!String(said[0]).startsWith('ready')) throw new Error(`the server on ${address} did not start`);
    return server;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#child);
  }
}

/** An application with one socket. */
export class SocketClient implements AsyncDisposable {
  readonly engine: TestEngine;
  /** By what the engine knows it; of a process tree that it does not know yet, the pid. */
  id: string;
  readonly folder: string;
  #count = 0;

  private constructor(engine: TestEngine, id: string, folder: string) {
    this.engine = engine;
    this.id = id;
    this.folder = folder;
  }

  static async start(
    engine: TestEngine,
    [role, kind, address]: ['connect' | 'listen', SocketKind, string],
    options: { name?: string; user?: string; uid?: number; started?: boolean } = {},
  ): Promise<SocketClient> {
    const folder = await mkdtemp('/var/tmp/torpor-socket-');
    await chmod(folder, 0o755);
    if (options.uid !== undefined) await chown(folder, options.uid, options.uid);
    const command = ['python3', fixture('socket_client.py'), folder, role, kind, address];
    const { id } = await engine.start(
      command,
      ...(options.name === undefined ? [] : ['--name', options.name]),
      ...(options.user === undefined ? [] : ['--user', options.user]),
    );
    const client = new SocketClient(engine, id, folder);
    if (role === 'connect') await client.ready();
    return client;
  }

  /** The same as a process tree that Torpor did not start. */
  static async startJob(
    engine: TestEngine,
    [role, kind, address]: ['connect' | 'listen', SocketKind, string],
  ): Promise<SocketClient> {
    const folder = await mkdtemp('/var/tmp/torpor-socket-');
    const child = spawn('python3', [fixture('socket_client.py'), folder, role, kind, address], {
      stdio: 'ignore',
      detached: true,
      cwd: '/',
    });
    await once(child, 'spawn');
    const client = new SocketClient(engine, String(child.pid), folder);
    if (role === 'connect') await client.ready();
    return client;
  }

  /** Waits until it is connected. */
  async ready(): Promise<void> {
    await this.#answer(0);
  }

  /** Has it do something. @returns what came of it. */
  async do(what: string): Promise<string> {
    const number = ++this.#count;
    await writeFile(join(this.folder, 'part'), what);
    await rename(join(this.folder, 'part'), join(this.folder, `${number}.do`));
    return this.#answer(number);
  }

  async #answer(number: number): Promise<string> {
    for (const end = Date.now() + answerLimitMs; Date.now() < end; await sleep(10)) {
      const text = await readFile(join(this.folder, `${number}.done`), 'utf8').catch(() => undefined);
      if (text !== undefined) return text;
    }
    throw new Error(`the client did not answer ${number}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { code } = await this.engine.run(['end', this.id]);
    if (code === 4) killIfThere(Number(this.id));
    await rm(this.folder, { recursive: true, force: true });
  }
}
