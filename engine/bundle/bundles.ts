/**
 * Bundles as the engine's callers ask for them: who may have which written and taken in, one at a time at a path, and
 * what becomes of the layers that came with them.
 */
import { closeSync } from 'node:fs';
import { TorporError } from '../../api/errors.ts';
import type { ExportOptions, ImportOptions, Progress } from '../../api/types.ts';
import { makePlainPipe } from '../../native/pipe.ts';
import { kindOf, type Manifest, specOf } from '../../proto/manifest.ts';
import { findUser } from '../capsule/users.ts';
import type { FileHashes } from '../files/hashes.ts';
import type { Installation } from '../installation.ts';
import type { Locks } from '../locks.ts';
import type { Logger } from '../log.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import { type Caller, mayUse, type Registry } from '../workload/registry.ts';
import type { Workloads } from '../workload/workloads.ts';
import type { Bundled } from './contents.ts';
import { type Written, writeBundle } from './export.ts';
import { bringOut } from './home.ts';
import { type Imported, readBundle } from './import.ts';
import { Layers } from './layers.ts';
import { machineId } from './machine.ts';
import { MediumProgram } from './medium-program.ts';
import { openPortableEngine, type PortableFile } from './portable.ts';

export interface BundleParts {
  installation: Installation;
  store: SnapshotStore;
  registry: Registry;
  workloads: Workloads;
  hashes: FileHashes;
  locks: Locks;
  runDir: string;
  log: Logger;
}

type TellProgress = (progress: Progress) => void;

export class Bundles {
  readonly layers: Layers;
  readonly #parts: BundleParts;
  /** Who has what is under way at a path done. */
  readonly #callers = new Map<string, number>();
  #swept: Promise<void> = Promise.resolve();

  constructor(parts: BundleParts) {
    this.#parts = parts;
    const { store, runDir, registry, log } = parts;
    const isActive = (id: string) =>
      registry.all().some((record) => layerOf(record) === id && !isAtRest(record));
    this.layers = new Layers({ stateDir: store.stateDir, runDir }, isActive, log);
  }

  /**
   * Writes a bundle of what `prepare` gives: snapshots that nobody removes or resumes meanwhile.
   * @throws TorporError
   */
  async export(
    caller: Caller,
    options: ExportOptions,
    prepare: (signal: AbortSignal) => Promise<Manifest[]>,
    tell: TellProgress,
  ): Promise<Written> {
    const { locks, log } = this.#parts;
    return this.#atPath(caller, options.path, 'written', async (ofPath) => {
      // Before anything is suspended for it.
      await this.#tryToWrite(caller, options, ofPath);
      await using engine = await this.#engineFor(options);
      const snapshots = await prepare(ofPath);
      const keys = snapshots.map(({ id, name }) => ({
        key: `snapshot ${id}`,
        what: `The snapshot of ${name}`,
      }));
      return await locks.holdAll(keys, 'exported', async (held) => {
        const written = await writeBundle(
          { ...this.#parts, layers: this.layers },
          {
            ...{ snapshots, options },
            writer: await findUser(caller.uid),
            engine: engine.files,
            progress: progressOf(options.path, 'export', tell),
            signal: AbortSignal.any([ofPath, held]),
          },
        );
        log.info(
          { path: options.path, uid: caller.uid, snapshots: snapshots.map(({ id }) => id) },
          'exported',
        );
        return written;
      });
    });
  }

  /** @throws TorporError what is wrong with the place or the passphrase, as far as it can be known before. */
  async #tryToWrite(caller: Caller, options: ExportOptions, signal: AbortSignal): Promise<void> {
    const pipe = makePlainPipe();
    try {
      const writer = await findUser(caller.uid);
      await using medium = new MediumProgram(this.#parts.installation, writer, pipe.read, () => {}, signal);
      await medium.tryToWrite(options);
    } finally {
      closeSync(pipe.read);
      closeSync(pipe.write);
    }
  }

  /** Torpor itself, where it is to go along. @throws TorporError where it cannot. */
  async #engineFor({ withEngine }: ExportOptions): Promise<AsyncDisposable & { files: PortableFile[] }> {
    const { installation, store } = this.#parts;
    const files = withEngine === true ? await openPortableEngine(installation, store.stateDir) : [];
    return {
      files,
      async [Symbol.asyncDispose]() {
        for (const { file } of files) await file.close();
      },
    };
  }

  /** Takes a bundle in. @returns its workloads, which are suspended. @throws TorporError */
  async import(
    caller: Caller,
    options: ImportOptions,
    tell: TellProgress,
  ): Promise<{ imported: Imported; records: WorkloadRecord[] }> {
    const { store, workloads, log } = this.#parts;
    // Before all of a large bundle is read.
    store.encryption.refuseIfLocked();
    const chosen = options.user === undefined && caller.uid === 0 ? undefined : (options.user ?? caller.uid);
    const given = chosen === undefined ? undefined : await findUser(chosen);
    if (given !== undefined && !mayUse(caller, given.uid))
      throw new TorporError(
        'not-permitted',
        `You may not import for ${given.name}.`,
        'Use sudo, or leave out --user.',
      );
    const machine = await machineId(store.stateDir);
    return this.#atPath(caller, options.path, 'read', async (signal) => {
      const imported = await readBundle(
        { ...this.#parts, layers: this.layers },
        {
          ...{ path: options.path, passphrase: options.passphrase, machine, signal },
          reader: await findUser(caller.uid),
          // Where root says nothing, what comes home is whose it was.
          userFor: async ({ origin }) =>
            given ?? (await findUser(origin.machine === machine ? origin.user.uid : caller.uid)),
          idFor: (bundled, isHome, { uid }) => (isHome && this.#mayGoBack(bundled, uid)) || workloads.newId(),
          progress: progressOf(options.path, 'import', tell),
        },
      );
      const records: WorkloadRecord[] = [];
      for (const { manifest } of imported.taken) records.push(await this.#record(manifest));
      log.info({ path: options.path, uid: caller.uid, workloads: records.map(({ id }) => id) }, 'imported');
      return { imported, records };
    });
  }

  /** The workload that it was here, unless that has gone on meanwhile. */
  #mayGoBack({ origin }: Bundled, uid: number): string | undefined {
    const known = this.#parts.registry.get(origin.workload);
    return known !== undefined && isAtRest(known) && specOf(known).user.uid === uid ? known.id : undefined;
  }

  async #record(manifest: Manifest): Promise<WorkloadRecord> {
    const { registry, workloads } = this.#parts;
    const known = registry.get(manifest.workload);
    const record: WorkloadRecord = {
      ...kindOf(manifest),
      version: 1,
      id: manifest.workload,
      name: known?.name ?? workloads.freeName(manifest.name, specOf(manifest).user.uid),
      startedAt: manifest.startedAt,
      status: { kind: 'suspended', snapshot: manifest.id },
    };
    await registry.put(record);
    return record;
  }

  /** @returns false where nothing is under way there, of the caller's. */
  cancel(caller: Caller, path: string): boolean {
    const by = this.#callers.get(path);
    return by !== undefined && mayUse(caller, by) && this.#parts.locks.cancel(`bundle ${path}`);
  }

  async #atPath<T>(
    { uid }: Caller,
    path: string,
    operation: string,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return this.#parts.locks.hold(`bundle ${path}`, `The bundle ${path}`, operation, async (signal) => {
      this.#callers.set(path, uid);
      try {
        return await work(signal);
      } finally {
        this.#callers.delete(path);
      }
    });
  }

  /** Its root is there while it runs, and not longer. */
  follow(record: WorkloadRecord): void {
    const layer = layerOf(record);
    if (layer === undefined || !isAtRest(record)) return;
    const { log } = this.#parts;
    this.layers
      .unmount(layer)
      .catch((error: unknown) => log.error({ err: error, layer }, 'its root remains mounted'));
    if (record.status.kind !== 'ended') return;
    this.#afterOthers(async () => void (await this.#bringOut(layer))).catch((error: unknown) =>
      log.error({ err: error, layer }, 'what was changed in it remains there'),
    );
  }

  /** @returns whether nothing is in the layer only. */
  async #bringOut(layer: string): Promise<boolean> {
    const documents = await bringOut(this.layers, layer, this.#parts.hashes);
    if (documents.length > 0) this.#parts.log.info({ layer, documents }, 'brought out of a layer');
    return documents.every(({ outcome }) => outcome !== 'kept');
  }

  #afterOthers(work: () => Promise<void>): Promise<void> {
    this.#swept = this.#swept.catch(() => {}).then(work);
    return this.#swept;
  }

  /**
   * Removes layers of which neither a workload nor a snapshot is left, once what their users have changed in them has been
   * brought out.
   */
  sweep(): Promise<void> {
    return this.#afterOthers(() => this.#sweep());
  }

  async #sweep(): Promise<void> {
    const { registry, store, log } = this.#parts;
    const stored = await store.list();
    // Whose the layers are that a damaged one needs, nobody knows.
    if (stored.some((item) => item.kind === 'damaged')) return;
    const manifests = stored.flatMap((item) => (item.kind === 'complete' ? [item.manifest] : []));
    const ids = [...registry.all(), ...manifests].map(layerOf);
    for (const id of await this.layers.unneeded(new Set(ids.filter((each) => each !== undefined)))) {
      if (!(await this.#bringOut(id))) continue;
      log.info({ layer: id }, 'removing the files of a bundle that nothing needs any more');
      await this.layers.remove(id);
    }
  }
}

const isAtRest = ({ status }: WorkloadRecord) => status.kind === 'suspended' || status.kind === 'ended';

const layerOf = (workload: WorkloadRecord | Manifest): string | undefined =>
  workload.kind === 'capsule' ? workload.capsule.layer?.id : undefined;

const progressOf =
  (path: string, operation: 'export' | 'import', tell: TellProgress) =>
  (phase: 'write' | 'verify' | 'read', bytesDone: number, bytesTotal: number) =>
    tell({ workload: path, operation, phase, bytesDone, bytesTotal });
