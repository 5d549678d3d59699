/** A plugin's program that the engine has started, as its user, in a cgroup of its own. It ends with the engine. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { User } from '../capsule/users.ts';
import { identityOptions, lastSentence } from '../command.ts';
import { endSession } from '../process.ts';
import type { PluginCgroup } from './plugin-cgroups.ts';

const lastWordsLimit = 2048;
/** What writes more errors than that waits, for a second each time. */
const errorsAtOnce = 64 * 1024;
const errorsPauseMs = 1000;
const endLimitMs = 2000;
/** Before anything of the plugin's own can run and fork. Where one takes no processes, it goes on outside. */
const enterCgroups =
  'while [ "$1" != -- ]; do { echo $$ >"$1/cgroup.procs"; } 2>/dev/null; shift; done; shift; exec "$@"';

export class PluginProgram {
  readonly pid: number;
  /** Resolves with a sentence when it has ended with all of its session and cgroup, or could not be started. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  #hasEnded = false;

  /**
   * @param environment all that it gets; nothing of the engine's own reaches it.
   * @throws Error for words that cannot be handed to a program.
   */
  constructor(
    exec: readonly string[],
    user: User,
    environment: Readonly<Record<string, string>>,
    cgroup: PluginCgroup,
  ) {
    // As root nothing of the user's is executed or heeded: its environment comes after the change of identity.
    const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    const asUser = ['setpriv', ...identityOptions(user), '--pdeathsig', 'KILL', '--'];
    this.#child = spawn(
      'sh',
      ['-c', enterCgroups, 'sh', ...cgroup.folders, '--', ...asUser, 'env', '-i', ...settings, ...exec],
      { env: { PATH: '/usr/bin:/bin' }, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], detached: true },
    );
    this.pid = this.#child.pid ?? 0;
    const lastWords = this.#child.stderr === null ? () => '' : listen(this.#child.stderr);
    this.ended = new Promise((resolve) => {
      // Not `close`: a child of its own may hold the pipe for ever.
      this.#child.once('exit', (code, signal) => {
        this.#hasEnded = true;
        const said = lastSentence(lastWords());
        this.#child.stderr?.destroy();
        const how = signal === null ? `ended with status ${code}` : `was ended by ${signal}`;
        const sentence = `its program ${how}${said === '' ? '' : `: ${said}`}`;
        endSession(this.pid)
          .catch(() => {})
          .then(() => cgroup.end())
          .finally(() => resolve(sentence));
      });
      this.#child.once('error', (error) =>
        cgroup.end().finally(() => resolve(`its program does not start: ${error.message}`)),
      );
    });
  }

  /** Ends it, with all that is left of its session and cgroup. */
  async end(): Promise<void> {
    if (this.pid === 0) return;
    if (!this.#hasEnded) this.#child.kill('SIGTERM');
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
