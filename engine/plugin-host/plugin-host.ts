/**
 * The plugin host: asks the plugins of a workload's user to detach it before a suspend and to establish it again after
 * a resume. A plugin is somebody else's program: each has a limit for all that it does in one operation, is asked once
 * more where it failed in other ways than by being late, and cannot keep the engine from putting an application back.
 */
import { sentenceOf } from '../../api/errors.ts';
import {
  type PluginDescription,
  type PluginPolicy,
  type PluginWorkload,
  pluginPolicies,
} from '../../api/plugin-types.ts';
import type { PluginMethods } from '../../api/plugin1.ts';
import type { PluginInfo, PluginReport } from '../../api/types.ts';
import { type Manifest, type PluginState, specOf } from '../../proto/manifest.ts';
import { unlessAborted } from '../abort.ts';
import type { User } from '../capsule/users.ts';
import type { Logger } from '../log.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import { type Budget, PluginTime } from './budget.ts';
import { type ConnectedPlugin, oneLine, PluginFailure } from './connected-plugin.ts';
import { type Order, orderOf } from './order.ts';
import type { KnownPlugin, PluginPrograms } from './plugin-programs.ts';
import { type HowResumed, ResumingPlugins } from './resuming-plugins.ts';
import { SuspendingPlugins } from './suspending-plugins.ts';
import type { PluginTrouble } from './trouble.ts';

/** A plugin that has said what it is. */
export interface DescribedPlugin {
  name: string;
  known: KnownPlugin;
  description: PluginDescription;
}

/** The plugins for a workload. */
export interface PluginsFor {
  /** In the order of a resume. */
  levels: DescribedPlugin[][];
  troubles: PluginTrouble[];
}

/** What bears on one call beside the workload itself. */
export type Circumstances = Partial<Pick<PluginWorkload, 'leaveRunning' | 'copy' | 'snapshot'>>;

/** What calls of a new engine are due for an operation that its predecessor did not end. */
export interface OwedCalls {
  method: 'postResume' | 'abort';
  record: WorkloadRecord;
  how: Circumstances;
  /** In the order in which they are to be called. */
  plugins: readonly PluginState[];
}

export interface PluginHostOptions {
  /** How long one plugin may keep one operation waiting, in milliseconds. */
  limitMs: number;
  /** Folder of the engine for a capsule, seen inside as /run/torpor. */
  runFolder: (id: string) => string;
  /** Its processes, as far as there are any. */
  pids: (record: WorkloadRecord) => Promise<number[]>;
  log: Logger;
}

export class PluginHost {
  readonly #programs: PluginPrograms;
  readonly #options: PluginHostOptions;
  readonly #owed = new Map<string, Promise<void>>();

  constructor(programs: PluginPrograms, options: PluginHostOptions) {
    this.#programs = programs;
    this.#options = options;
  }

  get log(): Logger {
    return this.#options.log;
  }

  /** For one operation, over all its tries. */
  time(): PluginTime {
    return new PluginTime(this.#options.limitMs);
  }

  /** The plugins for a suspend, or for an inspection alone. */
  forSuspend(record: WorkloadRecord, leaveRunning: boolean, time: PluginTime): SuspendingPlugins {
    return new SuspendingPlugins(this, record, leaveRunning, time);
  }

  /** Those that were called when a snapshot was taken, for its resume. */
  forResume(record: WorkloadRecord, manifest: Manifest, how: HowResumed): ResumingPlugins {
    return new ResumingPlugins(this, record, manifest, how);
  }

  /** Makes the calls that are due since before this engine; {@link settled} waits for them. */
  settle(owed: readonly OwedCalls[]): void {
    for (const each of owed) {
      const { id } = each.record;
      const settling = this.#settleOne(each)
        .catch((error: unknown) => this.log.error({ err: error, workload: id }, 'plugins were not told'))
        .finally(() => this.#owed.delete(id));
      this.#owed.set(id, settling);
    }
  }

  /** Resolves when nothing is due any more for this workload. */
  async settled(id: string): Promise<void> {
    await this.#owed.get(id);
  }

  async #settleOne({ method, record, how, plugins }: OwedCalls): Promise<void> {
    const { calls } = this.time();
    for (const { name, state } of plugins) {
      const workload = await this.workloadOf(record, how);
      await this.#callByName(record, name, calls, method, [workload, Buffer.from(state, 'base64')]).catch(
        (error: unknown) =>
          this.log.warn({ plugin: name, workload: record.id, why: sentenceOf(error) }, `${method} failed`),
      );
    }
  }

  /**
   * Asks a user's plugins what they are, and puts those for this kind of workload in order.
   * @param only names of those that are meant; all where it is not given.
   * @throws the signal's reason.
   */
  async pluginsFor(
    record: WorkloadRecord,
    budget: Budget,
    signal?: AbortSignal,
    only?: ReadonlySet<string>,
  ): Promise<PluginsFor> {
    const { user } = specOf(record);
    const { plugins, problems } = await unlessAborted(this.#programs.known(user), signal);
    const troubles: PluginTrouble[] = problems.map(({ sentence, required }) => ({
      name: required ?? '',
      title: '',
      required: required !== undefined,
      why: oneLine(sentence),
    }));
    const asked = plugins.filter(({ name }) => only === undefined || only.has(name));
    const described = (await this.#describeAll(asked, user, budget, troubles, signal)).filter(
      ({ description }) => description.kinds.includes(record.kind),
    );
    const order = orderOf(
      described,
      plugins.map(({ name }) => name),
    );
    troubles.push(...refusedOf(order));
    return { levels: order.levels, troubles };
  }

  async #describeAll(
    plugins: readonly KnownPlugin[],
    user: User,
    budget: Budget,
    troubles: PluginTrouble[],
    signal?: AbortSignal,
  ): Promise<DescribedPlugin[]> {
    const all = await Promise.all(
      plugins.map(async (known) => {
        try {
          const description = await this.describe(known, user, budget, signal);
          return [{ name: known.name, known, description }];
        } catch (error) {
          if (!(error instanceof PluginFailure)) throw error;
          const required = known.entry?.policy === 'required';
          troubles.push({ name: known.name, title: '', required, why: error.message });
          return [];
        }
      }),
    );
    return all.flat();
  }

  /** What a plugin says it is; the stricter policy of that and its file. @throws PluginFailure; the signal's reason. */
  async describe(
    known: KnownPlugin,
    user: User,
    budget: Budget,
    signal?: AbortSignal,
  ): Promise<PluginDescription> {
    const description = await this.#withRetry(known, user, budget, signal, (plugin, leftMs) =>
      plugin.describe(leftMs, signal),
    );
    return { ...description, policy: stricter(description.policy, known.entry?.policy) };
  }

  /** A call, and once more where it failed otherwise than by being late. @throws PluginFailure; the signal's reason. */
  call<M extends Exclude<keyof PluginMethods, 'describe'>>(
    known: KnownPlugin,
    user: User,
    budget: Budget,
    method: M,
    args: Parameters<PluginMethods[M]>,
    signal?: AbortSignal,
  ): Promise<Awaited<ReturnType<PluginMethods[M]>>> {
    return this.#withRetry(known, user, budget, signal, (plugin, leftMs) =>
      plugin.call(method, args, leftMs, signal),
    );
  }

  /** The same of a plugin that a snapshot or a record names. @throws PluginFailure also where it is not there. */
  async #callByName<M extends Exclude<keyof PluginMethods, 'describe'>>(
    record: WorkloadRecord,
    name: string,
    budget: Budget,
    method: M,
    args: Parameters<PluginMethods[M]>,
  ): Promise<Awaited<ReturnType<PluginMethods[M]>>> {
    const { user } = specOf(record);
    const known = (await this.#programs.known(user)).plugins.find((each) => each.name === name);
    if (known === undefined) throw new PluginFailure('it is not there any more', false);
    return this.call(known, user, budget, method, args);
  }

  async #withRetry<T>(
    known: KnownPlugin,
    user: User,
    budget: Budget,
    signal: AbortSignal | undefined,
    act: (plugin: ConnectedPlugin, leftMs: number) => Promise<T>,
  ): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await budget.spend(known.name, async () => {
          signal?.throwIfAborted();
          const left = budget.left(known.name);
          if (left === 0) throw new PluginFailure('its time for this was used up', false);
          const plugin = await this.#programs.reach(known, user, left, signal);
          signal?.throwIfAborted();
          try {
            return await act(plugin, Math.max(1, budget.left(known.name)));
          } finally {
            if (plugin.isHanging) this.#programs.endHanging(known);
          }
        });
      } catch (error) {
        const again = error instanceof PluginFailure && error.mayRetry && tries === 1;
        if (!again) throw error;
        this.log.info({ plugin: known.name, why: error.message }, 'plugin is asked once more');
      }
    }
  }

  /** A workload as plugins are told of it. */
  async workloadOf(record: WorkloadRecord, how: Circumstances): Promise<PluginWorkload> {
    const application = record.kind === 'capsule' ? record.capsule.application : undefined;
    return {
      id: record.id,
      name: record.name,
      kind: record.kind,
      command: specOf(record).command,
      ...(application === undefined ? {} : { application }),
      ...(record.kind === 'capsule' ? { runFolder: this.#options.runFolder(record.id) } : {}),
      pids: await this.#options.pids(record),
      leaveRunning: false,
      copy: false,
      ...how,
    };
  }

  /** For a user to see: all there are, asked now. */
  async report(user: User): Promise<PluginReport> {
    const { plugins, problems } = await this.#programs.known(user);
    const wasThere = new Set(
      plugins.filter((each) => this.#programs.connected(each) !== undefined).map(({ name }) => name),
    );
    const troubles: PluginTrouble[] = [];
    const described = await this.#describeAll(plugins, user, this.time().calls, troubles);
    const names = plugins.map(({ name }) => name);
    troubles.push(...refusedOf(orderOf(described, names)));
    const infos = plugins.map(({ name, entry }): PluginInfo => {
      const description = described.find((each) => each.name === name)?.description;
      const trouble = troubles.find((each) => each.name === name);
      return {
        name,
        title: description?.title ?? '',
        policy: description?.policy ?? entry?.policy ?? 'optional',
        running: wasThere.has(name),
        after: description?.after ?? [],
        ...(entry === undefined ? {} : { file: entry.file }),
        ...(trouble === undefined ? {} : { problem: trouble.why }),
      };
    });
    return {
      plugins: infos.sort((a, b) => a.name.localeCompare(b.name)),
      problems: problems.map(({ sentence }) => `${oneLine(sentence)}.`),
    };
  }
}

function refusedOf({ refused }: Order<DescribedPlugin>): PluginTrouble[] {
  return refused.map(({ plugin: { name, description }, why }) => ({
    name,
    title: description.title,
    required: description.policy === 'required',
    why,
  }));
}

function stricter(first: PluginPolicy, second: PluginPolicy | undefined): PluginPolicy {
  return (
    pluginPolicies[Math.max(pluginPolicies.indexOf(first), pluginPolicies.indexOf(second ?? first))] ?? first
  );
}
