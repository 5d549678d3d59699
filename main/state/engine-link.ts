/**
 * The app's connection to the engine: made when it is needed, made again by itself when the engine has gone, with the
 * signals of whichever engine answers now. While there is none, why is known.
 */
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type EngineClient, readEngineAddress } from '../../api/client.ts';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import { enginePaths } from '../../api/paths.ts';
import { reachEngine } from '../../api/reach.ts';
import type { Progress, Workload } from '../../api/types.ts';
import { version } from '../../package.json';
import type { EngineState } from '../ipc/view.ts';

const firstPauseMs = 250;
const longestPauseMs = 5000;

interface LinkEvents {
  state: [EngineState];
  /** Connected and subscribed: whatever was known before may be out of date. */
  connected: [EngineClient];
  workload: [Workload];
  progress: [Progress];
  snapshots: [string];
  forgotten: [string];
}

export class EngineLink extends EventEmitter<LinkEvents> implements AsyncDisposable {
  #state: EngineState = { kind: 'connecting' };
  #client: EngineClient | undefined;
  #connecting: Promise<void> | undefined;
  readonly #disposed = new AbortController();

  get state(): EngineState {
    return this.#state;
  }

  /** Connects, and from then on whenever the connection is lost; a failure is only told by `state`. */
  async start(): Promise<void> {
    await this.#connect();
  }

  /** The engine that answers now. @throws TorporError that says why there is none. */
  client(): EngineClient {
    if (this.#client !== undefined) return this.#client;
    const state = this.#state;
    throw state.kind === 'unavailable'
      ? new TorporError('failed', state.message, state.hint)
      : new TorporError('failed', 'The engine does not answer yet.', 'Try again in a moment.');
  }

  async #connect(): Promise<void> {
    this.#connecting ??= this.#tryUntilConnected().finally(() => {
      this.#connecting = undefined;
    });
    await this.#connecting;
  }

  /** Resolves after the first try; goes on trying in the background where that failed. */
  async #tryUntilConnected(): Promise<void> {
    if (await this.#tryOnce()) return;
    void (async () => {
      for (let pause = firstPauseMs; ; pause = Math.min(pause * 2, longestPauseMs)) {
        if (!(await waited(pause, this.#disposed.signal))) return;
        if (await this.#tryOnce()) return;
      }
    })();
  }

  async #tryOnce(): Promise<boolean> {
    let client: EngineClient | undefined;
    try {
      client = await reachEngine();
      const address = await readEngineAddress(enginePaths());
      if (address !== undefined && address.version !== version) throw otherVersion(address.version);
      await this.#listen(client);
    } catch (error) {
      await client?.[Symbol.asyncDispose]();
      this.#setState({ kind: 'unavailable', message: sentenceOf(error), hint: hintOf(error) });
      return false;
    }
    if (this.#disposed.signal.aborted) {
      await client[Symbol.asyncDispose]();
      return true;
    }
    this.#client = client;
    this.#setState({ kind: 'ready', version, stateDir: enginePaths().stateDir });
    this.emit('connected', client);
    return true;
  }

  async #listen(client: EngineClient): Promise<void> {
    client.on('workloadChanged', (workload) => this.emit('workload', workload));
    client.on('progress', (progress) => this.emit('progress', progress));
    client.on('workloadForgotten', (workload) => this.emit('forgotten', workload));
    client.on('snapshotsChanged', (workload) => this.emit('snapshots', workload));
    client.onLost(() => {
      if (this.#client !== client) return;
      this.#client = undefined;
      this.#setState({ kind: 'connecting' });
      void this.#connect();
    });
    await client.subscribe();
  }

  #setState(state: EngineState): void {
    this.#state = state;
    this.emit('state', state);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort();
    const client = this.#client;
    this.#client = undefined;
    await client?.[Symbol.asyncDispose]();
  }
}

function otherVersion(found: string): TorporError {
  return new TorporError(
    'failed',
    `The engine that runs is of version ${found}, but this app is of version ${version}.`,
    'Suspend or end what runs, then restart the engine: it is replaced by the one that belongs to this app.',
  );
}

const hintOf = (error: unknown) =>
  error instanceof TorporError ? error.hint : 'It is tried again by itself.';

async function waited(milliseconds: number, signal: AbortSignal): Promise<boolean> {
  return sleep(milliseconds, true, { signal, ref: false }).catch(() => false);
}
