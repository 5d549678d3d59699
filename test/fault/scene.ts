/**
 * What the tests of failure share: an application that shows by itself whether it ran on without a gap, moments at
 * which to strike, and the facts outside the engine by which one sees that nothing was left half-done.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { connectEngine, readEngineAddress } from '../../api/client.ts';
import type { Phase, VerifyResult, Workload } from '../../api/types.ts';
import type { Outcome, TestEngine } from '../support/engine.ts';

const reactLimitMs = 20_000;

/** Appends 1, 2, 3... to the file that is its argument. One process, opening the file each time as a shell would. */
const counting =
  'for (my $i = 1; ; $i++) { open(F, ">>", $ARGV[0]) or die; print F "$i\\n"; close F; select(undef, undef, undef, 0.05) }';

/** The command of an xterm that counts into a file. */
export const counterCommand = (file: string): string[] => ['xterm', '-e', 'perl', '-e', counting, file];

/** An xterm in a capsule that counts into a file on the host: a lost, repeated or restarted step would show. */
export class Counter implements AsyncDisposable {
  readonly engine: TestEngine;
  readonly id: string;
  readonly name: string;
  readonly file: string;
  readonly #folder: string;

  private constructor(engine: TestEngine, workload: Workload, folder: string, file: string) {
    this.engine = engine;
    this.id = workload.id;
    this.name = workload.name;
    this.#folder = folder;
    this.file = file;
  }

  static async start(engine: TestEngine, ...options: string[]): Promise<Counter> {
    const folder = await mkdtemp('/var/tmp/torpor-count-');
    const file = join(folder, 'count');
    const workload = await engine.start(counterCommand(file), ...options);
    const counter = new Counter(engine, workload, folder, file);
    await counter.expectCounting();
    return counter;
  }

  async #numbers(): Promise<number[]> {
    const text = await readFile(this.file, 'utf8').catch(() => '');
    return text.split('\n').filter(Boolean).map(Number);
  }

  /** How far it has counted. */
  async count(): Promise<number> {
    return (await this.#numbers()).length;
  }

  /** Waits until it has counted on, and checks that it never skipped or repeated a number. */
  async expectCounting(): Promise<void> {
    const before = await this.count();
    const end = Date.now() + reactLimitMs;
    while ((await this.count()) < before + 3) {
      if (Date.now() > end) throw new Error(`${this.name} does not count on after ${before}`);
      await sleep(20);
    }
    const numbers = await this.#numbers();
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  }

  /** Whatever state it is in now, it runs or can be resumed, and goes on without a gap. @returns the state it was in. */
  async expectUsable(): Promise<Workload['state']> {
    const { state } = await this.engine.workload(this.id);
    expect(['running', 'suspended']).toContain(state);
    if (state === 'suspended') {
      const standing = await this.count();
      await this.engine.json('resume', this.id);
      expect(await this.count()).toBeGreaterThanOrEqual(standing);
    }
    await this.expectCounting();
    return state;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine.run(['end', this.id]);
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** The pid of the engine that answers now, starting one where none does. */
export async function enginePid(engine: TestEngine): Promise<number> {
  await engine.json('ps');
  const pid = await engine.pid();
  if (pid === undefined) throw new Error('there is no engine');
  return pid;
}

/**
 * Runs a command, and when an operation of the engine reports the phase does something, given the engine's pid.
 * @throws Error where the command ended without that phase.
 */
export async function strikeAt(
  engine: TestEngine,
  phase: Phase,
  args: readonly string[],
  strike: (engine: number) => unknown,
): Promise<Outcome> {
  const pid = await enginePid(engine);
  const address = await readEngineAddress(engine.paths);
  if (address === undefined) throw new Error('the engine left no address');
  await using client = await connectEngine(address.address);
  await client.subscribe();
  let struck: Promise<unknown> | undefined;
  client.on('progress', (progress) => {
    if (progress.phase === phase) struck ??= Promise.resolve(strike(pid));
  });
  const outcome = await engine.run(args);
  if (struck === undefined)
    throw new Error(`${args.join(' ')} never came to ${phase}\n${outcome.stdout}${outcome.stderr}`);
  await struck;
  return outcome;
}

interface ProcessLine {
  pid: number;
  ppid: number;
  startTime: number;
  command: string;
}

async function readProcess(pid: number): Promise<ProcessLine | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z') return undefined;
    const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
    return { pid, ppid: Number(fields[1]), startTime: Number(fields[19]), command };
  } catch {
    return undefined;
  }
}

/** Whether there is such a process; one that has ended and waits for its parent does not count. */
export async function isRunning(pid: number): Promise<boolean> {
  return (await readProcess(pid)) !== undefined;
}

async function processes(): Promise<ProcessLine[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  return (await Promise.all(pids.map(readProcess))).filter((found) => found !== undefined);
}

/** It renames itself once it knows what it is to do. */
const isCriu = ({ command }: ProcessLine) =>
  / swrk |^criu: /.test(command) && !command.includes('torpor-capsule');

/**
 * Kills the CRIU that the engine has started. What it restores is the engine's child too and looks like it at first,
 * so it is the oldest. @returns whether there was one.
 */
export async function killCriu(engine: number): Promise<boolean> {
  const all = (await processes()).filter((found) => found.ppid === engine && isCriu(found));
  const [oldest] = all.sort((a, b) => a.startTime - b.startTime || a.pid - b.pid);
  if (oldest === undefined) return false;
  process.kill(oldest.pid, 'SIGKILL');
  return true;
}

/** CRIU processes that any engine of this state folder has started: they have its environment. */
async function criuProcesses(engine: TestEngine): Promise<string[]> {
  const found: string[] = [];
  for (const line of (await processes()).filter(isCriu)) {
    const environment = await readFile(`/proc/${line.pid}/environ`, 'utf8').catch(() => '');
    if (environment.split('\0').includes(`TORPOR_STATE_DIR=${engine.paths.stateDir}`))
      found.push(`${line.pid} ${line.command}`);
  }
  return found;
}

async function cgroupsOf(engine: TestEngine): Promise<string[]> {
  const folders = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => join(line.split(' ')[4] ?? '', `torpor-${engine.paths.tag}`))
    .filter((path) => existsSync(path));
  const lists = await Promise.all(
    folders.map(async (folder) =>
      (await readdir(folder, { withFileTypes: true }))
        .filter((entry) => entry.isDirectory())
        .map((entry) => join(folder, entry.name)),
    ),
  );
  return lists.flat();
}

async function frozen(engine: TestEngine): Promise<string[]> {
  const stuck: string[] = [];
  for (const cgroup of await cgroupsOf(engine)) {
    for (const [file, running] of [
      ['cgroup.freeze', '0'],
      ['freezer.state', 'THAWED'],
    ] as const) {
      const value = await readFile(join(cgroup, file), 'utf8').catch(() => undefined);
      if (value !== undefined && value.trim() !== running) stuck.push(`${cgroup} ${value.trim()}`);
    }
  }
  return stuck;
}

/** What capsules there are as the machine sees them: to be compared before and after. */
export async function traces(engine: TestEngine): Promise<Record<string, string[]>> {
  const list = (path: string) => readdir(path).catch(() => [] as string[]);
  const { stateDir, runDir } = engine.paths;
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return {
    capsules: await list(join(runDir, 'capsules')),
    records: await list(join(stateDir, 'capsules')),
    resuming: await list(join(runDir, 'resume')),
    staging: await list(join(stateDir, 'staging')),
    cgroups: await cgroupsOf(engine),
    mounts: mounts.filter((line) => line.includes(runDir)),
  };
}

/** Nothing is half-done: nothing staged, nothing frozen, no CRIU, every snapshot whole to the last byte. */
export async function expectTidy(engine: TestEngine): Promise<void> {
  const { staging, resuming, capsules, cgroups } = await traces(engine);
  const alive = await engine.json<Workload[]>('ps');
  const running = alive.filter(({ state }) => state === 'running').map(({ id }) => id);
  expect(capsules?.sort()).toEqual(running.sort());
  expect(cgroups?.map((path) => basename(path)).sort()).toEqual(running);
  expect({
    staging,
    resuming,
    frozen: await frozen(engine),
    criu: await criuProcesses(engine),
  }).toEqual({ staging: [], resuming: [], frozen: [], criu: [] });
  const results = await engine.json<VerifyResult[]>('verify', '--read-data');
  expect(results.filter((result) => !result.ok)).toEqual([]);
}

/** Removes all snapshots, which are no longer needed and would all be read again by the next check. */
export async function removeSnapshots(engine: TestEngine): Promise<void> {
  await Promise.all((await engine.snapshots()).map(({ id }) => engine.run(['rm', id])));
}

/** What went wrong was told in one sentence with a next step, and without a stack. */
export function expectSentence(outcome: Outcome, code: number, pattern: RegExp): void {
  const said = outcome.stdout + outcome.stderr;
  expect(outcome.code, said).toBe(code);
  expect(said).toMatch(pattern);
  expect(said).not.toMatch(/\n\s+at .+:\d+|\bundefined\b|\[object /);
}
