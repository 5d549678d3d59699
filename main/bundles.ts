/** Taking applications along and bringing them in, as the windows ask for it: one bundle at a time, and how far it is. */
import { isAbsolute, resolve } from 'node:path';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { RateMeter } from '../api/rate.ts';
import type { Progress } from '../api/types.ts';
import { bundleAt, listDrives } from './desktop/drives.ts';
import type { CallArguments, CallResult } from './ipc/schema.ts';
import type { BundleOperation, Drive } from './ipc/view.ts';
import type { EngineLink } from './state/engine-link.ts';

type ExportRequest = CallArguments<'bundle.export'>[0];
type ImportRequest = CallArguments<'bundle.import'>[0];

interface Running {
  view: BundleOperation;
  meter: RateMeter;
}

export class Bundles {
  readonly #link: EngineLink;
  readonly #changed: () => void;
  #running: Running | undefined;

  constructor(link: EngineLink, changed: () => void) {
    this.#link = link;
    this.#changed = changed;
    link.on('progress', (progress) => this.#progress(progress));
    link.on('state', ({ kind }) => {
      if (kind !== 'ready') this.#end();
    });
  }

  /** What is under way. */
  get operation(): BundleOperation | undefined {
    return this.#running?.view;
  }

  /** What is at a path that somebody types. */
  async look(path: string): Promise<CallResult<'bundle.look'>> {
    const bundle = await bundleAt(wholePath(path));
    return bundle === undefined ? {} : { bundle };
  }

  /** @throws TorporError what the engine refuses. */
  async export(request: ExportRequest): Promise<CallResult<'bundle.export'>> {
    const path = wholePath(request.path);
    const drive = driveOf(path, await listDrives());
    const { workloads, passphrase, leaveRunning, withEngine } = request;
    const result = await this.#during({ path, operation: 'export', drive: drive?.name }, () =>
      this.#link.client().export(workloads, {
        ...{ path, passphrases: [passphrase], form: 'auto', data: [] },
        ...{ leaveRunning, withEngine },
      }),
    );
    const { bytes, bytesWritten, findings } = result;
    return {
      ...{ path, bytes, bytesWritten, findings },
      ...(drive === undefined ? {} : { drive: drive.name }),
    };
  }

  /** @throws TorporError what the engine refuses; what was taken in and could not be resumed is told in the result. */
  async import({ path: given, passphrase, resume }: ImportRequest): Promise<CallResult<'bundle.import'>> {
    const path = wholePath(given);
    const { workloads, isHome, documents, findings } = await this.#during(
      { path, operation: 'import', drive: driveOf(path, await listDrives())?.name },
      () => this.#link.client().import({ path, passphrase }),
    );
    const taken = { workloads: workloads.map(({ id, name }) => ({ id, name })), isHome, documents, findings };
    if (!resume) return taken;
    const ids = workloads.map(({ id }) => id);
    try {
      if (ids.length === 1 && ids[0] !== undefined) await this.#link.client().resume(ids[0], { copy: false });
      else await this.#link.client().resumeSet(ids, {});
      return taken;
    } catch (error) {
      const hint = error instanceof TorporError ? error.hint : '';
      return { ...taken, notResumed: { level: 'error', message: sentenceOf(error), hint } };
    }
  }

  async cancel(): Promise<void> {
    if (this.#running === undefined) return;
    this.#running.view = { ...this.#running.view, cancelling: true };
    this.#changed();
    await this.#link.client().cancel(this.#running.view.path);
  }

  async #during<T>(
    about: { path: string; operation: 'export' | 'import'; drive: string | undefined },
    work: () => Promise<T>,
  ): Promise<T> {
    if (this.#running !== undefined)
      throw new TorporError(
        'failed',
        `${this.#running.view.path} is being ${this.#running.view.operation === 'export' ? 'written' : 'read'} just now.`,
        'Wait until that is done, or cancel it.',
      );
    const { path, operation, drive } = about;
    this.#running = {
      meter: new RateMeter(),
      view: {
        ...{ path, operation, phase: operation === 'export' ? 'write' : 'read', bytesDone: 0, bytesTotal: 0 },
        ...(drive === undefined ? {} : { drive }),
        cancelling: false,
      },
    };
    this.#changed();
    try {
      return await work();
    } finally {
      this.#end();
    }
  }

  #progress({ workload: path, operation, phase, bytesDone, bytesTotal }: Progress): void {
    const running = this.#running;
    if (running === undefined || running.view.path !== path || running.view.operation !== operation) return;
    if (phase !== 'read' && phase !== 'write' && phase !== 'verify') return;
    const estimate = running.meter.report(phase, bytesDone, bytesTotal, performance.now());
    const { drive, cancelling } = running.view;
    running.view = {
      ...{ path, operation: running.view.operation, phase, bytesDone, bytesTotal, cancelling },
      ...(drive === undefined ? {} : { drive }),
      ...estimate,
    };
    this.#changed();
  }

  #end(): void {
    if (this.#running === undefined) return;
    this.#running = undefined;
    this.#changed();
  }
}

/** @throws TorporError `usage` of one that means another place to everybody. */
function wholePath(path: string): string {
  const trimmed = path.trim();
  if (isAbsolute(trimmed)) return resolve(trimmed);
  throw new TorporError(
    'usage',
    `“${trimmed}” is no whole path.`,
    'Begin it with a slash, as in /home/me/session.',
  );
}

function driveOf(path: string, drives: readonly Drive[]): Drive | undefined {
  return drives
    .filter((drive) => path.startsWith(`${drive.path}/`))
    .sort((a, b) => b.path.length - a.path.length)[0];
}
