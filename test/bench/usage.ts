/** What one side of a measurement uses: processor time of all its programs, memory of its helpers, memory it has freed. */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readMounts } from '../../engine/mounts.ts';
import { killIfThere } from '../support/engine.ts';

/** Programs whose own memory counts: it must not grow with the application's. */
const helperNames = ['torpor-pages', 'torpor-pager'] as const;
export type HelperName = (typeof helperNames)[number];

const sampleMs = 10;
const endRounds = 60;

/** In bytes; of all processes of a helper that run at the same time. */
export interface HelperMemory {
  /** The most it ever had, with pages of files and of what it shares (VmHWM). */
  peak: number;
  /** The most of its own that was seen (RssAnon). */
  anonymous: number;
}

export type HelpersMemory = Partial<Record<HelperName, HelperMemory>>;

/**
 * All programs of one side, found by a cgroup that the first of them is started in and the others inherit; workloads have
 * cgroups of their own. Disposing of it waits until all of them have ended.
 */
export class Usage implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** @throws Error where the machine has no cgroups of version 2. */
  static async create(name: string): Promise<Usage> {
    const mount = (await readMounts()).find(({ type }) => type === 'cgroup2')?.path;
    if (mount === undefined)
      throw new Error(
        'processor time is counted by cgroups of version 2: mount -t cgroup2 none /sys/fs/cgroup',
      );
    const folder = join(mount, `torpor-bench-${process.pid}-${name}`);
    await mkdir(folder);
    return new Usage(folder);
  }

  /** What a command begins with that is to be counted. */
  get prefix(): string[] {
    return ['sh', '-c', 'echo $$ >"$0" && exec "$@"', join(this.#folder, 'cgroup.procs')];
  }

  /**
   * Runs something.
   * @param workload a cgroup that counts, too: the CRIU that restores a workload does so in the workload's
   * @returns also the processor time that was used meanwhile, in seconds
   */
  async during<T>(run: () => Promise<T>, workload?: string): Promise<{ result: T; seconds: number }> {
    const folders = workload === undefined ? [this.#folder] : [this.#folder, workload];
    const used = () => folders.reduce((sum, folder) => sum + secondsIn(folder), 0);
    const before = used();
    const result = await run();
    return { result, seconds: used() - before };
  }

  /** Helpers that run now. */
  helpers(): { pid: number; name: HelperName }[] {
    return pidsIn(this.#folder).flatMap((pid) => {
      const comm = textOf(`/proc/${pid}/comm`).trim();
      // Its processes may have something after it that tells them apart.
      const name = helperNames.find((each) => comm.startsWith(each));
      return name === undefined ? [] : [{ pid, name }];
    });
  }

  /** Waits until no such helper runs. */
  async without(name: HelperName, limitMs: number): Promise<void> {
    for (const end = performance.now() + limitMs; performance.now() < end; await sleep(sampleMs))
      if (!this.helpers().some((each) => each.name === name)) return;
    throw new Error(`${name} still ran after ${limitMs / 1000} s`);
  }

  /** Runs something and sees how much memory helpers have meanwhile. */
  async watchHelpers<T>(run: () => Promise<T>): Promise<{ result: T; helpers: HelpersMemory }> {
    const helpers: HelpersMemory = {};
    const look = () => {
      const running = this.helpers();
      for (const name of helperNames) {
        const now = running.filter((each) => each.name === name).map(({ pid }) => memoryOf(pid));
        if (now.length === 0) continue;
        const before = helpers[name] ?? { peak: 0, anonymous: 0 };
        const sum = (field: keyof HelperMemory) => now.reduce((total, each) => total + each[field], 0);
        helpers[name] = {
          peak: Math.max(before.peak, sum('peak')),
          anonymous: Math.max(before.anonymous, sum('anonymous')),
        };
      }
    };
    const timer = setInterval(look, sampleMs);
    try {
      return { result: await run(), helpers };
    } finally {
      clearInterval(timer);
    }
  }

  /** What is still there a moment later, as after a failure, is ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (let round = 0; round < endRounds && pidsIn(this.#folder).length > 0; round++) {
      if (round >= endRounds / 2) for (const pid of pidsIn(this.#folder)) killIfThere(pid);
      await sleep(50);
    }
    await rmdir(this.#folder);
  }
}

function memoryOf(pid: number): HelperMemory {
  const status = textOf(`/proc/${pid}/status`);
  const bytes = (field: string) =>
    Number(new RegExp(`^${field}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) * 1024;
  return { peak: bytes('VmHWM'), anonymous: bytes('RssAnon') };
}

/** Processor time of a cgroup; 0 for one that is not there. */
export function secondsIn(cgroup: string): number {
  return Number(/^usage_usec (\d+)$/m.exec(textOf(join(cgroup, 'cpu.stat')))?.[1] ?? 0) / 1e6;
}

/** Resolves, with the time, when none of these processes has memory any more. */
export async function memoryFreed(pids: readonly number[], limitMs = 300_000): Promise<number> {
  const holds = (pid: number) => !/^(0 |$)/.test(textOf(`/proc/${pid}/statm`));
  for (const end = performance.now() + limitMs; performance.now() < end; await sleep(sampleMs / 2))
    if (!pids.some(holds)) return performance.now();
  throw new Error(`processes still had memory after ${limitMs / 1000} s`);
}

/** Empty where there is none: what it tells of has ended. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function pidsIn(cgroup: string): number[] {
  const inside = readdirSync(cgroup, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => pidsIn(join(cgroup, name)));
  return [...textOf(join(cgroup, 'cgroup.procs')).split('\n').filter(Boolean).map(Number), ...inside];
}
