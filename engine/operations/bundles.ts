import type { ExportOptions, ExportResult, Finding, ImportOptions, ImportResult } from '../../api/types.ts';
import type { Caller } from '../workload/registry.ts';
import type { OperationParts } from './parts.ts';
import type { Suspends } from './suspends.ts';

export class BundleOperations {
  readonly #parts: OperationParts;
  readonly #suspends: Suspends;

  constructor(parts: OperationParts, suspends: Suspends) {
    this.#parts = parts;
    this.#suspends = suspends;
  }

  async export(caller: Caller, targets: readonly string[], options: ExportOptions): Promise<ExportResult> {
    const startedAt = performance.now();
    const found: Finding[] = [];
    const written = await this.#parts.bundles.export(
      caller,
      options,
      async () => {
        const running = targets.filter(
          (target) => this.#parts.references.findOrNone(target, caller)?.status.kind === 'running',
        );
        const { leaveRunning } = options;
        const results =
          running.length === 0 ? [] : await this.#suspends.suspendSet(caller, running, { leaveRunning });
        found.push(...results.flatMap(({ findings }) => findings));
        return Promise.all(
          targets.map(
            async (target) => (await this.#parts.references.chooseSnapshot(target, caller)).snapshot.manifest,
          ),
        );
      },
      (progress) => this.#parts.emitProgress(progress, caller.uid),
    );
    const records = targets.map((target) => this.#parts.references.findOrNone(target, caller));
    return {
      path: options.path,
      ...written,
      findings: [...found, ...written.findings],
      workloads: await Promise.all(
        records
          .filter((record) => record !== undefined)
          .map((record) => this.#parts.descriptions.describe(record)),
      ),
      tookMs: performance.now() - startedAt,
    };
  }

  async import(caller: Caller, options: ImportOptions): Promise<ImportResult> {
    const startedAt = performance.now();
    const { imported, records } = await this.#parts.bundles.import(caller, options, (progress) =>
      this.#parts.emitProgress(progress, caller.uid),
    );
    const { taken: _taken, ...rest } = imported;
    return {
      path: options.path,
      ...rest,
      workloads: await Promise.all(records.map((record) => this.#parts.descriptions.describe(record))),
      tookMs: performance.now() - startedAt,
    };
  }
}
