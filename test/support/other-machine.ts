/**
 * Another machine, as far as a root folder, namespaces and cgroups make one: a Debian of another release with what every
 * Debian has and nothing else, with a disk, a host name and a user of its own, and a folder of the host as a key in
 * /media/key. Kernel and network are the host's. Disposing of it ends every process in it, and nothing of it is left; the
 * tree that it is made of stays as it is (scripts/setup/machine.sh).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { vi } from 'vitest';
import type { Outcome } from './engine.ts';
import { childrenOf } from './terminal.ts';

const trees = new URL('../../build/machines', import.meta.url).pathname;
const program = new URL('../fixtures/other-machine.sh', import.meta.url).pathname;
const namespaces = ['--mount', '--pid', '--uts', '--ipc', '--cgroup'];

/** Who can be somebody there, and where they live. */
const users = {
  root: { uid: 0, home: '/root' },
  guest: { uid: 1777, home: '/srv/people/guest' },
} as const;

export interface RunOptions {
  user?: keyof typeof users;
  env?: Record<string, string>;
  /** Their home folder where none is named. */
  cwd?: string;
  input?: string;
}

function unifiedCgroups(): string {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const path = mounts.find((line) => / - cgroup2 /.test(line))?.split(' ')[4];
  if (path === undefined) throw new Error('no cgroup v2 is mounted here');
  return path;
}

export class OtherMachine implements AsyncDisposable {
  readonly #scratch: string;
  readonly #cgroup: string;
  readonly #holder: ChildProcess;
  readonly #ended: Promise<unknown>;
  /** Its first process, as the host counts. */
  readonly #init: number;

  private constructor(scratch: string, cgroup: string, holder: ChildProcess, init: number) {
    this.#scratch = scratch;
    this.#cgroup = cgroup;
    this.#holder = holder;
    this.#ended = once(holder, 'close');
    this.#init = init;
  }

  /**
   * @param key the host's folder that is in /media/key.
   * @param options how that is mounted, as in `ro,noexec`.
   */
  static async start(key: string, options = 'rw'): Promise<OtherMachine> {
    const [release] = readdirSync(trees).filter((name) => name !== 'new');
    if (release === undefined) throw new Error(`no machine in ${trees}: run scripts/setup.sh --tests`);
    const scratch = await mkdtemp('/var/tmp/torpor-machine-');
    const cgroup = join(unifiedCgroups(), basename(scratch));
    mkdirSync(cgroup);
    // Whatever ends this process ends the machine: its first process dies with `unshare`, and that with us.
    const unshare = ['setpriv', '--pdeathsig', 'KILL', 'unshare', ...namespaces, '--fork', '--kill-child'];
    const script = ['echo 0 >"$1/cgroup.procs" && shift && exec "$@"', 'sh', cgroup];
    const machine = [program, join(trees, release), scratch, key, options];
    const holder = spawn('sh', ['-c', ...script, ...unshare, ...machine], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: '/',
      detached: true,
    });
    const said = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      holder[name].setEncoding('utf8').on('data', (text: string) => {
        said[name] += text;
      });
    try {
      const init = await vi.waitFor(
        async () => {
          if (holder.pid === undefined || !said.stdout.includes('ready')) throw new Error(said.stderr);
          const [first] = await childrenOf(holder.pid);
          if (first === undefined) throw new Error(`it has ended: ${said.stderr}`);
          return first;
        },
        { timeout: 60_000, interval: 20 },
      );
      // Processes in the root of a tree of cgroups would keep it from being divided.
      writeFileSync(join(unifiedCgroups(), 'cgroup.procs'), String(holder.pid));
      return new OtherMachine(scratch, cgroup, holder, init);
    } catch (error) {
      if (holder.exitCode === null && holder.signalCode === null) {
        holder.kill('SIGKILL');
        await once(holder, 'close');
      }
      await leaveNothing(scratch, cgroup);
      throw error;
    }
  }

  /** Where the host finds a file of the machine, while it is there. */
  pathOf(path: string): string {
    return join(`/proc/${this.#init}/root`, path);
  }

  /** Host pids of all processes in it that are not its first. */
  async pids(): Promise<number[]> {
    const own = readdirSync(this.#cgroup, { recursive: true, encoding: 'utf8' })
      .filter((name) => basename(name) === 'cgroup.procs')
      .flatMap((name) => readFileSync(join(this.#cgroup, name), 'utf8').split('\n'))
      .filter(Boolean)
      .map(Number);
    return own.filter((pid) => pid !== this.#init);
  }

  /** What starts a command there, to be run by the host. */
  command(words: readonly string[], { user = 'root', env = {}, cwd }: RunOptions = {}): string[] {
    const { uid, home } = users[user];
    const variables = {
      PATH: uid === 0 ? '/usr/sbin:/usr/bin:/sbin:/bin' : '/usr/bin:/bin',
      ...{ HOME: home, USER: user, LOGNAME: user, TERM: 'xterm' },
      ...env,
    };
    return [
      // Its cgroup, too, is to be one of the machine's.
      ...['sh', '-c', 'echo 0 >"$1/system/cgroup.procs" && shift && exec "$@"', 'sh', this.#cgroup],
      ...['nsenter', `--target=${this.#init}`, ...namespaces, '--root', `--wd=${this.pathOf(cwd ?? home)}`],
      ...['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--init-groups'],
      ...['env', '-i', ...Object.entries(variables).map(([name, value]) => `${name}=${value}`)],
      ...words,
    ];
  }

  /** Runs a command there to its end. */
  async run(words: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const [first = '', ...rest] = this.command(words, options);
    const child = spawn(first, rest, { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
    const outcome: Outcome = { code: -1, stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      child[name].setEncoding('utf8').on('data', (text: string) => {
        outcome[name] += text;
      });
    // What ends before it has read everything has its reasons.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
    const [code] = await once(child, 'close');
    return { ...outcome, code: code ?? -1 };
  }

  /** Runs a command there. @returns its output. @throws Error with what it said where it fails. */
  async output(words: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(words, options);
    if (code !== 0) throw new Error(`${words.join(' ')}: exit ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The kernel ends all of its pid namespace with it, and lets go of the mounts with the last of them.
    this.#holder.kill('SIGKILL');
    await this.#ended;
    await leaveNothing(this.#scratch, this.#cgroup);
  }
}

async function leaveNothing(scratch: string, cgroup: string): Promise<void> {
  writeFileSync(join(cgroup, 'cgroup.kill'), '1');
  await vi.waitFor(() => removeCgroups(cgroup), { timeout: 20_000, interval: 20 });
  rmSync(scratch, { recursive: true, force: true });
}

/** Of all cgroups below it, too. @throws Error where a process of one is not quite gone yet. */
function removeCgroups(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true }))
    if (entry.isDirectory()) removeCgroups(join(folder, entry.name));
  rmdirSync(folder);
}
