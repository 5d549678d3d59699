/** A plugin's program that the engine has started, as its user. It ends with the engine. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { User } from '../capsule/users.ts';
import { identityOptions } from '../files/settings-folder.ts';
import { endSession } from '../process.ts';

const lastWordsLimit = 2048;
/** What writes more errors than that waits, for a second each time. */
const errorsAtOnce = 64 * 1024;
const errorsPauseMs = 1000;
const endLimitMs = 2000;

export class PluginProgram {
  readonly pid: number;
  /** Resolves with a sentence when it has ended with all of its session, or could not be started. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  #hasEnded = false;

  /**
   * @param environment all that it gets; nothing of the engine's own reaches it.
   * @throws Error for words that cannot be handed to a program.
   */
  constructor(exec: readonly string[], user: User, environment: Readonly<Record<string, string>>) {
    // As root nothing of the user's is executed or heeded: its environment comes after the change of identity.
    const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    this.#child = spawn(
      'setpriv',
      [...identityOptions(user), '--pdeathsig', 'KILL', '--', 'env', '-i', ...settings, ...exec],
      { env: { PATH: '/usr/bin:/bin' }, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], detached: true },
    );
    this.pid = this.#child.pid ?? 0;
    const lastWords = this.#child.stderr === null ? () => '' : listen(this.#child.stderr);
    this.ended = new Promise((resolve) => {
      // Not `close`: a child of its own may hold the pipe for ever.
      this.#child.once('exit', (code, signal) => {
        this.#hasEnded = true;
        const said = lastWords().trim().split('\n').at(-1) ?? '';
        this.#child.stderr?.destroy();
        const how = signal === null ? `ended with status ${code}` : `was ended by ${signal}`;
        const sentence = `its program ${how}${said === '' ? '' : `: ${said}`}`;
        endSession(this.pid).then(
          () => resolve(sentence),
          () => resolve(sentence),
        );
      });
      this.#child.once('error', (error) => resolve(`its program does not start: ${error.message}`));
    });
  }

  /** Ends it, with all that is left of its session. */
  async end(): Promise<void> {
    if (this.pid === 0 || this.#hasEnded) return;
    this.#child.kill('SIGTERM');
    await Promise.race([this.ended, sleep(endLimitMs, undefined, { ref: false })]);
    if (!this.#hasEnded) this.#child.kill('SIGKILL');
    await Promise.race([this.ended, sleep(endLimitMs, undefined, { ref: false })]);
  }
}

/** @returns the last that it has said. */
function listen(stream: Readable): () => string {
  let words = '';
  let count = 0;
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    words = (words + text).slice(-lastWordsLimit);
    count += text.length;
    if (count < errorsAtOnce) return;
    count = 0;
    stream.pause();
    setTimeout(() => stream.resume(), errorsPauseMs).unref();
  });
  return () => words;
}
