/** A plugin's program that the engine has started, as its user. It ends with the engine. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { User } from '../capsule/users.ts';
import { identityOptions } from '../files/settings-folder.ts';
import { endSession } from '../process.ts';

const lastWordsLimit = 2048;
const endLimitMs = 2000;

export class PluginProgram {
  readonly pid: number;
  /** Resolves with a sentence when it has ended, or could not be started. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  #lastWords = '';
  #hasEnded = false;

  /** @param environment all that it gets; nothing of the engine's own reaches it. */
  constructor(exec: readonly string[], user: User, environment: Readonly<Record<string, string>>) {
    // As root nothing of the user's is executed or heeded: its environment comes after the change of identity.
    const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    this.#child = spawn(
      'setpriv',
      [...identityOptions(user), '--pdeathsig', 'KILL', '--', 'env', '-i', ...settings, ...exec],
      {
        env: { PATH: '/usr/bin:/bin' },
        cwd: '/',
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      },
    );
    this.pid = this.#child.pid ?? 0;
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8');
      stream?.on('data', (text: string) => {
        this.#lastWords = (this.#lastWords + text).slice(-lastWordsLimit);
      });
    }
    this.ended = new Promise((resolve) => {
      // Not `close`: a child of its own may hold the pipes for ever.
      this.#child.once('exit', (code, signal) => {
        this.#hasEnded = true;
        this.#child.stdout?.destroy();
        this.#child.stderr?.destroy();
        void endSession(this.pid);
        const said = this.#lastWords.trim().split('\n').at(-1) ?? '';
        const how = signal === null ? `ended with status ${code}` : `was ended by ${signal}`;
        resolve(`its program ${how}${said === '' ? '' : `: ${said}`}`);
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
