/**
 * The suspend transaction of DESIGN.md: inspect, detach, freeze, checkpoint, commit, release. CRIU gets ready while the
 * inspection is under way, and has leave to touch the application with the answer to its pre-dump notification. Until
 * the snapshot is complete and durable the application is only paused: CRIU is told to go on to ending it by the answer
 * to its post-dump notification, and that answer is given after the commit. Whatever fails before makes the answer a
 * refusal, upon which CRIU lets the application run on. Before CRIU has that leave the application is held still by its
 * cgroup, so that what CRIU does not end, because it is ended itself, has not gone on since the snapshot and is ended
 * by the engine: an application of which a part has been ended must not run on.
 */
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { Picture } from '../../api/rfb/picture.ts';
import type { Finding } from '../../api/types.ts';
import type { Manifest } from '../../proto/manifest.ts';
import type { Capsules } from '../capsule/capsules.ts';
import type { Cgroups } from '../capsule/cgroup.ts';
import type { Status, StatusOf, WorkloadRecord } from '../capsule/record.ts';
import type { Registry } from '../capsule/registry.ts';
import type { CriuClient } from '../criu/client.ts';
import { CriuError } from '../criu/criu-error.ts';
import type { FileHashes } from '../files/hashes.ts';
import { type FileRecord, keepVolatile, recordFiles } from '../files/record.ts';
import type { TreeInspection } from '../inspect/inspect.ts';
import { bytesToSave, capsuleOptions, type Inspector } from '../inspect/inspector.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import { identify, isAlive, waitGone } from '../process.ts';
import { captureScreen, encodeScreen } from '../screen/picture.ts';
import { cutViewers } from '../screen/viewers.ts';
import {
  dumpLogFile,
  pictureFile,
  type SnapshotStore,
  type Stage,
  thumbnailFile,
} from '../store/snapshot-store.ts';
import { describeHost } from './host.ts';
import { dumpMounts } from './mount-keys.ts';
import { noSpace, noSpaceAt } from './no-space.ts';
import type { Report } from './progress.ts';

/** CRIU ends the processes in milliseconds; one in the middle of a disk write may take longer. */
const goneLimitMs = 30_000;

export interface SuspendOutcome {
  manifest: Manifest;
  findings: Finding[];
}

export interface SuspendParts {
  registry: Registry;
  capsules: Capsules;
  cgroups: Cgroups;
  store: SnapshotStore;
  criu: CriuClient;
  installation: Installation;
  inspector: Inspector;
  hashes: FileHashes;
  log: Logger;
}

/**
 * Suspends a running capsule, or with `leaveRunning` only takes a snapshot of it.
 * @throws TorporError `blocked` with the findings in its details, or `failed`; the application runs on either way.
 */
export async function suspend(
  parts: SuspendParts,
  record: WorkloadRecord & { status: StatusOf<'running'> },
  leaveRunning: boolean,
  report: Report,
  signal: AbortSignal,
): Promise<SuspendOutcome> {
  const requestedAt = performance.now();
  const { id, status } = record;
  const { init } = status;
  report('inspect');
  const stage = await parts.store.stage();
  const examined = examine(parts, record);
  examined.catch(() => {});
  try {
    const view = { root: record.capsule.root, runFolder: parts.capsules.runFolder(id) };
    const recordNow = async () => {
      const records = await recordFiles(await parts.cgroups.pids(id), view, parts.hashes);
      // While CRIU dumps a process, it has CRIU's own log open in it.
      return records.filter((each) => !each.path.startsWith(`${stage.folder}/`));
    };
    let committed: Manifest | undefined;
    let frozenAt = 0;
    let pictures: Promise<void> | undefined;
    let surroundings: Promise<FileRecord[]> | undefined;
    let noted: Promise<unknown> | undefined;
    let expectedBytes = 0;
    let suspending: StatusOf<'suspending'> | undefined;
    let isReleasing = false;
    const dumped = parts.criu.dump(
      {
        ...capsuleOptions,
        pid: init.pid,
        imagesDir: stage.images,
        workDir: stage.folder,
        logFile: dumpLogFile,
        leaveRunning,
        freezeCgroup: parts.cgroups.pathOf(id),
        external: dumpMounts(record.capsule),
      },
      {
        signal,
        // CRIU acts only after this: by it a new engine knows what to wait for and where the snapshot would be.
        onStarted: async (pid, tracerPid) => {
          const criu = await identify(pid);
          const tracer = tracerPid === undefined ? undefined : await identify(tracerPid);
          suspending = {
            ...status,
            kind: 'suspending',
            stage: stage.id,
            leaveRunning,
            ...(criu === undefined ? {} : { criu }),
            ...(tracer === undefined ? {} : { tracer }),
          };
          await parts.registry.setPassingStatus(id, suspending);
          // Durable it must be before the commit only.
          noted = parts.registry.setStatus(id, suspending);
          noted.catch(() => {});
        },
        onNotify: {
          // The last moment at which nothing has been touched.
          'pre-dump': async () => {
            const { inspection, picture } = await examined;
            signal.throwIfAborted();
            report('detach');
            await cutViewers(
              parts.installation,
              init.pid,
              inspection.facts.processes.map((process) => process.pid),
              record.capsule.display ?? 0,
            );
            expectedBytes = bytesToSave(inspection.facts);
            report('freeze');
            pictures = writePictures(stage, picture);
            pictures.catch(() => {});
            frozenAt = performance.now();
          },
          // Comes as soon as all are frozen. The recording runs beside the dump.
          'query-ext-files': () => {
            report('checkpoint', async () => ({
              done: await bytesIn(stage.images),
              total: expectedBytes,
            }));
            stage.sealer.start();
            surroundings = recordNow();
            surroundings.catch(() => {});
          },
          'post-dump': async () => {
            report('commit', () => stage.sealer.measure());
            signal.throwIfAborted();
            await pictures;
            const [{ inspection }, files, host] = await Promise.all([
              examined,
              surroundings ?? recordNow(),
              describeHost(parts.criu),
              stage.sealer.finish(),
              noted,
            ]);
            await keepVolatile(files, view, stage.folder);
            committed = await parts.store.commit(stage, () => ({
              workload: id,
              name: record.name,
              kind: 'capsule',
              capsule: record.capsule,
              startedAt: record.startedAt,
              takenAt: new Date().toISOString(),
              leftRunning: leaveRunning,
              memoryBytes: inspection.memoryBytes,
              processes: inspection.facts.processes.map(({ pid, name }) => ({ pid, name })),
              standstillMs: performance.now() - frozenAt,
              durableMs: performance.now() - requestedAt,
              host,
              findings: inspection.findings,
              surroundings: files,
            }));
            if (!leaveRunning) {
              await pointOfNoReturn(parts, id, suspending);
              isReleasing = true;
            }
            report('release');
          },
        },
      },
    );
    await dumped.catch(async (error: unknown) => {
      if (!isReleasing) throw error;
      parts.log.warn({ err: error, workload: id }, 'CRIU did not end the application');
      await parts.cgroups.kill(id);
    });
    if (committed === undefined)
      throw new TorporError('failed', 'CRIU ended without having made a snapshot.');
    await release(parts, record, committed.id, leaveRunning);
    report('done');
    parts.log.info(
      {
        workload: id,
        snapshot: committed.id,
        standstillMs: committed.standstillMs,
        durableMs: committed.durableMs,
      },
      'suspended',
    );
    return { manifest: committed, findings: committed.findings };
  } catch (error) {
    // Of an application that cannot be suspended or has ended, CRIU may have come to know first, in its own words.
    const refusal = await examined.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    throw await putBack(parts, record, stage, refusal ?? error);
  }
}

/** What is there for a moment only is met a few times in a row at most. */
const mostTries = 8;

/**
 * Suspends, and again where that failed for what the application was at in the very moment of the freeze, and the
 * inspection had not seen: a viewer of the screen came back, a connection was being made, a process was being started.
 * The application runs on in between.
 */
export async function untilCalm<T>(suspendOnce: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await suspendOnce();
    } catch (error) {
      const { cause } = error as Error;
      if (tries === mostTries || !(cause instanceof CriuError && cause.isMomentary)) throw error;
    }
  }
}

/** What there is to know beforehand. @throws TorporError `blocked`, or `failed` where the application has ended. */
async function examine(
  { inspector, capsules, log }: SuspendParts,
  record: WorkloadRecord,
): Promise<{ inspection: TreeInspection; picture: Picture | undefined }> {
  const [inspection, picture] = await Promise.all([
    inspector.inspectCapsule(record),
    captureScreen(capsules.screenSocket(record.id), log),
  ]);
  refuseIfBlocked(record.name, inspection.findings);
  return { inspection, picture };
}

function refuseIfBlocked(name: string, findings: readonly Finding[]): void {
  const blocking = findings.filter((finding) => finding.verdict === 'blocking');
  const first = blocking[0];
  if (first === undefined) return;
  const more =
    blocking.length > 1 ? ` (and ${blocking.length - 1} more: see \`torpor inspect ${name}\`)` : '';
  throw new TorporError(
    'blocked',
    `${name} cannot be suspended: ${first.what}${more} Nothing was touched.`,
    first.hint,
    {
      findings,
    },
  );
}

/** What CRIU has written so far. */
async function bytesIn(folder: string): Promise<number> {
  const sizes = await Promise.all(
    (await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function writePictures(stage: Stage, picture: Picture | undefined): Promise<void> {
  if (picture === undefined) return;
  const { full, thumbnail } = await encodeScreen(picture);
  await writeFile(join(stage.folder, pictureFile), full);
  await writeFile(join(stage.folder, thumbnailFile), thumbnail);
}

/**
 * The snapshot is committed, and the application is held still so that the two cannot come to differ.
 * @throws TorporError `failed` where CRIU has ended already: then the application may have run on.
 */
async function pointOfNoReturn(
  { cgroups, registry }: SuspendParts,
  id: string,
  suspending: StatusOf<'suspending'> | undefined,
): Promise<void> {
  await cgroups.hold(id);
  if (suspending?.criu === undefined || !(await isAlive(suspending.criu)))
    throw new TorporError('failed', 'CRIU ended before it had ended the application.');
  await registry.setPassingStatus(id, { ...suspending, releasing: true });
}

async function release(
  parts: SuspendParts,
  record: WorkloadRecord & { status: StatusOf<'running'> },
  snapshot: string,
  leaveRunning: boolean,
): Promise<void> {
  const { id, status } = record;
  if (leaveRunning) {
    await parts.registry.setPassingStatus(id, { ...status, snapshot });
    return;
  }
  if (!(await waitGone(status.init, goneLimitMs))) await parts.cgroups.kill(id);
  await parts.capsules.cleanUp(id);
  await parts.registry.setPassingStatus(id, { kind: 'suspended', snapshot });
}

/** After a failure: the state in which the application goes on, and the error that says so. */
async function putBack(
  parts: SuspendParts,
  record: WorkloadRecord & { status: StatusOf<'running'> },
  stage: Stage,
  error: unknown,
): Promise<Error> {
  const { id, status } = record;
  await parts.cgroups.thaw(id);
  const alive = (await identify(status.init.pid))?.startTime === status.init.startTime;
  const exists = await parts.store.has(stage.id);
  const full = exists ? undefined : await noSpaceAt(stage.folder);
  // First, because on a full disk this is what makes room for the record.
  if (!exists) await parts.store.discard(stage);
  const isSuspended = exists && !alive;
  // Then the failure came after the commit: the snapshot is whole and the application has been ended.
  if (isSuspended) await parts.capsules.cleanUp(id);
  const runs: Status = exists ? { ...status, snapshot: stage.id } : status;
  const now: Status = isSuspended ? { kind: 'suspended', snapshot: stage.id } : runs;
  await parts.registry.setStatusIfPossible(id, now, parts.log);
  if (!isSuspended) parts.capsules.watch(id);
  parts.log.warn(
    { err: error, workload: id, alive, snapshot: exists ? stage.id : undefined },
    'suspend failed',
  );
  if (error instanceof TorporError && error.code === 'blocked') return error;
  return failure(record.name, full ?? error, alive, exists ? stage.id : undefined);
}

function failure(name: string, error: unknown, alive: boolean, snapshot: string | undefined): Error {
  const outcome = alive
    ? 'It runs on as before.'
    : snapshot === undefined
      ? 'It has ended meanwhile.'
      : `It is suspended in snapshot ${snapshot} and can be resumed.`;
  const known = error instanceof TorporError ? error : noSpace(error);
  return new TorporError(
    known?.code ?? 'failed',
    `${name} could not be suspended: ${sentenceOf(known ?? error).replace(/\.?$/, '.')} ${outcome}`,
    known?.hint ?? 'The details are in the log of the engine (log/torpord.log in the state folder).',
    { ...known?.details, running: alive, ...(snapshot === undefined ? {} : { snapshot }) },
    { cause: error },
  );
}
