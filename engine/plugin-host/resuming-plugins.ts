/** The plugins of one workload through one try at a resume: those that were called when its snapshot was taken. */
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { PluginWorkload } from '../../api/plugin-types.ts';
import type { Finding } from '../../api/types.ts';
import { type Manifest, type PluginState, specOf } from '../../proto/manifest.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { Budget } from './budget.ts';
import { PluginFailure } from './connected-plugin.ts';
import type { DescribedPlugin, PluginHost } from './plugin-host.ts';
import { called, findingOf } from './trouble.ts';

export class ResumingPlugins {
  readonly #host: PluginHost;
  readonly #record: WorkloadRecord;
  readonly #workload: Promise<PluginWorkload>;
  readonly #budget: Budget;
  readonly #states: readonly PluginState[];
  /** In the order of a resume; those that are not there any more come to be told of. */
  readonly #levels: Promise<DescribedPlugin[][]>;
  readonly #missing: Finding[] = [];
  readonly #called = new Set<string>();
  readonly #findings: Finding[] = [];

  constructor(host: PluginHost, record: WorkloadRecord, manifest: Manifest, copy: boolean) {
    this.#host = host;
    this.#record = record;
    this.#budget = host.budget();
    this.#states = manifest.plugins ?? [];
    this.#workload = host.workloadOf(record, { copy, snapshot: manifest.id });
    this.#levels = this.#states.length === 0 ? Promise.resolve([]) : this.#look();
    // Both are waited for later, or not at all.
    this.#workload.catch(() => {});
    this.#levels.catch(() => {});
  }

  async #look(): Promise<DescribedPlugin[][]> {
    const { levels, troubles } = await this.#host.pluginsFor(this.#record, this.#budget);
    const there = new Set(levels.flat().map(({ name }) => name));
    for (const { name, title } of this.#states.filter((each) => !there.has(each.name))) {
      const why = troubles.find((each) => each.name === name)?.why ?? 'it is not there any more';
      this.#missing.push(notDone({ name, title, why }));
    }
    return levels.map((level) => level.filter(({ name }) => this.#states.some((each) => each.name === name)));
  }

  /**
   * Calls those that are to be done before anything of it runs.
   * @throws TorporError `failed` where a required one fails; the signal's reason.
   */
  async beforeItRuns(signal: AbortSignal): Promise<void> {
    if (this.#states.length === 0) return;
    const levels = await this.#levels.catch(() => []);
    for (const level of levels) {
      await Promise.all(
        level
          .filter(({ description }) => description.beforeItRuns)
          .map(async (plugin) => {
            const failure = await this.#postResume(plugin, signal);
            if (failure === undefined || plugin.description.policy !== 'required') return;
            throw new TorporError('failed', failure.what.replace(/\.$/, ''), 'See `torpor plugins`.');
          }),
      );
    }
  }

  /** Calls all others, once it runs. Never throws. @returns what all of them have to say. */
  async afterItRuns(): Promise<Finding[]> {
    try {
      for (const level of await this.#levels) {
        const left = level.filter(({ name }) => !this.#called.has(name));
        await Promise.all(left.map((plugin) => this.#postResume(plugin)));
      }
    } catch (error) {
      this.#host.log.error({ err: error, workload: this.#record.id }, 'plugins could not be called');
    }
    return [...this.#missing, ...this.#findings];
  }

  /** @returns what is to be said where it failed. */
  async #postResume({ name, known, description }: DescribedPlugin, signal?: AbortSignal) {
    this.#called.add(name);
    const { state = '' } = this.#states.find((each) => each.name === name) ?? {};
    const { user } = specOf(this.#record);
    try {
      const args: [PluginWorkload, Uint8Array] = [await this.#workload, Buffer.from(state, 'base64')];
      const found = await this.#host.call(known, user, this.#budget, 'postResume', args, signal);
      this.#findings.push(...found.map((each) => findingOf(name, each)));
      return undefined;
    } catch (error) {
      if (!(error instanceof PluginFailure)) throw error;
      const finding = notDone({ name, title: description.title, why: error.message });
      this.#findings.push(finding);
      return finding;
    }
  }

  /** The resume has failed: each that was called undoes what it did. Never throws. */
  async abort(): Promise<void> {
    const budget = this.#host.budget();
    const { user } = specOf(this.#record);
    const levels = await this.#levels.catch(() => []);
    const calledOnes = levels.flat().filter(({ name }) => this.#called.has(name));
    await Promise.all(
      calledOnes.map(async ({ name, known }) => {
        try {
          const { state = '' } = this.#states.find((each) => each.name === name) ?? {};
          const args: [PluginWorkload, Uint8Array] = [await this.#workload, Buffer.from(state, 'base64')];
          await this.#host.call(known, user, budget, 'abort', args);
        } catch (error) {
          this.#host.log.warn(
            { plugin: name, workload: this.#record.id, why: sentenceOf(error) },
            'Abort failed',
          );
        }
      }),
    );
  }
}

function notDone({ name, title, why }: { name: string; title: string; why: string }): Finding {
  return {
    tie: 'plugin',
    verdict: 'degraded',
    by: name,
    what: `${called({ name, title })} did not do its part: ${why}.`,
    hint: 'What it takes care of may have to be set right by hand. See `torpor plugins`.',
  };
}
