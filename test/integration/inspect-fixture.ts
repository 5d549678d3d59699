/** Real processes that hold one tie each (`test/fixtures/ties/hold.py`), and their inspection. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { enginePaths } from '../../api/paths.ts';
import type { Finding } from '../../api/types.ts';
import { Inspector } from '../../engine/inspect/inspector.ts';
import { treeBelow } from '../../engine/inspect/proc.ts';
import { findInstallation } from '../../engine/installation.ts';
import { Cgroups } from '../../engine/workload/cgroup.ts';
import { killIfThere } from '../support/engine.ts';

const program = new URL('../fixtures/ties/hold.py', import.meta.url).pathname;
const installation = findInstallation();

/** A process may be looked into by root alone. */
export const canInspect = existsSync(installation.sockdiag) && process.getuid?.() === 0;

export const root = { uid: 0 };

/** The inspector of an engine with this state folder. */
export async function makeInspector(stateDir: string): Promise<Inspector> {
  const paths = enginePaths(stateDir);
  return new Inspector(paths, installation, await Cgroups.find(paths.tag));
}

export async function until<T>(ask: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (let round = 0; round < 500; round++) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await sleep(10);
  }
  throw new Error('what the test waits for did not come');
}

export class Tie implements AsyncDisposable {
  readonly folder: string;
  readonly insider: number;
  readonly outsider: number;
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(
    folder: string,
    child: ChildProcess,
    ready: { insider: number; outsider: number; port?: number },
  ) {
    this.folder = folder;
    this.#child = child;
    this.insider = ready.insider;
    this.outsider = ready.outsider;
    this.port = ready.port ?? 0;
  }

  /** Starts the two processes that hold a tie of this kind, a class of hold.py. */
  static async hold(kind: string): Promise<Tie> {
    const folder = await mkdtemp(join(tmpdir(), 'torpor-tie-'));
    const child = spawn('/usr/bin/python3', [program, kind, folder], { stdio: 'ignore', detached: true });
    try {
      const text = await until(async () => {
        if (child.exitCode !== null) throw new Error(`${kind} is not possible here`);
        return await readFile(join(folder, 'ready'), 'utf8').catch(() => undefined);
      });
      return new Tie(folder, child, JSON.parse(text));
    } catch (error) {
      child.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** What the inspection finds, apart from what it says of every process. */
  async findings(): Promise<Finding[]> {
    const inspector = await makeInspector(this.folder);
    const { findings } = await inspector.inspectPid(this.insider, root);
    return findings.filter(({ tie }) => !['disk', 'memory', 'pid'].includes(tie));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'exit');
    // The tracer last: what it traces ends when it is let go.
    for (const pid of treeBelow(this.outsider).reverse()) killIfThere(pid);
    await ended;
    await rm(this.folder, { recursive: true, force: true });
  }
}
