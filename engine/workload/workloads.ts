/**
 * What all workloads have in common while they run: a folder for what belongs to the running processes, a cgroup, and
 * an end that is waited for and recorded. What a capsule or a job is made of is known to `capsule/` and `job/`.
 */
import { randomBytes } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EnginePaths } from '../../api/paths.ts';
import { exitSchema } from '../../api/types.ts';
import type { Logger } from '../log.ts';
import { unmountBelow } from '../mounts.ts';
import { identify, isAlive, type ProcessIdentity, signalProcess, waitGone } from '../process.ts';
import { removeFolder } from '../remove-folder.ts';
import type { Cgroups } from './cgroup.ts';
import type { Registry } from './registry.ts';
import { endRoom, lifeOf } from './rooms.ts';

const watchIntervalMs = 250;
const endLimitMs = 8000;
const letters = 'abcdef';

export class Workloads {
  readonly #paths: EnginePaths;
  readonly #registry: Registry;
  readonly #cgroups: Cgroups;
  readonly #log: Logger;
  readonly #watched = new Set<string>();
  #stopped = false;

  constructor(paths: EnginePaths, registry: Registry, cgroups: Cgroups, log: Logger) {
    this.#paths = paths;
    this.#registry = registry;
    this.#cgroups = cgroups;
    this.#log = log;
  }

  /** What belongs to its processes while they run; a capsule sees it at /run/torpor. */
  runFolder(id: string): string {
    return join(this.#paths.runDir, 'capsules', id);
  }

  /** Where a resume keeps what it needs while it lasts: mount point, rewritten images, CRIU's log. */
  scratchFolder(id: string): string {
    return join(this.#paths.runDir, 'resume', id);
  }

  /** Begins with a letter, so that no beginning of it looks like a pid. */
  newId(): string {
    const [first = 0] = randomBytes(1);
    return `${letters[first % letters.length]}${randomBytes(4).toString('hex').slice(1)}`;
  }

  /** The name itself, or with the first number that makes it free. */
  freeName(wanted: string, uid: number): string {
    for (let number = 1; ; number++) {
      const name = number === 1 ? wanted : `${wanted}-${number}`;
      if (this.#registry.isNameFree(name, uid)) return name;
    }
  }

  /** Ends and removes what it leaves outside: room, cgroup and run folder, and what a resume of it may have left. */
  async cleanUp(id: string): Promise<void> {
    await endRoom(this.#cgroups, id, this.runFolder(id));
    await this.#cgroups.remove(id);
    await removeFolder(this.runFolder(id));
    await this.removeScratch(id);
  }

  /** Removes what a resume keeps while it lasts. */
  async removeScratch(id: string): Promise<void> {
    const folder = this.scratchFolder(id);
    await unmountBelow(folder);
    await rm(folder, { recursive: true, force: true });
  }

  /** Follows a running workload until it ends, and records how. */
  watch(id: string): void {
    if (this.#watched.has(id)) return;
    this.#watched.add(id);
    void this.#watchUntilEnd(id)
      .catch((error: unknown) => this.#log.error({ err: error, workload: id }, 'watching a workload failed'))
      .finally(() => this.#watched.delete(id));
  }

  async #watchUntilEnd(id: string): Promise<void> {
    while (!this.#stopped) {
      const record = this.#registry.get(id);
      if (record === undefined) return;
      if (record.status.kind === 'suspended' || record.status.kind === 'ended') return;
      if (record.status.kind === 'running' && !(await isAlive(record.status.init))) {
        // A suspend may have ended it between the two looks.
        const now = this.#registry.get(id)?.status;
        if (now?.kind !== 'running' || now.init.pid !== record.status.init.pid) continue;
        const init = await lifeOf(this.#cgroups, record, now);
        if (init !== undefined) {
          await this.#registry.setPassingStatus(id, { ...now, init });
          continue;
        }
        await waitGone(now.init, endLimitMs);
        await this.recordEnd(id);
        continue;
      }
      await sleep(watchIntervalMs, undefined, { ref: false });
    }
  }

  /** Records the end of a workload whose processes have gone, and cleans up after it. */
  async recordEnd(id: string, note?: string): Promise<void> {
    const folder = this.runFolder(id);
    const exit = exitSchema.safeParse(await readJson(join(folder, 'exit')));
    const failed = await readJson(join(folder, 'failed'));
    const reason = note ?? (failed === undefined ? undefined : `${failed.step}: ${failed.message}`);
    await this.#cgroups.kill(id);
    await this.cleanUp(id);
    await this.#registry.setStatus(id, {
      kind: 'ended',
      at: new Date().toISOString(),
      ...(exit.success ? { exit: exit.data } : {}),
      ...(reason === undefined ? {} : { note: reason }),
    });
    this.#log.info({ workload: id, exit: exit.data, note: reason }, 'workload ended');
  }

  /**
   * Ends a running workload in order; what does not end is killed.
   * @param pids of a job that is where it was started: all of it, which no cgroup holds together and no room ends.
   */
  async end(id: string, init: ProcessIdentity, pids: readonly number[] = []): Promise<void> {
    const all = (await Promise.all(pids.map(identify))).filter((each) => each !== undefined);
    // As the end of a login session does, and then as a user would: shells heed the first only.
    for (const signal of ['SIGHUP', 'SIGTERM', 'SIGCONT'] as const)
      for (const each of all) await signalProcess(each, signal);
    await signalProcess(init, 'SIGTERM');
    const limit = Date.now() + endLimitMs;
    const gone = await waitGone(init, endLimitMs);
    for (const each of all) {
      if (!(await waitGone(each, Math.max(0, limit - Date.now())))) await signalProcess(each, 'SIGKILL');
    }
    if (!gone) await this.#cgroups.kill(id);
    await waitGone(init, endLimitMs);
    await this.recordEnd(id);
  }

  /** Stops watching; the workloads run on. */
  stop(): void {
    this.#stopped = true;
  }
}

/** A file of JSON in a run folder. */
export async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  } catch {
    // Not there, or not yet written to its end.
    return undefined;
  }
}
