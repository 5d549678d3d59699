/**
 * What runs and what is suspended, as the engine tells it: kept up to date by its signals, read anew whenever the engine
 * was connected again, with the operations that are under way and the snapshots there are.
 */
import { EventEmitter } from 'node:events';
import type { EngineClient } from '../../api/client.ts';
import { RateMeter } from '../../api/rate.ts';
import type { Progress, Snapshot, Workload } from '../../api/types.ts';
import type { Operation, ProgressView } from '../ipc/view.ts';
import type { EngineLink } from './engine-link.ts';

interface Running {
  operation: Operation;
  meter: RateMeter;
}

export class Workloads extends EventEmitter<{ changed: [] }> {
  readonly #link: EngineLink;
  readonly #workloads = new Map<string, Workload>();
  readonly #operations = new Map<string, Running>();
  /** Of what runs while its memory is still being fetched. */
  readonly #loading = new Map<string, { meter: RateMeter; progress: ProgressView }>();
  #snapshots: readonly Snapshot[] = [];
  #readingSnapshots: Promise<void> | undefined;
  #snapshotsAreStale = false;

  constructor(link: EngineLink) {
    super();
    this.#link = link;
    link.on('connected', (client) => void this.#readAll(client).catch(() => {}));
    link.on('workload', (workload) => {
      this.#put(workload);
      this.#changed();
      void this.readSnapshots();
    });
    link.on('progress', (progress) => {
      this.#progress(progress);
      this.#changed();
    });
    link.on('snapshots', () => void this.readSnapshots());
    link.on('forgotten', (id) => {
      this.#workloads.delete(id);
      this.#loading.delete(id);
      this.#changed();
    });
    link.on('state', (state) => {
      // What was under way has failed or will be found to be done.
      if (state.kind !== 'ready') this.#operations.clear();
      this.#changed();
    });
  }

  /** Those that run or are suspended, then those that have ended. */
  all(): Workload[] {
    return [...this.#workloads.values()].sort((a, b) => b.startedAt.localeCompare(a.startedAt));
  }

  get(id: string): Workload | undefined {
    return this.#workloads.get(id);
  }

  /** Newest first. */
  snapshotsOf(workload: string): Snapshot[] {
    return this.#snapshots.filter((snapshot) => snapshot.workload === workload);
  }

  get snapshots(): readonly Snapshot[] {
    return this.#snapshots;
  }

  snapshot(id: string): Snapshot | undefined {
    return this.#snapshots.find((snapshot) => snapshot.id === id);
  }

  operation(id: string): Operation | undefined {
    return this.#operations.get(id)?.operation;
  }

  loading(id: string): ProgressView | undefined {
    return this.#loading.get(id)?.progress;
  }

  get isBusy(): boolean {
    return this.#operations.size > 0;
  }

  /** Asks the engine for its figures of the moment, such as memory. */
  async refresh(): Promise<void> {
    await this.#readAll(this.#link.client());
  }

  /** Reads them again; a request that comes while they are read makes them be read once more. */
  async readSnapshots(): Promise<void> {
    this.#snapshotsAreStale = true;
    this.#readingSnapshots ??= this.#readUntilFresh().finally(() => {
      this.#readingSnapshots = undefined;
    });
    await this.#readingSnapshots;
  }

  async #readUntilFresh(): Promise<void> {
    while (this.#snapshotsAreStale) {
      this.#snapshotsAreStale = false;
      try {
        this.#snapshots = await this.#link.client().snapshots('');
      } catch {
        // Without an engine; they are read when it is back.
        return;
      }
      this.#changed();
    }
  }

  /** From here on its operation is told as being given up. */
  markCancelling(id: string): void {
    const running = this.#operations.get(id);
    if (running === undefined) return;
    running.operation = { ...running.operation, cancelling: true };
    this.#changed();
  }

  /** Its operation has ended, as the one who asked for it knows. */
  markDone(id: string): void {
    if (this.#operations.delete(id)) this.#changed();
  }

  async #readAll(client: EngineClient): Promise<void> {
    const [workloads, snapshots] = await Promise.all([client.list(), client.snapshots('')]);
    this.#workloads.clear();
    for (const workload of workloads) this.#put(workload);
    this.#snapshots = snapshots;
    this.#changed();
  }

  #put(workload: Workload): void {
    this.#workloads.set(workload.id, workload);
    if (workload.state !== 'suspending' && workload.state !== 'resuming')
      this.#operations.delete(workload.id);
    if (workload.loading === undefined) this.#loading.delete(workload.id);
    else this.#loads(workload.id, workload.loading.bytesDone, workload.loading.bytesTotal);
  }

  #loads(id: string, bytesDone: number, bytesTotal: number): void {
    const meter = this.#loading.get(id)?.meter ?? new RateMeter();
    const estimate = meter.report('load', bytesDone, bytesTotal, performance.now());
    this.#loading.set(id, { meter, progress: { bytesDone, bytesTotal, ...estimate } });
  }

  #progress({ workload, operation, phase, bytesDone, bytesTotal }: Progress): void {
    // Those are of bundles, by their paths (main/bundles.ts).
    if (operation === 'export' || operation === 'import') return;
    if (phase === 'done') {
      this.#operations.delete(workload);
      return;
    }
    // Nothing waits for it, and it cannot be given up.
    if (phase === 'load') {
      if (bytesDone < bytesTotal) this.#loads(workload, bytesDone, bytesTotal);
      else this.#loading.delete(workload);
      return;
    }
    const before = this.#operations.get(workload);
    const isSame = before?.operation.operation === operation;
    const meter = isSame ? before.meter : new RateMeter();
    this.#operations.set(workload, {
      meter,
      operation: {
        operation,
        phase,
        bytesDone,
        bytesTotal,
        ...meter.report(phase, bytesDone, bytesTotal, performance.now()),
        cancelling: isSame && before.operation.cancelling,
      },
    });
  }

  #changed(): void {
    this.emit('changed');
  }
}
