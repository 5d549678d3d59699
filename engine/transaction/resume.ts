/**
 * Resume mirrors the suspend: verify, prepare the root, restore, and only then mark the snapshot used. Whatever fails
 * leaves the snapshot as it was, ready for another try. Memory contents are hashed while CRIU reads them too; no
 * process runs before both are done, because CRIU's post-restore notification is answered only then.
 */
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import type { Manifest } from '../../proto/manifest.ts';
import type { Capsules } from '../capsule/capsules.ts';
import type { Cgroups } from '../capsule/cgroup.ts';
import type { StatusOf, WorkloadRecord } from '../capsule/record.ts';
import type { Registry } from '../capsule/registry.ts';
import type { CriuClient } from '../criu/client.ts';
import { Semaphore } from '../criu/semaphore.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import { readMounts } from '../mounts.ts';
import { identify } from '../process.ts';
import { type SnapshotStore, sizesOf } from '../store/snapshot-store.ts';
import { cpuFeatures } from './host.ts';
import { mendedMappings } from './mapping-flags.ts';
import { restoreMounts } from './mount-keys.ts';
import { noSpace } from './no-space.ts';
import { type Report, Tally } from './progress.ts';
import { hasRemaps, type Prepared, prepareSurroundings } from './surroundings.ts';

/** One resume at a time of those that must put deleted files into place. */
const remapTurns = new Semaphore(1);

export interface ResumeParts {
  registry: Registry;
  capsules: Capsules;
  cgroups: Cgroups;
  store: SnapshotStore;
  criu: CriuClient;
  installation: Installation;
  log: Logger;
}

export interface ResumeOutcome {
  findings: Finding[];
  criuMs: number;
}

/**
 * Resumes a snapshot as the workload of this record, which is not running. After a failure the record has the status
 * it had before.
 * @throws TorporError `failed` or `blocked`, naming what is wrong; nothing runs then.
 */
export async function resume(
  parts: ResumeParts,
  record: WorkloadRecord,
  manifest: Manifest,
  report: Report,
  signal: AbortSignal,
): Promise<ResumeOutcome> {
  const { id, status: before } = record;
  const sizes = sizesOf(manifest);
  const parsed = new Tally(sizes.parsed);
  report('verify', parsed.measure);
  await refuseOtherCpu(manifest);
  await refuseMissingMounts(manifest);
  const verified = await parts.store.verifyBeforeRestore(manifest, parsed.add);
  const imagesDir = join(parts.store.folderOf(manifest.id), 'images');
  signal.throwIfAborted();

  report('prepare');
  const scratch = parts.capsules.scratchFolder(id);
  const stop = new AbortController();
  const givenUp = AbortSignal.any([signal, stop.signal]);
  const resuming: StatusOf<'resuming'> =
    before.kind === 'resuming' ? before : { kind: 'resuming', snapshot: manifest.id };
  let prepared: Prepared | undefined;
  let turn: Disposable | undefined;
  try {
    // CRIU puts deleted files into place under names that are the same for all that had the same file.
    if (hasRemaps(manifest)) turn = await remapTurns.acquire(signal);
    const runFolder = await parts.capsules.makeRunFolder(id, manifest.capsule);
    await rm(join(runFolder, 'screen', 'rfb'), { force: true });
    prepared = await prepareSurroundings(manifest, imagesDir, runFolder, parts.store.folderOf(manifest.id));
    const cgroup = await parts.cgroups.make(id);
    const mountPoint = join(scratch, 'root');
    await mkdir(mountPoint, { recursive: true, mode: 0o700 });
    const rewritten = new Map([...prepared.rewritten, ...(await mendedMappings(imagesDir))]);
    const images = await viewOfImages(imagesDir, rewritten, join(scratch, 'images'));

    // CRIU reads the same bytes beside it, and is asked for nothing while it does.
    const hashed = new Tally(sizes.pages);
    report('restore', hashed.measure);
    const pages = verified.pages(givenUp, hashed.add);
    // CRIU may wait for ever for what a damaged file does not have: it is not left to come to the notification.
    pages.catch((error: unknown) => stop.abort(error));
    const startedAt = performance.now();
    const withRoot = parts.criu.withPrefix([
      ...[parts.installation.capsuleTool, 'with-root', manifest.capsule.root, mountPoint],
      ...['--cgroup', cgroup, '--'],
    ]);
    await withRoot.restore(
      {
        root: mountPoint,
        imagesDir: images,
        workDir: scratch,
        logFile: 'restore.log',
        external: restoreMounts(manifest.capsule, runFolder),
        fileLocks: true,
        tcpClose: true,
      },
      {
        signal: givenUp,
        onStarted: async (pid) => {
          const criu = await identify(pid);
          await parts.registry.setStatus(id, criu === undefined ? resuming : { ...resuming, criu });
        },
        onNotify: {
          // The last one that CRIU lets fail: everything is restored and nothing has run yet.
          'post-restore': async (pid) => {
            await pages;
            signal.throwIfAborted();
            const init = pid === undefined ? undefined : await identify(pid);
            await parts.registry.setPassingStatus(id, init === undefined ? resuming : { ...resuming, init });
          },
        },
      },
    );
    const criuMs = performance.now() - startedAt;
    await becomeRunning(parts, id, manifest.id);
    report('done');
    return { findings: prepared.findings, criuMs };
  } catch (error) {
    stop.abort();
    await parts.store.keepFailure(manifest.id, join(scratch, 'restore.log'));
    await parts.cgroups.kill(id);
    await parts.capsules.cleanUp(id);
    await parts.registry.setStatusIfPossible(id, before, parts.log);
    parts.log.warn({ err: error, workload: id, snapshot: manifest.id }, 'resume failed');
    throw failure(record.name, manifest.id, error);
  } finally {
    try {
      await prepared?.afterwards();
    } finally {
      turn?.[Symbol.dispose]();
    }
    await rm(scratch, { recursive: true, force: true });
  }
}

async function becomeRunning(parts: ResumeParts, id: string, snapshot: string): Promise<void> {
  const status = parts.registry.get(id)?.status;
  if (status?.kind !== 'resuming' || status.init === undefined) {
    throw new TorporError('failed', 'CRIU ended without saying which process it made.');
  }
  await parts.registry.setPassingStatus(id, { kind: 'running', init: status.init, snapshot });
  parts.capsules.watch(id);
  await parts.store.markUsed(snapshot);
  parts.log.info({ workload: id, snapshot, pid: status.init.pid }, 'resumed');
}

async function refuseOtherCpu(manifest: Manifest): Promise<void> {
  const here = new Set(await cpuFeatures());
  const missing = manifest.host.cpuFeatures.filter((feature) => !here.has(feature));
  if (missing.length === 0) return;
  throw new TorporError(
    'blocked',
    `Snapshot ${manifest.id} was taken on a CPU with features that this one lacks: ${missing.join(', ')}.`,
    'Resume it on the machine it was taken on, or on one with a CPU of the same kind.',
  );
}

async function refuseMissingMounts(manifest: Manifest): Promise<void> {
  if (manifest.capsule.hostMounts.length === 0) return;
  const mounted = new Set((await readMounts()).map((mount) => mount.path));
  const missing = manifest.capsule.hostMounts.filter(({ path }) => !mounted.has(path));
  if (missing[0] === undefined) return;
  throw new TorporError(
    'blocked',
    `The application had the file system at ${missing[0].path} before it, which is not mounted now.`,
    `Mount it (\`mount ${missing[0].path}\`) and resume again.`,
  );
}

/**
 * The images as CRIU shall read them. A snapshot is immutable: where an image must be rewritten, CRIU gets a folder of
 * links with the new one among them.
 */
async function viewOfImages(
  imagesDir: string,
  changed: ReadonlyMap<string, Buffer>,
  viewDir: string,
): Promise<string> {
  if (changed.size === 0) return imagesDir;
  await mkdir(viewDir, { recursive: true, mode: 0o700 });
  for (const name of await readdir(imagesDir)) {
    const rewritten = changed.get(name);
    if (rewritten === undefined) await symlink(join(imagesDir, name), join(viewDir, name));
    else await writeFile(join(viewDir, name), rewritten, { mode: 0o600 });
  }
  return viewDir;
}

function failure(name: string, snapshot: string, error: unknown): Error {
  const known = error instanceof TorporError ? error : noSpace(error);
  return new TorporError(
    known?.code ?? 'failed',
    `${name} could not be resumed: ${sentenceOf(known ?? error).replace(/\.?$/, '.')} Its snapshot ${snapshot} is as it was.`,
    known?.hint ?? 'The details are in the log of the engine (log/torpord.log in the state folder).',
    known?.details ?? {},
    { cause: error },
  );
}
