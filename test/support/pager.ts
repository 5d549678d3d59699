/**
 * A pager behind made-up processes (native/test/pages): a store with a snapshot of theirs, `torpor-pager` on it, and the
 * connection to it. Their memory is made from a seed, so that they can tell whether each page is right.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { isThere, killIfThere } from './engine.ts';

const execute = promisify(execFile);

export const nativeFolder = join(import.meta.dirname, '../../build/native');
export const canPage = process.getuid?.() === 0 && existsSync('/dev/fuse');

export interface Scene {
  seed: number;
  processes: number;
  mappings: number;
  pages: number;
  codec: 'raw' | 'lz4' | 'zstd';
}

export interface PagerStatus {
  state: 'waiting' | 'loading' | 'held' | 'complete' | 'failed';
  loadedBytes: number;
  totalBytes: number;
  pid: number;
}

/** The programs of the tests, and the pager itself with the given sanitizers. */
export function buildPrograms(sanitizers?: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'torpor-pager-programs-'));
  execFileSync('bash', [
    join(import.meta.dirname, '../../native/test/pages/build.sh'),
    folder,
    ...(sanitizers === undefined ? [] : [sanitizers]),
  ]);
  return folder;
}

/** A store in this folder, with a snapshot of the scene. */
export function makeStore(programs: string, scene: Scene, folder: string): void {
  const { seed, processes, mappings, pages, codec } = scene;
  const words = [seed, processes, mappings, pages, codec].map(String);
  execFileSync(join(programs, 'make-store'), [join(folder, 'state'), join(folder, 'snapshot'), ...words]);
}

export class PagerScene implements AsyncDisposable {
  readonly folder = mkdtempSync('/var/tmp/torpor-pager-');
  readonly events: Record<string, unknown>[] = [];
  readonly #programs: string;
  readonly #scene: Scene;
  readonly #store: string;
  #places: { state: string; snapshot: string; mount: string } | undefined;
  #pager: ChildProcess | undefined;
  #stderr = '';
  readonly #applications: number[] = [];

  /** @param store a folder that {@link makeStore} made for the same scene; one of its own if not given. */
  constructor(programs: string, scene: Scene, store?: string) {
    this.#programs = programs;
    this.#scene = scene;
    this.#store = store ?? this.folder;
    mkdirSync(this.mount);
    if (store === undefined) makeStore(programs, scene, this.folder);
  }

  /** Behind a snapshot that is not made up. */
  static behind(programs: string, places: { state: string; snapshot: string; mount: string }): PagerScene {
    const scene = new PagerScene(
      programs,
      { seed: 0, processes: 0, mappings: 0, pages: 0, codec: 'raw' },
      '/',
    );
    scene.#places = places;
    mkdirSync(places.mount);
    return scene;
  }

  get state(): string {
    return this.#places?.state ?? join(this.#store, 'state');
  }

  get snapshot(): string {
    return this.#places?.snapshot ?? join(this.#store, 'snapshot');
  }

  get mount(): string {
    return this.#places?.mount ?? join(this.folder, 'mount');
  }

  get packs(): string[] {
    return readdirSync(join(this.state, 'packs'))
      .filter((name) => name.endsWith('.pack'))
      .map((name) => join(this.state, 'packs', name));
  }

  get pid(): number {
    return this.#pager?.pid ?? -1;
  }

  /** What it wrote of what went wrong: a sanitizer's report. */
  get stderr(): string {
    return this.#stderr;
  }

  async start(more: string[] = [], lazy = join(this.folder, 'lazy')): Promise<void> {
    const built = join(this.#programs, 'torpor-pager');
    const pager = spawn(
      existsSync(built) ? built : join(nativeFolder, 'torpor-pager'),
      [
        ...['--store', this.state, '--snapshot', this.snapshot, '--mount', this.mount],
        ...['--lazy', lazy, '--control', join(this.folder, 'control'), ...more],
      ],
      // What nonsense makes it write is removed with the folder.
      { stdio: ['ignore', 'pipe', 'pipe'], cwd: this.folder },
    );
    this.#pager = pager;
    pager.stderr.on('data', (text: Buffer) => {
      this.#stderr += text.toString();
    });
    createInterface({ input: pager.stdout }).on('line', (line) =>
      this.events.push(JSON.parse(line) as Record<string, unknown>),
    );
    await this.until(() => this.events.some(({ event }) => event === 'ready' || event === 'failed'));
  }

  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    for (let round = 0; round < 3000; round++) {
      if (await condition()) return;
      await sleep(10);
    }
    throw new Error(`waited in vain; events: ${JSON.stringify(this.events.slice(-5))} ${this.#stderr}`);
  }

  /** Sends a line, gives the answer. */
  ask(line: string): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      const socket = connect(join(this.folder, 'control'), () => socket.write(`${line}\n`));
      let answer = '';
      socket.on('data', (text: Buffer) => {
        answer += text.toString();
        if (!answer.endsWith('\n')) return;
        socket.destroy();
        resolve(JSON.parse(answer) as Record<string, unknown>);
      });
      socket.on('error', reject);
      socket.on('close', () => reject(new Error(`no answer to ${line}`)));
    });
  }

  async status(): Promise<PagerStatus> {
    return (await this.ask('status')) as unknown as PagerStatus;
  }

  hasEvent(name: string): boolean {
    return this.events.some(({ event }) => event === name);
  }

  /** As an engine that has died. */
  stopListening(): void {
    this.#pager?.stdout?.destroy();
  }

  /** Starts the processes; gives the host's pid of their init where they have a namespace of their own (`slow`). */
  async run(mode: 'verify' | 'change' | 'race' | 'slow', threads = 2): Promise<number> {
    const { seed, processes, mappings, pages } = this.#scene;
    const application = spawn(
      join(this.#programs, 'lazy'),
      [
        ...[mode, join(this.folder, 'lazy'), this.outPath],
        ...[seed, processes, mappings, pages, threads].map(String),
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    this.#applications.push(application.pid ?? -1);
    if (mode !== 'slow') return application.pid ?? -1;
    return await new Promise((resolve) => {
      application.stdout.once('data', (text: Buffer) => {
        this.#applications.push(Number(text.toString()));
        resolve(Number(text.toString()));
      });
    });
  }

  get outPath(): string {
    return join(this.folder, 'out');
  }

  /** What the processes said. */
  get out(): string {
    return existsSync(this.outPath) ? readFileSync(this.outPath, 'utf8') : '';
  }

  /** Until all processes have ended. */
  async ended(): Promise<void> {
    await this.until(() => this.out.includes('end\n'));
  }

  /** The processes beside the supervisor. */
  helpers(name: 'w' | 'k' | 't'): number[] {
    return childrenOf(this.pid).filter((pid) => commOf(pid) === `torpor-pager-${name}`);
  }

  hasEnded(): boolean {
    return this.#pager?.exitCode !== null || this.#pager.signalCode !== null;
  }

  get exitCode(): number | null | undefined {
    return this.#pager?.exitCode;
  }

  /** `torpor-pages COMMAND` on the store: its exit status and last line. */
  async pages(command: string, ...words: string[]): Promise<Record<string, unknown>> {
    const all = [command, '--store', this.state, ...words];
    const ran = await execute(join(nativeFolder, 'torpor-pages'), all).catch(
      (error: { stdout: string }) => error,
    );
    return JSON.parse(ran.stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const helpers = [...this.helpers('w'), ...this.helpers('k'), ...this.helpers('t')];
    for (const pid of this.#applications) killIfThere(pid);
    if (!this.hasEnded()) await this.ask('end').catch(() => undefined);
    for (let round = 0; round < 200 && !this.hasEnded(); round++) await sleep(10);
    for (const pid of [this.pid, ...helpers]) if (isThere(pid)) killIfThere(pid);
    try {
      execFileSync('umount', ['-l', this.mount], { stdio: 'ignore' });
    } catch {
      // It is gone already, as it should be.
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean)
      .map(Number);
  } catch {
    return [];
  }
}

function commOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}
