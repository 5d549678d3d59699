/** Resuming: which snapshot is meant, and as which workload it comes back. The work itself is `transaction/`. */
import { TorporError } from '../../api/errors.ts';
import type { Finding, ResumeChoices, ResumeOptions, ResumeResult } from '../../api/types.ts';
import { kindOf, type Manifest, specOf } from '../../proto/manifest.ts';
import { capsuleToResume } from '../capsule/place.ts';
import { pipesBroken } from '../sockets/pipes.ts';
import type { ResumePlace } from '../transaction/place.ts';
import { resume } from '../transaction/resume.ts';
import { resumeSet } from '../transaction/resume-set.ts';
import type { Status, WorkloadRecord } from '../workload/record.ts';
import type { Caller } from '../workload/registry.ts';
import { type OperationParts, reporterFor } from './parts.ts';
import type { CompleteSnapshot } from './references.ts';

export class Resumes {
  readonly #parts: OperationParts;

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  /**
   * @param inSession others of its session are resumed beside it, so that nothing is to be said of them.
   * @param name of a second one, where that is free; otherwise one like it.
   */
  async resume(
    caller: Caller,
    target: string,
    options: ResumeOptions,
    { inSession = false, name }: { inSession?: boolean; name?: string | undefined } = {},
  ): Promise<ResumeResult> {
    const requestedAt = performance.now();
    await this.#parts.userSessions.noteCaller(caller);
    const { record, snapshot } = await this.#parts.references.chooseSnapshot(target, caller);
    return this.#parts.locks.hold(
      `snapshot ${snapshot.id}`,
      `Snapshot ${snapshot.id}`,
      'resumed',
      (ofSnapshot) => {
        const next = options.copy || record === undefined ? this.#newRecord(snapshot, name) : record;
        return this.#parts.locks.hold(next.id, next.name, 'resumed', async (ofWorkload) => {
          const signal = AbortSignal.any([ofSnapshot, ofWorkload]);
          const isNew = this.#parts.registry.get(next.id) === undefined;
          const { status } = this.#parts.registry.get(next.id) ?? next;
          if (status.kind !== 'suspended' && status.kind !== 'ended') {
            throw isRunningAlready(next, target);
          }
          const before: Status = isNew ? { kind: 'resuming', snapshot: snapshot.id, copy: true } : status;
          if (isNew) await this.#parts.registry.put({ ...next, status: before });
          using reporter = reporterFor(this.#parts, next, 'resume');
          try {
            const starting = { ...next, status: before };
            const outcome = await resume(
              this.#parts,
              starting,
              snapshot.manifest,
              () => this.#makePlace(next.id, snapshot, caller),
              reporter.report,
              signal,
              options,
            );
            const resumeMs = performance.now() - requestedAt;
            this.#parts.measurements.add(next, 'resume', { ms: resumeMs });
            return {
              workload: await this.#parts.descriptions.describe(this.#parts.registry.get(next.id) ?? next),
              ...outcome,
              findings: [...outcome.findings, ...(inSession ? [] : companionsLeft(snapshot.manifest, []))],
              resumeMs,
            };
          } catch (error) {
            if (isNew) await this.#parts.registry.remove(next.id);
            throw error;
          }
        });
      },
    );
  }

  async resumeSet(
    caller: Caller,
    targets: readonly string[],
    choices: ResumeChoices,
    { inSession = false }: { inSession?: boolean } = {},
  ): Promise<ResumeResult[]> {
    const requestedAt = performance.now();
    await this.#parts.userSessions.noteCaller(caller);
    const chosen = new Map<string, { record: WorkloadRecord; snapshot: CompleteSnapshot }>();
    for (const target of targets) {
      const { record, snapshot } = await this.#parts.references.chooseSnapshot(target, caller);
      if (record === undefined) {
        throw new TorporError(
          'not-found',
          `The workload of snapshot ${snapshot.id} has been forgotten, so it cannot be resumed together with others.`,
          `Resume it by itself: \`torpor resume ${target}\`.`,
        );
      }
      chosen.set(record.id, { record, snapshot });
    }
    const members = [...chosen.values()];
    const keys = members.flatMap(({ record: { id, name }, snapshot }) => [
      { key: `snapshot ${snapshot.id}`, what: `Snapshot ${snapshot.id}` },
      { key: id, what: name },
    ]);
    return this.#parts.locks.holdAll(keys, 'resumed', async (signal) => {
      const starting = members.map(({ record, snapshot }) => {
        const now = this.#parts.registry.get(record.id) ?? record;
        if (now.status.kind !== 'suspended' && now.status.kind !== 'ended') throw isRunningAlready(now);
        const makePlace = () => this.#makePlace(now.id, snapshot, caller);
        return {
          record: now,
          manifest: snapshot.manifest,
          makePlace,
          reporter: reporterFor(this.#parts, now, 'resume'),
        };
      });
      try {
        const outcomes = await resumeSet(
          this.#parts,
          starting.map((each) => ({ ...each, report: each.reporter.report, choices })),
          this.#parts.workloads.scratchFolder(`set-${starting[0]?.record.id}`),
          signal,
        );
        const resumeMs = performance.now() - requestedAt;
        const manifests = starting.map(({ manifest }) => manifest);
        return await Promise.all(
          starting.map(async ({ record, manifest }, index) => ({
            workload: await this.#parts.descriptions.describe(this.#parts.registry.get(record.id) ?? record),
            criuMs: outcomes[index]?.criuMs ?? 0,
            pluginsMs: outcomes[index]?.pluginsMs ?? 0,
            findings: [
              ...(outcomes[index]?.findings ?? []),
              ...(inSession ? [] : companionsLeft(manifest, manifests)),
            ],
            resumeMs,
          })),
        );
      } finally {
        for (const { reporter } of starting) reporter[Symbol.dispose]();
      }
    });
  }

  /** What it comes back in; anew for each try. */
  async #makePlace(id: string, { manifest }: CompleteSnapshot, caller: Caller): Promise<ResumePlace> {
    const { jobs, store, bundles } = this.#parts;
    if (manifest.kind === 'capsule') {
      const { layer, user } = manifest.capsule;
      if (layer !== undefined) await bundles.layers.mount(layer.id, user);
      return capsuleToResume(this.#parts, id, manifest.capsule);
    }
    return jobs.toResume(id, manifest, store.contentFolderOf(manifest.id), caller);
  }

  /** A record for a snapshot that becomes a workload of its own. */
  #newRecord(snapshot: CompleteSnapshot, name = snapshot.manifest.name): WorkloadRecord {
    const { workloads } = this.#parts;
    const { manifest } = snapshot;
    return {
      ...kindOf(manifest),
      version: 1,
      id: workloads.newId(),
      name: workloads.freeName(name, specOf(manifest).user.uid),
      startedAt: new Date().toISOString(),
      status: { kind: 'suspended', snapshot: snapshot.id },
    };
  }
}

function isRunningAlready({ name }: WorkloadRecord, target = name): TorporError {
  return new TorporError(
    'failed',
    `${name} is running already; a second one would work on the same files.`,
    `For a second one beside it: \`torpor resume --copy ${target}\`.`,
  );
}

/** Who belongs to the session of a snapshot and is not resumed with it. */
function companionsLeft(manifest: Manifest, resumed: readonly Manifest[]): Finding[] {
  const { session, workload } = manifest;
  const broken = pipesBroken(manifest, resumed);
  const left = (session?.members ?? []).filter(
    (each) => each.workload !== workload && !resumed.some((other) => other.workload === each.workload),
  );
  if (session === undefined || left.length === 0) return broken;
  const names = session.members.map(({ name }) => name).join(' ');
  return [
    ...broken,
    {
      tie: 'session',
      verdict: 'handled',
      by: 'engine',
      what: `It was suspended at the same instant as ${left.map(({ name }) => name).join(', ')}.`,
      hint: `\`torpor resume ${names}\` resumes them together, with the sockets and pipes between them connected.`,
    },
  ];
}
