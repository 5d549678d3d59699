/**
 * Plugins that work while a workload runs, and not only for a suspend: they are started with the first of their user,
 * and again when they end, but not without end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sentenceOf } from '../../api/errors.ts';
import type { User } from '../capsule/users.ts';
import type { Logger } from '../log.ts';
import type { KnownPlugin, PluginPrograms } from './plugin-programs.ts';

/** Before each start after the first; one that ends more often in a row is left until the next workload starts. */
const pausesMs = [500, 1000, 2000, 5000, 15_000];
/** What has lasted that long has not failed to start. */
const lastedMs = 60_000;
const startLimitMs = 20_000;

export class Residents {
  readonly #programs: PluginPrograms;
  readonly #isNeeded: (uid: number) => boolean;
  readonly #log: Logger;
  readonly #kept = new Set<string>();
  #hasStopped = false;

  /** @param isNeeded whether a user has a workload that runs. */
  constructor(programs: PluginPrograms, isNeeded: (uid: number) => boolean, log: Logger) {
    this.#programs = programs;
    this.#isNeeded = isNeeded;
    this.#log = log;
  }

  /** A workload of this user runs. */
  async keep(user: User): Promise<void> {
    const { plugins } = await this.#programs.known(user);
    for (const plugin of plugins) {
      const key = `${user.uid} ${plugin.name}`;
      if (!plugin.entry?.isResident || this.#kept.has(key)) continue;
      this.#kept.add(key);
      void this.#keepOne(plugin, user).finally(() => this.#kept.delete(key));
    }
  }

  async #keepOne(plugin: KnownPlugin, user: User): Promise<void> {
    for (let failures = 0; this.#isNeeded(user.uid) && !this.#hasStopped; ) {
      const startedAt = Date.now();
      try {
        await this.#programs.reach(plugin, user, startLimitMs);
        await this.#programs.gone(plugin);
      } catch (error) {
        this.#log.warn(
          { plugin: plugin.name, uid: user.uid, why: sentenceOf(error) },
          'plugin does not start',
        );
      }
      failures = Date.now() - startedAt > lastedMs ? 1 : failures + 1;
      const pause = pausesMs[failures - 1];
      if (pause === undefined) {
        this.#log.error({ plugin: plugin.name, uid: user.uid }, 'plugin ends again and again, and is left');
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
