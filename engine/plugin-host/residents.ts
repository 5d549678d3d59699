/**
 * Plugins that work while a workload runs, and not only for a suspend: they are started with the first of their user,
 * and again when they end, but not without end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sentenceOf } from '../../api/errors.ts';
import { specOf } from '../../proto/manifest.ts';
import type { User } from '../capsule/users.ts';
import type { Logger } from '../log.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { PluginPrograms } from './plugin-programs.ts';

/** Before each start after the first; one that ends more often in a row is left until the next workload starts. */
const pausesMs = [500, 1000, 2000, 5000, 15_000];
/** What has lasted that long has not failed to start. */
const lastedMs = 60_000;
const startLimitMs = 20_000;

/** What an application may look for as soon as it runs should be there by then. */
export const runsSoon = ({ status }: WorkloadRecord) =>
  status.kind === 'running' || status.kind === 'starting';

export class Residents {
  readonly #programs: PluginPrograms;
  readonly #isNeeded: (uid: number) => boolean;
  readonly #log: Logger;
  readonly #running = new Set<string>();
  readonly #kept = new Set<string>();
  #hasStopped = false;

  /** @param isNeeded whether a user has a workload that runs. */
  constructor(programs: PluginPrograms, isNeeded: (uid: number) => boolean, log: Logger) {
    this.#programs = programs;
    this.#isNeeded = isNeeded;
    this.#log = log;
  }

  /** Looks whether a workload has come to run. */
  follow(record: WorkloadRecord): void {
    if (!runsSoon(record)) this.#running.delete(record.id);
    else if (!this.#running.has(record.id)) {
      this.#running.add(record.id);
      this.#keep(specOf(record).user).catch((error: unknown) =>
        this.#log.error({ err: error }, 'plugins could not be started'),
      );
    }
  }

  forget(id: string): void {
    this.#running.delete(id);
  }

  async #keep(user: User): Promise<void> {
    const { plugins } = await this.#programs.known(user);
    for (const { name, entry } of plugins) {
      const key = `${user.uid} ${name}`;
      if (!entry?.isResident || this.#kept.has(key)) continue;
      this.#kept.add(key);
      void this.#keepOne(name, user).finally(() => this.#kept.delete(key));
    }
  }

  async #keepOne(name: string, user: User): Promise<void> {
    for (let failures = 0; this.#isNeeded(user.uid) && !this.#hasStopped; ) {
      const startedAt = Date.now();
      try {
        // What starts it may have been changed or taken away meanwhile.
        const { plugins } = await this.#programs.known(user);
        const plugin = plugins.find((each) => each.name === name && each.entry?.isResident);
        if (plugin === undefined) return;
        await this.#programs.reach(plugin, user, startLimitMs);
        await this.#programs.gone(plugin);
      } catch (error) {
        this.#log.warn({ plugin: name, uid: user.uid, why: sentenceOf(error) }, 'plugin does not start');
      }
      failures = Date.now() - startedAt > lastedMs ? 1 : failures + 1;
      const pause = pausesMs[failures - 1];
      if (pause === undefined) {
        this.#log.error({ plugin: name, uid: user.uid }, 'plugin ends again and again, and is left');
        return;
      }
      await sleep(pause, undefined, { ref: false });
    }
  }

  /** Nothing is started from now on. */
  stop(): void {
    this.#hasStopped = true;
  }
}
