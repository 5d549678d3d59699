/**
 * An engine of a test's own: its own state folder, its own bus, and the real command line. Disposing of it ends
 * everything it started, also when the test failed half-way.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type EnginePaths, enginePaths } from '../../api/paths.ts';
import type { Finding, Snapshot, Workload } from '../../api/types.ts';
import { unmountBelow } from '../../engine/mounts.ts';

export const program = new URL('../../bin/torpor', import.meta.url).pathname;

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

export interface JsonError {
  error: { code: string; message: string; hint: string; findings?: Finding[] };
}

export class TestEngine implements AsyncDisposable {
  readonly paths: EnginePaths;
  readonly env: Record<string, string>;
  /** What every command begins with. */
  readonly #command: readonly string[];

  private constructor(paths: EnginePaths, env: Record<string, string>, command: readonly string[]) {
    this.paths = paths;
    this.env = env;
    this.#command = command;
  }

  /**
   * The engine itself starts with the first command. `stateDir` must be empty; otherwise one is made. `prefix` is what
   * every command is started by; `torpor` is another one than the checkout's.
   */
  static async create(
    options: {
      stateDir?: string;
      env?: Record<string, string>;
      prefix?: readonly string[];
      torpor?: string;
    } = {},
  ): Promise<TestEngine> {
    const stateDir = options.stateDir ?? (await mkdtemp('/var/tmp/torpor-test-'));
    const env = { TORPOR_STATE_DIR: stateDir, ...options.env };
    return new TestEngine(enginePaths(stateDir), env, [...(options.prefix ?? []), options.torpor ?? program]);
  }

  /** Runs `torpor` to its end. */
  run(
    args: readonly string[],
    options: { env?: Record<string, string>; cwd?: string; uid?: number; input?: string } = {},
  ): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const [first = program, ...rest] = [...this.#command, ...args];
      const child = spawn(first, rest, {
        env: { ...process.env, ...this.env, ...options.env },
        cwd: options.cwd ?? '/',
        stdio: ['pipe', 'pipe', 'pipe'],
        ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
      });
      child.stdin.end(options.input ?? '');
      const outcome: Outcome = { code: -1, stdout: '', stderr: '' };
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        outcome.stdout += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        outcome.stderr += text;
      });
      child.once('error', reject);
      child.once('close', (code) => resolve({ ...outcome, code: code ?? -1 }));
    });
  }

  /** Runs it with `--json` and expects success. @throws Error with what it said otherwise. */
  async json<T>(command: string, ...args: string[]): Promise<T> {
    const outcome = await this.run([command, '--json', ...args]);
    if (outcome.code !== 0) {
      throw new Error(
        `torpor ${command} ${args.join(' ')}: exit ${outcome.code}\n${outcome.stdout}${outcome.stderr}${await this.logTail()}`,
      );
    }
    return JSON.parse(outcome.stdout) as T;
  }

  /** Runs it with `--json` and expects this exit code and an error document. */
  async failure(code: number, command: string, ...args: string[]): Promise<JsonError['error']> {
    const outcome = await this.run([command, '--json', ...args]);
    if (outcome.code !== code) {
      throw new Error(
        `torpor ${command}: exit ${outcome.code} instead of ${code}\n${outcome.stdout}${outcome.stderr}`,
      );
    }
    return (JSON.parse(outcome.stdout) as JsonError).error;
  }

  start(command: readonly string[], ...options: string[]): Promise<Workload> {
    return this.json<Workload>('run', ...options, '--', ...command);
  }

  async workload(id: string): Promise<Workload> {
    const found = (await this.json<Workload[]>('ps')).find((workload) => workload.id === id);
    if (found === undefined) throw new Error(`no workload ${id}`);
    return found;
  }

  snapshots(): Promise<Snapshot[]> {
    return this.json<Snapshot[]>('snapshots');
  }

  /** The pid of the engine, or undefined where none runs. */
  async pid(): Promise<number | undefined> {
    try {
      const { pid } = JSON.parse(await readFile(this.paths.addressFile, 'utf8')) as { pid: number };
      process.kill(pid, 0);
      return pid;
    } catch {
      return undefined;
    }
  }

  /** Kills the engine as a crash would, and waits until it has gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const pid = await this.pid();
    if (pid === undefined) return;
    killIfThere(pid, signal);
    for (const limit = Date.now() + 10_000; isThere(pid) && Date.now() < limit; ) await sleep(5);
    killIfThere(pid);
  }

  async logTail(lines = 12): Promise<string> {
    const text = await readFile(join(this.paths.stateDir, 'log/torpord.log'), 'utf8').catch(() => '');
    return text.split('\n').slice(-lines).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill('SIGTERM');
    for (const folder of await cgroupFolders(this.paths.tag)) {
      for (const id of await readdir(folder).catch(() => [])) await endCgroup(join(folder, id));
      await rmdir(folder).catch(() => {});
    }
    // What is mounted there shows the whole machine.
    await unmountBelow(this.paths.runDir);
    await rm(this.paths.runDir, { recursive: true, force: true });
    await rm(this.paths.stateDir, { recursive: true, force: true });
  }
}

export function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** For what may end by itself at any moment. */
export function killIfThere(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Folders of this engine's cgroups, in whichever hierarchy they are. */
async function cgroupFolders(tag: string): Promise<string[]> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return mounts
    .filter((line) => / - cgroup2? /.test(line))
    .flatMap((line) => ['', '-plugins'].map((kind) => join(line.split(' ')[4] ?? '', `torpor-${tag}${kind}`)))
    .filter((path) => existsSync(path));
}

async function endCgroup(path: string): Promise<void> {
  for (let round = 0; round < 200; round++) {
    const text = await readFile(join(path, 'cgroup.procs'), 'utf8').catch(() => '');
    const pids = text.split('\n').filter(Boolean).map(Number);
    if (pids.length === 0) break;
    for (const pid of pids) killIfThere(pid);
    await sleep(10);
  }
  await rmdir(path).catch(() => {});
}
