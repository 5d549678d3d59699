/** The app of a test's own, beside the engine of {@link TestEngine}: real, in a browser that the test opens. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { WebSocket } from 'ws';
import type { CallArguments, CallError, CallName, CallResult, ToWindow } from '../../main/ipc/schema.ts';
import type { AppState, Notice } from '../../main/ipc/view.ts';
import type { TestEngine } from './engine.ts';

const root = new URL('../..', import.meta.url).pathname;

export class TestApp implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** With a token that opens it once. */
  readonly address: string;

  private constructor(child: ChildProcess, address: string) {
    this.#child = child;
    this.address = address;
  }

  /** @throws Error with what it said where it does not start. */
  static async start(engine: TestEngine, env: Record<string, string> = {}): Promise<TestApp> {
    const child = spawn(process.execPath, ['--import', 'tsx', 'main/start.ts', '--browser'], {
      cwd: root,
      // What it remembers is this test's own.
      env: { ...process.env, ...engine.env, XDG_CONFIG_HOME: join(engine.paths.stateDir, 'config'), ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: child.stdout })) {
      const address = /http:\/\/127\.0\.0\.1:\d+\/\S+/.exec(line)?.[0];
      if (address !== undefined) return new TestApp(child, address);
    }
    throw new Error('the app ended before it said its address');
  }

  /** Connects as a window would, without a browser. */
  connect(): Promise<TestWindow> {
    return connectWindow(this.address);
  }

  /** As a crash would end it. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill(signal);
    await exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#end('SIGTERM');
  }
}

/** Connects as a window would that was opened with this address. */
export async function connectWindow(address: string): Promise<TestWindow> {
  const answer = await fetch(address, { redirect: 'manual' });
  const cookie = answer.headers.get('set-cookie')?.split(';')[0];
  if (cookie === undefined) throw new Error(`the app gave no cookie: ${answer.status}`);
  const { host, origin } = new URL(address);
  const socket = new WebSocket(`ws://${host}/ipc`, { headers: { cookie, origin } });
  await once(socket, 'open');
  return new TestWindow(socket, origin, cookie);
}

/** A window without a picture: what it was told, and calls. */
export class TestWindow implements Disposable {
  readonly #socket: WebSocket;
  readonly #origin: string;
  readonly #cookie: string;
  readonly #waiting = new Map<number, (answer: { result: unknown } | { error: CallError }) => void>();
  readonly #watchers = new Set<() => void>();
  readonly notices: Notice[] = [];
  #state: AppState | undefined;
  #last = 0;

  constructor(socket: WebSocket, origin: string, cookie: string) {
    this.#socket = socket;
    this.#origin = origin;
    this.#cookie = cookie;
    socket.on('message', (data) => this.#receive(JSON.parse(String(data)) as ToWindow));
  }

  #receive(message: ToWindow): void {
    if ('id' in message) {
      this.#waiting.get(message.id)?.(message);
      return;
    }
    if (message.event === 'state') this.#state = message.value as AppState;
    if (message.event === 'notice') this.notices.push(message.value as Notice);
    for (const watcher of this.#watchers) watcher();
  }

  /** What was answered, whether a result or an error; takes anything, as a hostile page could send it. */
  ask(call: string, args: unknown[]): Promise<{ result: unknown } | { error: CallError }> {
    const id = ++this.#last;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#socket.send(JSON.stringify({ id, call, args }));
    });
  }

  /** @throws Error with the sentence where it failed. */
  async call<N extends CallName>(name: N, ...args: CallArguments<N>): Promise<CallResult<N>> {
    const answer = await this.ask(name, args);
    if ('error' in answer) throw new Error(`${name}: ${answer.error.message} ${answer.error.hint}`);
    return answer.result as CallResult<N>;
  }

  /** Waits until it has been told of a state like this. @throws Error with the last state after a while. */
  async until<T>(ask: (state: AppState) => T | undefined | false, limitMs = 30_000): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const answer = this.#state === undefined ? undefined : ask(this.#state);
        if (answer === undefined || answer === false) return;
        end();
        resolve(answer);
      };
      const limit = setTimeout(() => {
        end();
        reject(new Error(`the state did not come; the last was ${JSON.stringify(this.#state)}`));
      }, limitMs);
      const end = () => {
        clearTimeout(limit);
        this.#watchers.delete(look);
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** A picture or icon of the app's. */
  fetch(path: string): Promise<Response> {
    return fetch(new URL(path, this.#origin), { headers: { cookie: this.#cookie } });
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
