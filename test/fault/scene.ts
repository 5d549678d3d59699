/**
 * What the tests of failure share: an application that shows by itself whether it ran on without a gap, moments at
 * which to strike, and the facts outside the engine by which one sees that nothing was left half-done.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { connectEngine, readEngineAddress } from '../../api/client.ts';
import type { Phase, Snapshot, VerifyResult, Workload } from '../../api/types.ts';
import { isThere, killIfThere, type Outcome, type TestEngine } from '../support/engine.ts';
import { takePid } from '../support/pids.ts';
import { childrenOf, TestTerminal } from '../support/terminal.ts';

const reactLimitMs = 20_000;

/** Appends 1, 2, 3... to the file that is its argument. One process, opening the file each time as a shell would. */
const counting =
  'for (my $i = 1; ; $i++) { open(F, ">>", $ARGV[0]) or die; print F "$i\\n"; close F; select(undef, undef, undef, 0.05) }';

/**
 * What counts into a file on the host, an xterm in a capsule or a process that was started in a terminal: a lost,
 * repeated or restarted step would show.
 */
export class Counter implements AsyncDisposable {
  readonly engine: TestEngine;
  readonly name: string;
  readonly file: string;
  readonly #folder: string;
  /** Where a job was started, and as which process. */
  readonly #start: { terminal: TestTerminal; pid: number } | undefined;
  #id: string | undefined;
  #held: AsyncDisposable | undefined;

  private constructor(
    engine: TestEngine,
    { id, name }: { id?: string; name: string },
    folder: string,
    file: string,
    start?: { terminal: TestTerminal; pid: number },
  ) {
    this.engine = engine;
    this.#id = id;
    this.name = name;
    this.#folder = folder;
    this.file = file;
    this.#start = start;
  }

  /** Empty for a process that Torpor does not know. */
  get id(): string {
    return this.#id ?? '';
  }

  /** By what it is named to be suspended. */
  get target(): string {
    return this.#id ?? String(this.pid);
  }

  /** Looks what the engine knows of it now: a job of which there is no snapshot it does not know. */
  async lookUp(): Promise<void> {
    const jobs = (await this.engine.json<Workload[]>('ps')).filter(
      ({ kind, state }) => kind === 'job' && state !== 'ended',
    );
    expect(jobs.length).toBeLessThan(2);
    this.#id = jobs[0]?.id;
  }

  /** Of a job, as it counts itself. */
  get pid(): number {
    return this.#start?.pid ?? 0;
  }

  /** It is this workload from now on, or none. */
  adopted(id: string | undefined): void {
    this.#id = id;
  }

  /** What is to last as long as it. */
  alsoEnds(held: AsyncDisposable): void {
    this.#held = held;
  }

  static start(engine: TestEngine, ...options: string[]): Promise<Counter> {
    return Counter.startHolding(engine, 0, ...options);
  }

  /** One with so many mebibytes of memory that nothing compresses. */
  static async startHolding(engine: TestEngine, mebibytes: number, ...options: string[]): Promise<Counter> {
    const folder = await mkdtemp('/var/tmp/torpor-count-');
    const file = join(folder, 'count');
    const held = `open(R, "<", "/dev/urandom") or die; read(R, my $held, ${mebibytes} << 20) // die; close R;`;
    const command = ['xterm', '-e', 'perl', '-e', mebibytes > 0 ? held + counting : counting, file];
    const workload = await engine.start(command, ...options);
    const counter = new Counter(engine, workload, folder, file);
    await counter.expectCounting();
    return counter;
  }

  /** A process in a terminal, started by a shell. */
  static async startJob(engine: TestEngine): Promise<Counter> {
    const folder = await mkdtemp('/var/tmp/torpor-count-');
    const file = join(folder, 'count');
    // With what follows it the shell does not become the command itself.
    const command = ['bash', '-c', `perl -e '${counting}' ${file}; exit`];
    const terminal = await TestTerminal.start(command);
    let pid: number | undefined;
    while (pid === undefined) [pid] = await childrenOf(terminal.pid);
    const counter = new Counter(engine, { name: 'perl' }, folder, file, { terminal, pid });
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
    const state = await this.#state();
    expect(['running', 'suspended']).toContain(state);
    if (state === 'suspended') {
      const standing = await this.count();
      await this.engine.json('resume', this.id);
      expect(await this.count()).toBeGreaterThanOrEqual(standing);
    }
    await this.expectCounting();
    return state;
  }

  /** A process tree becomes a job by its suspend, unless that fails: then it is nobody's, and runs where it did. */
  async #state(): Promise<Workload['state']> {
    if (this.#id === undefined) await this.lookUp();
    if (this.#id === undefined) return (await isRunning(this.pid)) ? 'running' : 'ended';
    return (await this.engine.workload(this.#id)).state;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#id !== undefined) await this.engine.run(['end', this.#id]);
    await this.#start?.terminal.close();
    await this.#held?.[Symbol.asyncDispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** What is struck at, and what is there for each test anew. */
export interface Subject {
  what: string;
  start: (engine: TestEngine) => Promise<Counter>;
}

export const capsule: Subject = {
  what: 'a capsule',
  start: (engine) => Counter.start(engine, '--name', 'counter'),
};

/** As the first suspend meets it, which adopts it, and as later ones do, which find it in a room. */
export const jobs: Subject[] = [
  { what: 'a job where it was started', start: (engine) => Counter.startJob(engine) },
  {
    what: 'a job that has pids of its own',
    async start(engine) {
      const counter = await Counter.startJob(engine);
      const { workload } = await engine.json<Snapshot>('suspend', counter.target);
      counter.adopted(workload);
      counter.alsoEnds(await takePid(counter.pid));
      await engine.json('resume', workload);
      await counter.expectCounting();
      return counter;
    },
  },
];

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

/** What makes the place that a job comes back in, or takes CRIU there. */
const isRoom = ({ command }: ProcessLine) => command.includes('torpor-room ');

/** It renames itself once it knows what it is to do. */
const isCriu = (line: ProcessLine) =>
  / swrk |^criu: /.test(line.command) && !line.command.includes('torpor-capsule') && !isRoom(line);

/**
 * Kills the CRIU that the engine has started, by itself or in a room. What it restores is its sibling and looks like it
 * at first, so it is the oldest. @returns whether there was one.
 */
export const killCriu = (engine: number): Promise<boolean> => killBelow(engine, isCriu);

/** Kills the program that makes a room or enters one, by which the engine has started CRIU. @returns as {@link killCriu}. */
export const killRoom = (engine: number): Promise<boolean> =>
  killBelow(
    engine,
    (line) => line.ppid === engine && isRoom(line) && line.command.includes(' swrk ') && !holdsRoom(line),
  );

/** What is left of it while the job runs has a cgroup of its own. */
function holdsRoom({ pid }: ProcessLine): boolean {
  try {
    return /\/torpor-\w+\/\w+-room$/m.test(readFileSync(`/proc/${pid}/cgroup`, 'latin1'));
  } catch {
    return false;
  }
}

async function killBelow(engine: number, isMeant: (line: ProcessLine) => boolean): Promise<boolean> {
  const all = await processes();
  const parents = new Map(all.map(({ pid, ppid }) => [pid, ppid]));
  const isBelow = (pid: number): boolean => pid === engine || (pid > 1 && isBelow(parents.get(pid) ?? 0));
  const [oldest] = all
    .filter((line) => line.pid !== engine && isMeant(line) && isBelow(line.pid))
    .sort((a, b) => a.startTime - b.startTime || a.pid - b.pid);
  if (oldest === undefined || !isThere(oldest.pid)) return false;
  killIfThere(oldest.pid);
  return true;
}

/**
 * CRIU processes, and what makes rooms, that any engine of this state folder has started: they have its environment. What
 * holds a room has a cgroup.
 */
async function criuProcesses(engine: TestEngine): Promise<string[]> {
  const found: string[] = [];
  for (const line of (await processes()).filter((each) => isCriu(each) || isRoom(each))) {
    if (isRoom(line) && holdsRoom(line)) continue;
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
  // A job that runs where it was started has nothing of Torpor's about it.
  const running = alive.filter(
    ({ state, kind, terminal }) => state === 'running' && (kind === 'capsule' || terminal !== undefined),
  );
  const rooms = running.filter(({ kind }) => kind === 'job').map(({ id }) => `${id}-room`);
  const ids = running.map(({ id }) => id);
  expect(capsules?.sort()).toEqual(ids.sort());
  expect(cgroups?.map((path) => basename(path)).sort()).toEqual([...ids, ...rooms].sort());
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
