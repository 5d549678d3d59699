/** The plugins of one workload through one try at a resume: those that were called when its snapshot was taken. */
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { PluginPolicy } from '../../api/plugin-types.ts';
import type { Finding } from '../../api/types.ts';
import { type Manifest, type PluginState, specOf } from '../../proto/manifest.ts';
import { unlessAborted } from '../abort.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { PluginTime } from './budget.ts';
import { PluginFailure } from './connected-plugin.ts';
import type { DescribedPlugin, PluginHost } from './plugin-host.ts';
import { called, findingOf } from './trouble.ts';

export interface HowResumed {
  copy: boolean;
  time: PluginTime;
  signal: AbortSignal;
  /** Writes down which have been called, should this engine end. */
  note: (names: string[]) => Promise<void>;
}

/** One that was called for the snapshot, and what it is now. */
type Resuming = { state: PluginState } & (
  | { kind: 'there'; plugin: DescribedPlugin }
  | { kind: 'missing'; why: string }
);

export class ResumingPlugins {
  readonly #host: PluginHost;
  readonly #record: WorkloadRecord;
  readonly #snapshot: string;
  readonly #how: HowResumed;
  readonly #states: readonly PluginState[];
  /** In the order of a resume. */
  readonly #levels: Promise<Resuming[][]>;
  readonly #called = new Set<string>();
  readonly #findings: Finding[] = [];

  constructor(host: PluginHost, record: WorkloadRecord, manifest: Manifest, how: HowResumed) {
    this.#host = host;
    this.#record = record;
    this.#snapshot = manifest.id;
    this.#how = how;
    this.#states = manifest.plugins ?? [];
    this.#levels = this.#states.length === 0 ? Promise.resolve([]) : this.#look();
    // It is waited for later, or not at all.
    this.#levels.catch(() => {});
  }

  async #look(): Promise<Resuming[][]> {
    const { time, signal } = this.#how;
    const only = new Set(this.#states.map(({ name }) => name));
    const { levels, troubles } = await this.#host.pluginsFor(this.#record, time.calls, signal, only);
    const stateOf = (name: string) => this.#states.find((each) => each.name === name);
    const there = levels.map((level) =>
      level.flatMap((plugin): Resuming[] => {
        const state = stateOf(plugin.name);
        return state === undefined ? [] : [{ kind: 'there', plugin, state }];
      }),
    );
    const names = new Set(levels.flat().map(({ name }) => name));
    const missing = this.#states.filter(({ name }) => !names.has(name));
    return [
      missing.map((state): Resuming => {
        const why = troubles.find(({ name }) => name === state.name)?.why ?? 'it is not there any more';
        return { kind: 'missing', why, state };
      }),
      ...there,
    ];
  }

  /**
   * Calls those that are to be done before anything of it runs.
   * @throws TorporError `failed` where a required one fails; the signal's reason.
   */
  async beforeItRuns(): Promise<void> {
    const { signal } = this.#how;
    for (const level of await unlessAborted(this.#levels, signal)) {
      await Promise.all(
        level.filter(isBeforeItRuns).map(async (each) => {
          const failure = await this.#postResume(each, signal);
          if (failure === undefined || policyOf(each) !== 'required') return;
          throw new TorporError('failed', failure.what.replace(/\.$/, ''), 'See `torpor plugins`.');
        }),
      );
    }
  }

  /** Calls all others, once it runs. Never throws. @returns what all of them have to say. */
  async afterItRuns(): Promise<Finding[]> {
    try {
      for (const level of await this.#levels)
        await Promise.all(
          level.filter(({ state }) => !this.#called.has(state.name)).map((each) => this.#postResume(each)),
        );
    } catch (error) {
      this.#host.log.error({ err: error, workload: this.#record.id }, 'plugins could not be called');
    }
    return this.#findings;
  }

  /** @returns what is to be said where it failed. */
  async #postResume(each: Resuming, signal?: AbortSignal): Promise<Finding | undefined> {
    const { name, title } = each.state;
    this.#called.add(name);
    const fail = (why: string) => {
      const finding = notDone({ name, title, why });
      this.#findings.push(finding);
      return finding;
    };
    if (each.kind === 'missing') return fail(each.why);
    try {
      await this.#how.note([...this.#called]);
      const { copy, time } = this.#how;
      const workload = await this.#host.workloadOf(this.#record, { copy, snapshot: this.#snapshot });
      const state = Buffer.from(each.state.state, 'base64');
      const { user } = specOf(this.#record);
      const args = [workload, state] as const;
      const found = await this.#host.call(
        each.plugin.known,
        user,
        time.calls,
        'postResume',
        [...args],
        signal,
      );
      this.#findings.push(...found.map((finding) => findingOf(name, finding)));
      return undefined;
    } catch (error) {
      if (!(error instanceof PluginFailure)) throw error;
      return fail(error.message);
    }
  }

  /** The resume has failed: each that was called undoes what it did. Never throws. */
  async abort(): Promise<void> {
    const levels = await this.#levels.catch(() => []);
    await Promise.all(
      levels.flat().map(async (each) => {
        if (each.kind === 'missing' || !this.#called.has(each.state.name)) return;
        const { copy, time } = this.#how;
        const { user } = specOf(this.#record);
        try {
          const workload = await this.#host.workloadOf(this.#record, { copy, snapshot: this.#snapshot });
          const state = Buffer.from(each.state.state, 'base64');
          await this.#host.call(each.plugin.known, user, time.aborts, 'abort', [workload, state]);
        } catch (error) {
          const said = { plugin: each.state.name, workload: this.#record.id, why: sentenceOf(error) };
          this.#host.log.warn(said, 'Abort failed');
        }
      }),
    );
  }
}

/** What it says now counts, and where it says nothing, what it said then. */
function isBeforeItRuns(each: Resuming): boolean {
  return each.kind === 'there' ? each.plugin.description.beforeItRuns : each.state.beforeItRuns;
}

function policyOf(each: Resuming): PluginPolicy {
  return each.kind === 'there' ? each.plugin.description.policy : each.state.policy;
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
