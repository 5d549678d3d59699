/**
 * Warm starts: an application begins with a snapshot that was taken just after it was ready, of which each start is a second
 * instance. The snapshot is taken of one that is started for it alone, which nobody has seen or typed into, and is used only
 * as long as all that the application has read at its start is as it was then. Where one cannot be had, the start is cold,
 * and says why.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { RunSpec, Text, WarmStart, Workload } from '../../api/types.ts';
import { version } from '../../package.json';
import { specOf } from '../../proto/manifest.ts';
import type { Started } from '../capsule/capsules.ts';
import { compareFiles } from '../files/compare.ts';
import { runMount } from '../files/paths.ts';
import { fileRecordSchema } from '../files/record.ts';
import { isAlive } from '../process.ts';
import { changedInput, recordInputs } from '../warm/inputs.ts';
import { keyOf } from '../warm/key.ts';
import { type Mark, markOf, markText } from '../warm/mark.ts';
import { OpenedFiles } from '../warm/opened.ts';
import { runningTwice } from '../warm/programs.ts';
import { untilReady } from '../warm/ready.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { Caller } from '../workload/registry.ts';
import type { OperationParts } from './parts.ts';
import type { CompleteSnapshot } from './references.ts';
import type { Resumes } from './resumes.ts';
import type { Suspends } from './suspends.ts';

/** So many a user has; beyond that the one goes that was not used for the longest time. */
const mostOfUser = 8;
/** What an application that ends writes at its end is there by then. */
const afterEndMs = 1500;

interface Start {
  caller: Caller;
  spec: RunSpec;
  key: string;
  uid: number;
}

/** A snapshot to begin with. */
interface Ready {
  snapshot: string;
  /** For this start, and why. */
  made: boolean;
  why?: Text;
  /** How long it took to find out that it will do, in milliseconds. */
  lookedMs?: number;
}

interface Warm {
  snapshot: CompleteSnapshot;
  mark: Mark;
}

/** Why there is none to begin with, for people. */
class Unavailable extends Error {
  readonly why: Text;
  constructor(why: Text) {
    super(why.en);
    this.why = why;
  }
}

export class WarmStarts {
  readonly #parts: OperationParts;
  readonly #suspends: Suspends;
  readonly #resumes: Resumes;
  /** What runs and was asked to start warm. */
  readonly #started = new Map<string, Start>();

  constructor(parts: OperationParts, suspends: Suspends, resumes: Resumes) {
    this.#parts = parts;
    this.#suspends = suspends;
    this.#resumes = resumes;
    parts.registry.onChange((record) => this.#follow(record));
  }

  /** @throws TorporError as a cold start does. */
  async run(caller: Caller, spec: RunSpec, startCold: () => Promise<Workload>): Promise<Workload> {
    const { capsule } = await this.#parts.capsules.specify(spec, caller);
    if (spec.name !== undefined) this.#parts.capsules.checkName(spec.name, capsule.user.uid);
    const start: Start = { caller, spec, key: keyOf(capsule, version), uid: capsule.user.uid };
    const workload = await this.#begin(start).catch(async (error: unknown) => {
      const why = whyCold(error);
      this.#parts.log.info({ err: error, command: spec.command }, 'no warm start');
      return { ...(await startCold()), warm: { start: 'cold', prepared: false, why } satisfies WarmStart };
    });
    this.#started.set(workload.id, start);
    return workload;
  }

  async #begin(start: Start): Promise<Workload> {
    const ready = await this.#oneAtATime(start, () => this.#ensure(start));
    try {
      return await this.#resume(start, ready);
    } catch (error) {
      // One that was made just now is as good as another one would be, and what one holds that runs is taken.
      if (ready.made || this.#runs(start)) throw error;
      const again = await this.#oneAtATime(start, () => this.#make(start, cannotBeResumed(error)));
      return await this.#resume(start, again);
    }
  }

  #oneAtATime<T>({ key }: Start, work: () => Promise<T>): Promise<T> {
    return this.#parts.locks.holdNext(`warm ${key}`, 'A warm start', 'prepared', work);
  }

  async #resume({ caller, spec }: Start, { snapshot, made, why, lookedMs }: Ready): Promise<Workload> {
    const { workload, resumeMs, criuMs } = await this.#resumes.resume(
      caller,
      snapshot,
      { copy: true },
      { name: spec.name },
    );
    const { id } = workload;
    this.#parts.log.info({ workload: id, snapshot, checkMs: lookedMs, resumeMs, criuMs }, 'started warm');
    const warm: WarmStart = {
      start: 'warm',
      snapshot,
      prepared: made,
      ...(why === undefined ? {} : { why }),
    };
    return { ...workload, warm };
  }

  /** A snapshot to begin with, which is made where there is none that will do. To be called by one at a time. */
  async #ensure(start: Start): Promise<Ready> {
    const beganAt = performance.now();
    const known = await this.#find(start);
    const change = known && (await whatChanged(known));
    if (known !== undefined && change === undefined) {
      return { snapshot: known.snapshot.id, made: false, lookedMs: performance.now() - beganAt };
    }
    if (change !== undefined)
      this.#parts.log.info({ command: start.spec.command, change }, 'a warm start is stale');
    return this.#make(start, change === undefined ? firstTime : refreshed(change));
  }

  async #make(start: Start, why: Text): Promise<Ready> {
    // Of one that Torpor has not started this shows only once a second one has come up.
    if (this.#runs(start)) throw runsAlready(start.spec.command[0] ?? '');
    const snapshot = await this.#prepare(start);
    await this.#prune(start, snapshot);
    return { snapshot, made: true, why };
  }

  async #find({ key, uid }: Pick<Start, 'key' | 'uid'>): Promise<Warm | undefined> {
    return (await this.#warmOf(uid)).find(({ mark }) => mark.key === key);
  }

  /** Newest first. */
  async #warmOf(uid: number): Promise<Warm[]> {
    return (await this.#parts.store.list()).flatMap((item) => {
      const mark = item.kind === 'complete' ? markOf(item) : undefined;
      if (item.kind !== 'complete' || mark === undefined || specOf(item.manifest).user.uid !== uid) return [];
      return [{ snapshot: item, mark }];
    });
  }

  /** Starts one for a snapshot alone. @returns its id. @throws TorporError or Unavailable; nothing is left behind then. */
  async #prepare(start: Start): Promise<string> {
    const { caller, spec, key } = start;
    const { capsules, workloads, installation, registry, store, log } = this.#parts;
    const beganAt = performance.now();
    const id = workloads.newId();
    const { capsule } = await capsules.specify(spec, caller);
    let taken: string | undefined;
    try {
      await using opened = await OpenedFiles.start(installation.opened, id, [
        capsule.root,
        capsule.user.home,
      ]);
      const { name: _, ...unnamed } = spec;
      const { record } = await capsules.run(unnamed, caller, { id, preparing: true });
      await this.#untilReady(record);
      await this.#refuseSecond(record);
      const files = await opened.stop();
      const { snapshot } = await this.#suspends.suspend(caller, id, { leaveRunning: false });
      taken = snapshot.id;
      const inputs = await recordInputs(files);
      await store.setWarm(taken, markText(key, inputs));
      const tookMs = Math.round(performance.now() - beganAt);
      log.info(
        { snapshot: taken, command: spec.command, inputs: inputs.length, tookMs },
        'prepared a warm start',
      );
      return taken;
    } catch (error) {
      if (taken !== undefined) await this.#remove(taken);
      throw error;
    } finally {
      await this.#forget(id);
      await registry.remove(id);
    }
  }

  async #untilReady({ id, status }: Started['record']): Promise<void> {
    if (status.kind !== 'running') throw new TorporError('failed', 'It ended before it was ready.');
    const { cgroups, workloads, windows } = this.#parts;
    const { init } = status;
    await untilReady({
      windowFile: `${workloads.runFolder(id)}/window`,
      pids: () => cgroups.pids(id),
      isAlive: () => isAlive(init),
    });
    await windows.settled(id);
  }

  async #refuseSecond({ id, status, capsule }: Started['record']): Promise<void> {
    if (status.kind !== 'running') return;
    const twice = await runningTwice(status.init.pid, await this.#parts.cgroups.pids(id), capsule.user.uid);
    if (twice !== undefined) throw runsAlready(twice);
  }

  /** Ends what was started for a snapshot alone. */
  async #forget(id: string): Promise<void> {
    const status = this.#parts.registry.get(id)?.status;
    if (status?.kind === 'running') await this.#parts.workloads.end(id, status.init);
  }

  /** Of the same start there is one, of a user no more than a few. */
  async #prune({ key, uid }: Start, newest: string): Promise<void> {
    const lastUse = ({ snapshot: { usedAt, manifest } }: Warm) => usedAt ?? manifest.takenAt;
    const all = (await this.#warmOf(uid)).filter(({ snapshot }) => snapshot.id !== newest && !snapshot.kept);
    const others = all.filter(({ mark }) => mark.key !== key);
    const surplus = others.sort((a, b) => lastUse(b).localeCompare(lastUse(a))).slice(mostOfUser - 1);
    const same = all.filter(({ mark }) => mark.key === key);
    for (const { snapshot } of [...same, ...surplus]) await this.#remove(snapshot.id);
  }

  /** One that cannot be removed now, since memory is still read from it, goes when there is another. */
  async #remove(id: string): Promise<void> {
    const { removal, log } = this.#parts;
    await removal
      .remove(id, { reason: 'warm start' })
      .catch((error: unknown) => log.warn({ err: error, snapshot: id }, 'a warm start was not removed'));
  }

  /** With the end of the last one, its settings may be others: what the next start begins with is made anew. */
  #follow({ id, status }: WorkloadRecord): void {
    if (status.kind !== 'ended') return;
    const start = this.#started.get(id);
    if (start === undefined || !this.#started.delete(id)) return;
    this.#refresh(start).catch((error: unknown) =>
      this.#parts.log.info({ err: error, command: start.spec.command }, 'no warm start prepared'),
    );
  }

  async #refresh(start: Start): Promise<void> {
    await this.#oneAtATime(start, async () => {
      await sleep(afterEndMs);
      // What its user has removed is not wanted any more.
      if (this.#runs(start) || (await this.#find(start)) === undefined) return;
      await this.#ensure(start);
    });
  }

  #runs(start: Start): boolean {
    return [...this.#started].some(
      ([id, { key }]) => key === start.key && this.#parts.registry.get(id)?.status.kind === 'running',
    );
  }

  /** Ends what an engine before this one has started for a snapshot alone, and had no time to finish. */
  async tidy(): Promise<void> {
    const { registry, store, log } = this.#parts;
    for (const { id, preparing } of registry.all()) {
      if (!preparing) continue;
      await this.#forget(id);
      for (const item of await store.list())
        if (item.kind === 'complete' && item.manifest.workload === id && item.warm === undefined)
          await this.#remove(item.id);
      await registry.remove(id);
      log.info({ workload: id }, 'what was started for a warm start is forgotten');
    }
  }
}

/** What of all that it was made of is not as it was: a path; undefined where all is. */
async function whatChanged({ snapshot: { manifest }, mark }: Warm): Promise<string | undefined> {
  // The run folder is made anew for each one.
  const records = fileRecordSchema
    .array()
    .parse(manifest.surroundings)
    .filter(({ path }) => !path.startsWith(`${runMount}/`));
  const view = { root: manifest.kind === 'capsule' ? manifest.capsule.root : '/' };
  const [changes, input] = await Promise.all([compareFiles(records, view), changedInput(mark.inputs)]);
  return changes[0]?.path ?? input;
}

const runsAlready = (program: string) =>
  new Unavailable({
    en: `${program} runs already, and a snapshot to start with is made only while it does not.`,
    de: `${program} läuft schon; ein Speicherstand für den Start entsteht nur, während es nicht läuft.`,
  });

const firstTime: Text = {
  en: 'The first start takes longer: later ones begin with the snapshot that it has made.',
  de: 'Der erste Start dauert länger: Spätere beginnen mit dem Speicherstand, den er angelegt hat.',
};

const refreshed = (path: string): Text => ({
  en: `The snapshot was made anew, since ${path} has changed.`,
  de: `Der Speicherstand wurde neu angelegt, weil sich ${path} geändert hat.`,
});

const cannotBeResumed = (error: unknown): Text => ({
  en: `The snapshot was made anew: ${sentenceOf(error)}`,
  de: `Der Speicherstand wurde neu angelegt: ${sentenceOf(error)}`,
});

function whyCold(error: unknown): Text {
  if (error instanceof Unavailable) return error.why;
  const sentence = sentenceOf(error);
  return {
    en: `It was started cold: ${sentence}`,
    de: `Der Start war ein kalter: ${sentence}`,
  };
}
