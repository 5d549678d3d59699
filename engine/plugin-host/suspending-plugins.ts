/** The plugins of one workload through one try at a suspend. */
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { PluginFinding } from '../../api/plugin-types.ts';
import type { Finding } from '../../api/types.ts';
import { type PluginState, specOf } from '../../proto/manifest.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { PluginTime } from './budget.ts';
import { PluginFailure } from './connected-plugin.ts';
import type { DescribedPlugin, PluginHost, PluginsFor } from './plugin-host.ts';
import { called, findingOf, type PluginTrouble } from './trouble.ts';

export class SuspendingPlugins {
  readonly #host: PluginHost;
  readonly #record: WorkloadRecord;
  readonly #leaveRunning: boolean;
  readonly #time: PluginTime;
  #plugins: PluginsFor | undefined;
  /** Those whose PreSuspend was called, the first one first; what failed has an empty state. */
  readonly #states: PluginState[] = [];
  readonly #failed: Finding[] = [];

  constructor(host: PluginHost, record: WorkloadRecord, leaveRunning: boolean, time: PluginTime) {
    this.#host = host;
    this.#record = record;
    this.#leaveRunning = leaveRunning;
    this.#time = time;
  }

  /** What they find, and which of them fail. @throws the signal's reason. */
  async inspect(signal?: AbortSignal): Promise<Finding[]> {
    const plugins = await this.#host.pluginsFor(this.#record, this.#time.calls, signal);
    const workload = await this.#workload();
    const findings = await Promise.all(
      plugins.levels.flat().map((plugin) =>
        this.#ask(plugin, plugins.troubles, async () => {
          const { user } = specOf(this.#record);
          const found = await this.#host.call(
            plugin.known,
            user,
            this.#time.calls,
            'inspect',
            [workload],
            signal,
          );
          return found.map((each: PluginFinding) => findingOf(plugin.name, each));
        }),
      ),
    );
    const broken = new Set(plugins.troubles.map(({ name }) => name));
    this.#plugins = {
      ...plugins,
      levels: plugins.levels.map((level) => level.filter(({ name }) => !broken.has(name))),
    };
    return [...findings.flatMap((each) => each ?? []), ...plugins.troubles.map(troubleFound)];
  }

  async #ask<T>(
    { name, description }: DescribedPlugin,
    troubles: PluginTrouble[],
    ask: () => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof PluginFailure)) throw error;
      const { title, policy } = description;
      troubles.push({ name, title, required: policy === 'required', why: error.message });
      return undefined;
    }
  }

  #workload() {
    return this.#host.workloadOf(this.#record, { leaveRunning: this.#leaveRunning });
  }

  /**
   * Has all of them detach it, those first that come after others. To be called after {@link inspect}.
   * @param note writes down which of them are to hear of it should this engine end; called before and after each level.
   * @throws TorporError `failed` where a required one fails; the signal's reason. {@link abort} undoes it.
   */
  async preSuspend(
    signal: AbortSignal,
    note: (states: readonly PluginState[]) => Promise<void>,
  ): Promise<void> {
    for (const level of [...(this.#plugins?.levels ?? [])].reverse()) {
      if (level.length === 0) continue;
      const workload = await this.#workload();
      const states = level.map(({ name, description: { title, policy, beforeItRuns } }) => ({
        name,
        title,
        policy,
        beforeItRuns,
        state: '',
      }));
      this.#states.push(...states);
      await note(this.#states);
      const troubles: PluginTrouble[] = [];
      const { user } = specOf(this.#record);
      await Promise.all(
        level.map((plugin, index) =>
          this.#ask(plugin, troubles, async () => {
            const state = await this.#host.call(
              plugin.known,
              user,
              this.#time.calls,
              'preSuspend',
              [workload],
              signal,
            );
            const entry = states[index];
            if (entry !== undefined) entry.state = Buffer.from(state).toString('base64');
          }),
        ),
      );
      await note(this.#states);
      refuse(troubles);
      this.#failed.push(...troubles.map(troubleFound));
    }
  }

  /** What goes into the snapshot, in the order in which they were called. */
  get states(): readonly PluginState[] {
    return this.#states;
  }

  /** What is to be said of those that failed to detach it, beside what {@link inspect} has found. */
  get findings(): readonly Finding[] {
    return this.#failed;
  }

  /** The workload runs on: each that was called undoes what it did. Never throws. @returns what to say of those that fail. */
  async abort(): Promise<Finding[]> {
    const { user } = specOf(this.#record);
    const findings: Finding[] = [];
    for (const level of this.#states.length === 0 ? [] : (this.#plugins?.levels ?? [])) {
      await Promise.all(
        level.map(async ({ name, known, description: { title } }) => {
          const state = this.#states.find((each) => each.name === name);
          if (state === undefined) return;
          try {
            const workload = await this.#workload();
            const bytes = Buffer.from(state.state, 'base64');
            await this.#host.call(known, user, this.#time.aborts, 'abort', [workload, bytes]);
          } catch (error) {
            const why = sentenceOf(error);
            this.#host.log.warn({ plugin: name, workload: this.#record.id, why }, 'Abort failed');
            findings.push(troubleFound({ name, title, required: false, why }));
          }
        }),
      );
    }
    this.#states.length = 0;
    return findings;
  }
}

function troubleFound(trouble: PluginTrouble): Finding {
  const what = `${called(trouble)} ${trouble.name === '' ? 'is left out' : 'failed'}: ${trouble.why}.`;
  if (trouble.required) {
    return {
      tie: 'plugin',
      verdict: 'blocking',
      by: trouble.name,
      what,
      hint: 'It is required for a suspend. See `torpor plugins`; mend it, or take its file away.',
    };
  }
  const hint = 'What it takes care of may have to be set right by hand after a resume. See `torpor plugins`.';
  return { tie: 'plugin', verdict: 'degraded', by: trouble.name, what, hint };
}

/** @throws TorporError `failed` by the first that is required. */
function refuse(troubles: readonly PluginTrouble[]): void {
  const first = troubles.find(({ required }) => required);
  if (first === undefined) return;
  throw new TorporError(
    'failed',
    `${called(first)}, which is required, failed: ${first.why}.`,
    'See `torpor plugins`; mend it, or take its file away.',
  );
}
