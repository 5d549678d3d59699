/**
 * Taking applications along and bringing them in, as the windows ask for it: one bundle at a time, how far it is, and how
 * the last one ended. That outlives the window that has asked: nobody is to remove a drive because a window was closed.
 */
import { isAbsolute, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineClient } from '../api/client.ts';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { RateMeter } from '../api/rate.ts';
import { aboutPassphrase, type Finding, isAlive, type Progress, type ResumeChoices } from '../api/types.ts';
import { bundleAt, listDrives, mountedDrives } from './desktop/drives.ts';
import type { CallArguments, CallResult } from './ipc/schema.ts';
import type { BundleEnd, BundleOperation, Drive } from './ipc/view.ts';
import type { EngineLink } from './state/engine-link.ts';
import type { Workloads } from './state/workloads.ts';

type ExportRequest = CallArguments<'bundle.export'>[0];
type ImportRequest = CallArguments<'bundle.import'>[0];
type Of<K extends BundleEnd['kind']> = Omit<Extract<BundleEnd, { kind: K }>, 'number' | 'path' | 'drive'>;

/** What is to be given up may be so new that nobody knows it yet, and is asked to again. */
const againMs = 200;

interface Running {
  view: BundleOperation;
  meter: RateMeter;
}

export interface BundleParts {
  link: EngineLink;
  workloads: Workloads;
  /** How the user wants applications to come back. */
  choices: () => ResumeChoices;
  changed: () => void;
  ended: (end: BundleEnd) => void;
}

export class Bundles {
  readonly #parts: BundleParts;
  #running: Running | undefined;
  #end: BundleEnd | undefined;
  #count = 0;

  constructor(parts: BundleParts) {
    this.#parts = parts;
    parts.link.on('progress', (progress) => this.#progress(progress));
  }

  /** What is under way. */
  get operation(): BundleOperation | undefined {
    return this.#running?.view;
  }

  /** How the last one ended, until it is dismissed. */
  get end(): BundleEnd | undefined {
    return this.#end;
  }

  dismiss(): void {
    this.#end = undefined;
    this.#parts.changed();
  }

  /** Of a drive that is gone nothing has to be said any more. */
  async drives(): Promise<Drive[]> {
    const drives = await listDrives();
    const { drive, path, kind } = this.#end ?? {};
    if (kind === 'exported' && drive !== undefined && driveOf(path ?? '', drives) === undefined)
      this.dismiss();
    return drives;
  }

  /** What is at a path that somebody types. */
  async look(path: string): Promise<CallResult<'bundle.look'>> {
    const bundle = await bundleAt(wholePath(path));
    return bundle === undefined ? {} : { bundle };
  }

  /** @throws TorporError where it could not even begin; what comes later is how it ends. */
  async export(request: ExportRequest): Promise<BundleEnd> {
    const path = wholePath(request.path);
    const { workloads, passphrase, leaveRunning, withEngine } = request;
    const running = workloads.filter((id) => {
      const workload = this.#parts.workloads.get(id);
      return workload !== undefined && isAlive(workload);
    });
    const begun = { path, operation: 'export', phase: 'prepare', workloads } as const;
    return this.#during(begun, running, async () => {
      const result = await this.#client.export(workloads, {
        ...{ path, passphrases: [passphrase], form: 'auto', data: [] },
        ...{ leaveRunning, withEngine },
      });
      const { bytes, bytesWritten, findings } = result;
      return { kind: 'exported', workloads: result.workloads.map(named), bytes, bytesWritten, findings };
    });
  }

  /** @throws TorporError where it could not even begin; what comes later is how it ends. */
  async import({ path: given, passphrase, resume }: ImportRequest): Promise<BundleEnd> {
    const path = wholePath(given);
    return this.#during({ path, operation: 'import', phase: 'read', workloads: [] }, [], async (running) => {
      const result = await this.#client.import({ path, passphrase });
      const { isHome, documents, findings } = result;
      const taken: Of<'imported'> = {
        kind: 'imported',
        workloads: result.workloads.map(named),
        ...{ isHome, documents, findings },
      };
      if (!resume) return taken;
      const ids = taken.workloads.map(({ id }) => id);
      this.#become(running, { phase: 'resume', workloads: ids, bytesDone: 0, bytesTotal: 0 });
      try {
        return { ...taken, findings: [...findings, ...(await this.#resume(ids))] };
      } catch (error) {
        return { ...taken, notResumed: wordsOf(error) };
      }
    });
  }

  async #resume(ids: readonly string[]): Promise<Finding[]> {
    const choices = this.#parts.choices();
    const [only] = ids;
    const results =
      only !== undefined && ids.length === 1
        ? [await this.#client.resume(only, { copy: false, ...choices })]
        : await this.#client.resumeSet([...ids], choices);
    return results.flatMap(({ findings }) => findings);
  }

  /** Resolves when it has ended, in whichever way. */
  async cancel(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#become(running, { cancelling: true });
    while (this.#running === running) {
      const { path, workloads } = running.view;
      await Promise.allSettled([path, ...workloads].map((each) => this.#client.cancel(each)));
      await sleep(againMs);
    }
  }

  get #client() {
    return this.#parts.link.client();
  }

  async #during(
    begun: Pick<BundleOperation, 'path' | 'operation' | 'phase' | 'workloads'>,
    wereRunning: readonly string[],
    work: (running: Running) => Promise<Of<'exported'> | Of<'imported'>>,
  ): Promise<BundleEnd> {
    const other = this.#running?.view;
    if (other !== undefined)
      throw new TorporError(
        'failed',
        `The bundle ${other.path} is being ${other.operation === 'export' ? 'written' : 'read'} just now.`,
        'Wait until that is done, or cancel it.',
      );
    const client = this.#client;
    const running: Running = {
      meter: new RateMeter(),
      view: { ...begun, bytesDone: 0, bytesTotal: 0, cancelling: false },
    };
    this.#running = running;
    this.#end = undefined;
    this.#parts.changed();
    const { path, operation } = begun;
    let ended: Of<'exported'> | Of<'imported'> | Of<'failed'>;
    try {
      // Without lsblk nothing can be said of its drive, and it is written all the same.
      const drive = driveOf(path, await mountedDrives().catch(() => []));
      if (drive !== undefined) this.#become(running, { drive: drive.name });
      ended = await work(running);
    } catch (error) {
      const suspended = await this.#suspendedOf(wereRunning);
      const { cancelling: cancelled } = running.view;
      ended = {
        ...{ kind: 'failed', operation, cancelled: cancelled && !this.#isLost(client), suspended },
        ...wordsOf(this.#isLost(client) ? lostDuring(path, operation) : error),
        isPassphrase: error instanceof TorporError && error.details.about === aboutPassphrase.about,
      };
    }
    const { drive } = running.view;
    const end: BundleEnd = { ...ended, number: ++this.#count, path, ...(drive && { drive }) };
    this.#running = undefined;
    this.#end = end;
    this.#parts.changed();
    this.#parts.ended(end);
    return end;
  }

  /** Whether another engine answers now, or none. */
  #isLost(client: EngineClient): boolean {
    const { link } = this.#parts;
    return link.state.kind !== 'ready' || link.client() !== client;
  }

  async #suspendedOf(ids: readonly string[]): Promise<{ id: string; name: string }[]> {
    const { workloads } = this.#parts;
    await workloads.refresh().catch(() => {});
    const all = ids.map((id) => workloads.get(id)).filter((each) => each?.state === 'suspended');
    return all.flatMap((each) => (each === undefined ? [] : [named(each)]));
  }

  #progress({ workload: path, operation, phase, bytesDone, bytesTotal }: Progress): void {
    const running = this.#running;
    if (running === undefined || running.view.path !== path || running.view.operation !== operation) return;
    if (phase !== 'read' && phase !== 'write' && phase !== 'verify') return;
    const estimate = running.meter.report(phase, bytesDone, bytesTotal, performance.now());
    const { bytesPerSecond: _rate, secondsLeft: _left, ...view } = running.view;
    running.view = view;
    this.#become(running, { phase, bytesDone, bytesTotal, ...estimate });
  }

  #become(running: Running, change: Partial<BundleOperation>): void {
    running.view = { ...running.view, ...change };
    this.#parts.changed();
  }
}

const named = ({ id, name }: { id: string; name: string }) => ({ id, name });

const lostDuring = (path: string, operation: 'export' | 'import') =>
  new TorporError(
    'failed',
    `The engine ended while ${path} was being ${operation === 'export' ? 'written' : 'read'}.`,
    operation === 'export'
      ? 'It comes back by itself. Write it again then: a bundle that was there before is as it was.'
      : 'It comes back by itself. See which applications are there then, and bring in what is not.',
  );

const wordsOf = (error: unknown) => ({
  message: sentenceOf(error),
  hint: error instanceof TorporError ? error.hint : '',
});

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

/** The innermost drive that a path lies on. Pure. */
export function driveOf<D extends { path: string }>(path: string, drives: readonly D[]): D | undefined {
  return drives
    .filter((drive) => path.startsWith(`${drive.path}/`))
    .sort((a, b) => b.path.length - a.path.length)[0];
}
