/**
 * Tries ties in earnest: processes that hold one each (test/fixtures/ties/keep.py) are inspected, suspended and resumed,
 * and then use the tie. Those that a capsule can have are tried in one; the others, and those that block, without one,
 * with CRIU called directly in spite of what the inspection says.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { sentenceOf } from '../../api/errors.ts';
import { enginePaths } from '../../api/paths.ts';
import type { Finding, Inspection, Workload } from '../../api/types.ts';
import { runCommand } from '../../engine/command.ts';
import { CriuClient } from '../../engine/criu/client.ts';
import { dumpOptions, Inspector } from '../../engine/inspect/inspector.ts';
import { readProcessLine, treeBelow } from '../../engine/inspect/proc.ts';
import { findInstallation } from '../../engine/installation.ts';
import { Cgroups } from '../../engine/workload/cgroup.ts';
import type { TestEngine } from './engine.ts';
import type { TieKind } from './tie-kinds.ts';

const keeper = new URL('../fixtures/ties/keep.py', import.meta.url).pathname;
const sharer = new URL('../fixtures/ties/share.c', import.meta.url).pathname;
const python = '/usr/bin/python3';
const installation = findInstallation();

/** The fixture that holds the tie of a class of keep.py. */
export const keeperCommand = (name: string, folder: string) => [python, '-SEs', keeper, name, folder];

/** What came of one kind. */
export type Outcome = { kind: TieKind; findings: Finding[] } & (
  | { result: 'impossible'; why: string }
  /** Before anything was touched, for another reason than expected, or while CRIU dumped. */
  | { result: 'not-suspended'; why: string }
  | { result: 'not-resumed'; why: string }
  | { result: 'works' }
  | { result: 'differs'; how: string }
);

async function until<T>(
  ask: () => Promise<T | undefined> | T | undefined,
  limitMs = 15_000,
): Promise<T | undefined> {
  for (const end = Date.now() + limitMs; Date.now() < end; await sleep(20)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
  }
  return undefined;
}

const readJson = async <T>(path: string): Promise<T | undefined> => {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as T);
};

/** The class of the fixture; kinds that differ in the machine's settings only have one in common. */
const classOf = ({ kind }: TieKind) => kind.replace(/Forbidden$/, '');

/** A folder for fixtures, in which both sides of each meet; ends the sides outside with itself. */
export class Place implements AsyncDisposable {
  readonly folder: string;
  readonly #outside: ChildProcess[] = [];
  readonly #settings = new Map<string, string>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async make(kinds: readonly TieKind[]): Promise<Place> {
    const place = new Place(await mkdtemp('/var/tmp/torpor-ties-'));
    await runCommand('cc', ['-o', join(place.folder, 'share'), sharer]);
    for (const { setting } of kinds) {
      if (setting === undefined || place.#settings.has(setting.file)) continue;
      place.#settings.set(setting.file, await readFile(setting.file, 'utf8'));
      await writeFile(setting.file, setting.value);
    }
    for (const kind of kinds) if (kind.outside) await place.#startOutside(classOf(kind));
    return place;
  }

  async #startOutside(name: string): Promise<void> {
    const [program = python, ...args] = [...keeperCommand(name, this.folder), 'outside'];
    this.#outside.push(spawn(program, args, { stdio: 'ignore', detached: true, cwd: '/' }));
    await sleep(50);
  }

  ready(kind: TieKind): Promise<{ pid?: number; impossible?: string } | undefined> {
    return until(() => readJson(join(this.folder, `${classOf(kind)}.ready`)), 60_000);
  }

  /** Lets the fixture use its tie. @returns undefined where it does not answer. */
  async check(kind: TieKind): Promise<{ works: boolean; how?: string } | undefined> {
    await writeFile(join(this.folder, `${classOf(kind)}.check`), '');
    return until(() => readJson(join(this.folder, `${classOf(kind)}.result`)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { pid = 0 } of this.#outside) endTree(pid);
    // What a fixture has mounted; of a file system whose program has ended nothing can be asked.
    const mounts = await readFile('/proc/self/mounts', 'utf8');
    for (const [, mounted] of mounts.matchAll(/^\S+ (\S+) /gm))
      if (mounted?.startsWith(`${this.folder}/`)) await runCommand('umount', ['--lazy', mounted]);
    for (const [file, value] of this.#settings) await writeFile(file, value);
    await until(() =>
      rm(this.folder, { recursive: true, force: true }).then(
        () => true,
        () => undefined,
      ),
    );
  }
}

function endTree(pid: number): void {
  for (const each of treeBelow(pid).reverse()) {
    try {
      process.kill(each, 'SIGKILL');
    } catch {
      // It has ended meanwhile.
    }
  }
}

function outcomeOf(
  kind: TieKind,
  findings: Finding[],
  answer: { works: boolean; how?: string } | undefined,
): Outcome {
  if (answer === undefined) return { kind, findings, result: 'differs', how: 'it does not answer' };
  if (answer.works) return { kind, findings, result: 'works' };
  return { kind, findings, result: 'differs', how: answer.how ?? '' };
}

/**
 * Tries kinds together in one capsule. Where that fails, halves of them are tried, so that what makes it fail is found.
 */
export async function tryInCapsule(engine: TestEngine, kinds: readonly TieKind[]): Promise<Outcome[]> {
  await using place = await Place.make(kinds);
  const script = kinds.map((kind) => `${keeperCommand(classOf(kind), place.folder).join(' ')} &`).join('\n');
  const workload = await engine.start(['/bin/sh', '-c', `${script}\nwait`]);
  const outcomes: Outcome[] = [];
  try {
    const held: TieKind[] = [];
    for (const kind of kinds) {
      const ready = await place.ready(kind);
      if (ready?.pid !== undefined) held.push(kind);
      else
        outcomes.push({
          kind,
          findings: [],
          result: 'impossible',
          why: ready?.impossible ?? 'it does not start',
        });
    }
    const inspected = await engine.run(['inspect', '--json', workload.id]);
    const inspection = JSON.parse(inspected.stdout) as Inspection;
    const findings = (kind: TieKind) => findingsOf(inspection, kind);
    const suspended = await engine.run(['suspend', '--json', workload.id]);
    if (suspended.code === blocked && held.length === 1) {
      const why = await dumpInSpite(engine, workload, place.folder);
      return [...outcomes, ...held.map((kind) => ({ kind, findings: findings(kind), ...why }))];
    }
    if (suspended.code !== 0) {
      await engine.json('end', workload.id);
      return [
        ...outcomes,
        ...(await asHalves(engine, held, findings, 'not-suspended', sentenceIn(suspended.stdout))),
      ];
    }
    const resumed = await engine.run(['resume', '--json', workload.id]);
    if (resumed.code !== 0)
      return [
        ...outcomes,
        ...(await asHalves(engine, held, findings, 'not-resumed', sentenceIn(resumed.stdout))),
      ];
    for (const kind of held) outcomes.push(outcomeOf(kind, findings(kind), await place.check(kind)));
    return outcomes;
  } finally {
    await engine.run(['end', workload.id]);
  }
}

/** Exit code of `torpor` for what a finding blocks. */
const blocked = 3;

/** Calls CRIU in spite of a finding, as the engine would have. */
async function dumpInSpite(
  engine: TestEngine,
  workload: Workload,
  folder: string,
): Promise<{ result: 'not-suspended'; why: string } | { result: 'works' }> {
  const images = join(folder, 'images');
  await mkdir(images, { recursive: true });
  const cgroups = await Cgroups.find(engine.paths.tag);
  const why = await inTime((signal) =>
    client().dump(
      {
        ...dumpOptions,
        pid: workload.pids[0] ?? 0,
        imagesDir: images,
        logFile: 'dump.log',
        leaveRunning: true,
        freezeCgroup: cgroups.pathOf(workload.id),
        external: ['mnt[/run/torpor]:torpor'],
      },
      { signal },
    ),
  );
  return why === undefined ? { result: 'works' } : { result: 'not-suspended', why };
}

async function asHalves(
  engine: TestEngine,
  kinds: readonly TieKind[],
  findings: (kind: TieKind) => Finding[],
  result: 'not-suspended' | 'not-resumed',
  why: string,
): Promise<Outcome[]> {
  const [first] = kinds;
  if (first === undefined) return [];
  if (kinds.length === 1) return [{ kind: first, findings: findings(first), result, why }];
  const middle = Math.ceil(kinds.length / 2);
  return [
    ...(await tryInCapsule(engine, kinds.slice(0, middle))),
    ...(await tryInCapsule(engine, kinds.slice(middle))),
  ];
}

const sentenceIn = (stdout: string) => (JSON.parse(stdout) as { error: { message: string } }).error.message;

/** Those of the fixture's processes, and those that name no process. */
function findingsOf({ processes, findings }: Inspection, kind: TieKind): Finding[] {
  const own = new Set(
    processes
      .filter(({ command }) => command.includes(keeper) && command.includes(classOf(kind)))
      .map(({ pid }) => pid),
  );
  for (let grown = true; grown; ) {
    grown = false;
    for (const { pid, ppid } of processes) {
      if (own.has(pid) || !own.has(ppid)) continue;
      own.add(pid);
      grown = true;
    }
  }
  return findings.filter(({ pid }) => pid === undefined || own.has(pid));
}

/** A test runner leaves descriptors of its own open on exec. */
const closeAll = 'use POSIX; POSIX::close($_) for 3..1023; setsid(); exec @ARGV';

const client = () =>
  new CriuClient({
    criuPath: installation.criu,
    rlimitPreload: installation.rlimitPreload,
    restorePreload: installation.restorePreload,
    tracer: installation.tracer,
    logger: pino({ level: 'silent' }),
  });

/** Longest that CRIU may take for a tree of one or two processes. */
const criuLimitMs = 10_000;

/** Tries one kind without a capsule: CRIU dumps and restores it, whatever the inspection says. */
export async function tryTree(kind: TieKind): Promise<Outcome> {
  await using place = await Place.make([kind]);
  const child = spawn('perl', ['-e', closeAll, ...keeperCommand(classOf(kind), place.folder)], {
    stdio: 'ignore',
    detached: true,
    cwd: '/',
  });
  let root = child.pid ?? 0;
  try {
    const ready = await place.ready(kind);
    if (ready?.pid === undefined)
      return { kind, findings: [], result: 'impossible', why: ready?.impossible ?? 'it does not start' };
    root = ready.pid;
    const findings = await inspect(place.folder, root);
    const images = join(place.folder, 'images');
    await mkdir(images);
    const common = { imagesDir: images, fileLocks: true, tcpClose: true };
    const dumped = await inTime((signal) =>
      client().dump({ ...dumpOptions, ...common, pid: root, logFile: 'dump.log' }, { signal }),
    );
    if (dumped !== undefined) return { kind, findings, result: 'not-suspended', why: dumped };
    await until(async () => ((await isGone(images)) ? true : undefined));
    const restored = await inTime((signal) =>
      client().restore({ ...common, logFile: 'restore.log' }, { signal }),
    );
    if (restored !== undefined) return { kind, findings, result: 'not-resumed', why: restored };
    return outcomeOf(kind, findings, await place.check(kind));
  } finally {
    endTree(root);
    endTree(child.pid ?? 0);
  }
}

async function inspect(stateDir: string, pid: number): Promise<Finding[]> {
  const paths = enginePaths(stateDir);
  const inspector = new Inspector(paths, installation, await Cgroups.find(paths.tag));
  return (await inspector.inspectPid(pid, { uid: 0 })).findings;
}

/** @returns what went wrong, in a user's words. */
async function inTime(act: (signal: AbortSignal) => Promise<unknown>): Promise<string | undefined> {
  const limit = AbortSignal.timeout(criuLimitMs);
  return act(limit).then(
    () => undefined,
    (error: unknown) => (limit.aborted ? 'CRIU waits for ever.' : sentenceOf(error)),
  );
}

/** Whether the pids of all processes of a dump are free again. */
async function isGone(images: string): Promise<boolean> {
  const pids = (await readdir(images)).map((name) => /^core-(\d+)\.img$/.exec(name)?.[1]);
  return !pids.some((pid) => pid !== undefined && readProcessLine(Number(pid)) !== undefined);
}

export const canTry =
  existsSync(installation.ties) && existsSync(installation.criu) && process.getuid?.() === 0;
