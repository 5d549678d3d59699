/**
 * The suspend transaction of DESIGN.md: inspect, detach, freeze, checkpoint, commit, release. CRIU gets ready while the
 * inspection is under way, and has leave to touch the application with the answer to its pre-dump notification. Until
 * the snapshot is complete and durable the application is only paused: CRIU is told to go on to ending it by the answer
 * to its post-dump notification, and that answer is given after the commit. Whatever fails before makes the answer a
 * refusal, upon which CRIU lets the application run on. Before CRIU has that leave the application is held still by its
 * cgroup, so that what CRIU does not end, because it is ended itself, has not gone on since the snapshot and is ended
 * by the engine: an application of which a part has been ended must not run on.
 */
import { writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { Picture } from '../../api/rfb/picture.ts';
import type { ConnectionChoice, Finding, SuspendOptions } from '../../api/types.ts';
import { kindOf, type Manifest, type MovedSocket, type SharedPipe, specOf } from '../../proto/manifest.ts';
import { unlessAborted } from '../abort.ts';
import {
  connectionOptions,
  letGo,
  lockOf,
  possibleConnections,
  usualConnections,
} from '../connections/held.ts';
import { CriuError } from '../criu/criu-error.ts';
import { findDocumentLocks, lockKept } from '../files/document-locks.ts';
import type { FileHashes } from '../files/hashes.ts';
import type { KeptFiles } from '../files/kept-files.ts';
import { findMovedSockets } from '../files/moved-sockets.ts';
import { type FileRecord, keepVolatile, recordFiles } from '../files/record.ts';
import { UserFiles } from '../files/user-files.ts';
import { heldInhibitors } from '../inhibitors/inhibitors.ts';
import type { TreeInspection } from '../inspect/inspect.ts';
import { bytesToSave, dumpOptions } from '../inspect/inspector.ts';
import { isHeldByPlugin } from '../inspect/ties/held-by-plugin.ts';
import { usualDecisions } from '../inspect/ties/unix-sockets.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import { isMomentary } from '../momentary.ts';
import { recordNetwork } from '../network/network.ts';
import { takeFreed } from '../pages/freed.ts';
import { receiveMemory } from '../pages/memory-in-transit.ts';
import type { Pagers } from '../pages/pagers.ts';
import type { UnwrittenMemory } from '../pages/unwritten.ts';
import { carryWorkingSet } from '../pages/working-set.ts';
import type { PluginTime } from '../plugin-host/budget.ts';
import type { PluginHost } from '../plugin-host/plugin-host.ts';
import type { SuspendingPlugins } from '../plugin-host/suspending-plugins.ts';
import { identify, isAlive, waitGone } from '../process.ts';
import { encodeScreen } from '../screen/picture.ts';
import type { EngineSettings } from '../settings.ts';
import { dumpSockets } from '../sockets/sockets.ts';
import type { Quota } from '../store/quota.ts';
import {
  dumpLogFile,
  pictureFile,
  type SnapshotStore,
  type Stage,
  thumbnailFile,
} from '../store/snapshot-store.ts';
import { together } from '../together.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { Status, StatusOf, WorkloadRecord } from '../workload/record.ts';
import type { Registry } from '../workload/registry.ts';
import { lifeOf } from '../workload/rooms.ts';
import type { Workloads } from '../workload/workloads.ts';
import { describeHost } from './host.ts';
import { noSpace, noSpaceAt } from './no-space.ts';
import type { InspectionOptions, SuspendPlace } from './place.ts';
import { freePorts } from './ports.ts';
import type { Report } from './progress.ts';
import type { SetMember } from './set.ts';
import { stopAnew } from './stop-signals.ts';

/** CRIU ends the processes in milliseconds; one in the middle of a disk write may take longer. */
const goneLimitMs = 30_000;

export interface SuspendOutcome {
  manifest: Manifest;
  findings: Finding[];
}

export interface SuspendParts {
  registry: Registry;
  workloads: Workloads;
  cgroups: Cgroups;
  store: SnapshotStore;
  hashes: FileHashes;
  keptFiles: KeptFiles;
  installation: Installation;
  plugins: PluginHost;
  pagers: Pagers;
  unwritten: UnwrittenMemory;
  quota: Quota;
  settings: EngineSettings;
  log: Logger;
}

/** What is the same in all tries of one suspend. */
export interface SuspendOperation {
  report: Report;
  signal: AbortSignal;
  pluginTime: PluginTime;
  /** When its user last typed or pointed at something in it, as far as that is known. */
  lastUsedAt?: Date | undefined;
  /** Nobody asked for this very snapshot: it is one of those taken at an interval. */
  atInterval?: boolean;
}

/**
 * Suspends a running workload, or with `leaveRunning` only takes a snapshot of it; as a member of a set at one instant
 * with the others.
 * @throws TorporError `blocked` with the findings in its details, or `failed`; the application runs on either way.
 */
export async function suspend(
  parts: SuspendParts,
  record: WorkloadRecord & { status: StatusOf<'running'> },
  place: SuspendPlace,
  options: SuspendOptions,
  { report, signal, pluginTime, lastUsedAt, atInterval = false }: SuspendOperation,
  member?: SetMember,
): Promise<SuspendOutcome> {
  const requestedAt = performance.now();
  const { id, status } = record;
  const { leaveRunning, externalSockets } = options;
  await unlessAborted(parts.plugins.settled(id), signal);
  const plugins = parts.plugins.forSuspend(record, leaveRunning, pluginTime);
  const connections = await connectionsIn(record, place, options);
  report('inspect');
  const stage = await parts.store.stage();
  // While there is a stage the store is not tidied.
  const orDiscard = async (error: unknown): Promise<never> => {
    await parts.store.discard(stage);
    throw error;
  };
  const separateKept = async () => parts.keptFiles.separate(await place.pids());
  await separateKept().catch((error) => orDiscard(noSpace(error) ?? error));
  const memory = await receiveMemory(parts, record, stage, leaveRunning && atInterval).catch(orDiscard);
  await using _memory = memory;
  const scratch = parts.workloads.scratchFolder(id);
  await using sockets = await dumpSockets(externalSockets, scratch, parts.installation).catch(orDiscard);
  const found = plugins.inspect(signal);
  const examined = examine(place, record.name, { externalSockets, connections }, member, {
    found,
    pluginTime,
  });
  examined.catch(() => {});
  try {
    const { view } = place;
    const recordNow = async () => {
      const records = await recordFiles(await parts.cgroups.pids(id), view, parts.hashes);
      // While CRIU dumps a process, it has CRIU's own log open in it.
      return records.filter((each) => !each.path.startsWith(`${stage.folder}/`));
    };
    const lockNames = record.kind === 'capsule' ? (record.capsule.profiles?.lockFiles ?? []) : [];
    let committed: Manifest | undefined;
    let frozenAt = 0;
    let pictures: Promise<void> | undefined;
    let surroundings: Promise<FileRecord[]> | undefined;
    let movedSockets: Promise<MovedSocket[]> | undefined;
    let hostAndNetwork: Promise<[Manifest['host'], Manifest['network']]> | undefined;
    let noted: Promise<unknown> | undefined;
    let sharedPipes: SharedPipe[] = [];
    let expectedBytes = 0;
    let freedBytes = 0;
    let suspending: StatusOf<'suspending'> | undefined;
    let isReleasing = false;

    /** What is to be found out while all stand still. */
    const lookAtFrozen = async () => {
      const decided = await sockets.decide(record.name, stage.images, place.init.pid);
      const { connections: tool } = parts.installation;
      const [files, moved, connectionLock] = await unlessAborted(
        Promise.all([
          surroundings ?? recordNow(),
          movedSockets ?? [],
          connections === 'keep' ? lockOf(stage.images, tool, parts.log) : undefined,
        ]),
        signal,
      );
      await together([keepVolatile(files, view, stage.folder), place.keep(stage.folder)]);
      const locks = await findDocumentLocks(files, lockNames, new UserFiles(view.root, specOf(record).user));
      return { decided, files, moved, connectionLock, locks };
    };

    const commit = async (
      { decided, files, moved, connectionLock, locks }: Awaited<ReturnType<typeof lookAtFrozen>>,
      standstillMs: () => number,
    ) => {
      const { inspection } = await examined;
      const { facts } = inspection;
      const [[host, network], pages, inhibiting] = await unlessAborted(
        Promise.all([
          hostAndNetwork ?? hostAndNetworkOf(place, id),
          memory.receiver.done,
          heldInhibitors(record.name, facts.processes, facts.inhibitors ?? new Map(), stage.images),
          memory.receiver.done.then(() => stage.sealer.finish()),
          pictures,
          noted,
        ]),
        signal,
      );
      // The last moment at which it can be given up: then the snapshot exists.
      signal.throwIfAborted();
      return await parts.store.commit(stage, () => ({
        ...kindOf(record),
        workload: id,
        name: record.name,
        startedAt: record.startedAt,
        takenAt: new Date().toISOString(),
        leftRunning: leaveRunning,
        ...(lastUsedAt === undefined ? {} : { lastUsedAt: lastUsedAt.toISOString() }),
        ...(atInterval ? { atInterval } : {}),
        memoryBytes: inspection.memoryBytes,
        processes: facts.processes.map(({ pid, name }) => ({ pid, name })),
        standstillMs: standstillMs(),
        durableMs: performance.now() - requestedAt,
        host,
        pages: {
          images: pages.images,
          pages: pages.pages,
          zeroPages: pages.zeroPages,
          chunks: pages.chunks,
          storedBytes: pages.writtenBytes,
        },
        ...(memory.parent === undefined ? {} : { parent: memory.parent }),
        findings: [...inspection.findings, ...plugins.findings, ...locks.map(lockKept), ...decided.findings],
        ...(member === undefined ? {} : { session: member.session }),
        ...(decided.sockets.length === 0 ? {} : { externalSockets: decided.sockets }),
        ...(connectionLock === undefined ? {} : { connectionLock }),
        network,
        ...(sharedPipes.length === 0 ? {} : { sharedPipes }),
        ...(inhibiting.length === 0 ? {} : { inhibitors: inhibiting }),
        surroundings: withoutGoneFolders(files, moved),
        ...(moved.length === 0 ? {} : { movedSockets: moved }),
        ...(locks.length === 0 ? {} : { documentLocks: locks }),
        ...(plugins.states.length === 0 ? {} : { plugins: [...plugins.states] }),
      }));
    };

    // What runs on needs not stand still until its snapshot is durable; all of a set are committed at one instant.
    const goesOnAtOnce = leaveRunning && member === undefined;
    let seenFrozen: Awaited<ReturnType<typeof lookAtFrozen>> | undefined;
    const criu = member === undefined ? place.criu : place.criu.inSet();
    const dumped = criu.dump(
      {
        ...dumpOptions,
        ...connectionOptions(connections),
        ...place.options,
        pid: place.pid,
        imagesDir: stage.images,
        workDir: stage.folder,
        logFile: dumpLogFile,
        leaveRunning,
        freezeCgroup: parts.cgroups.pathOf(id),
        socketPlan: sockets.socketPlan,
        pageServer: { fd: memory.receiver.fd },
        leftOut: memory.leftOut,
      },
      {
        signal,
        // CRIU acts only after this: by it a new engine knows what to wait for and where the snapshot would be.
        onStarted: async (pid, tracerPid) => {
          memory.receiver.handOver();
          const criu = await identify(pid);
          const tracer = tracerPid === undefined ? undefined : await identify(tracerPid);
          suspending = {
            ...status,
            kind: 'suspending',
            stage: stage.id,
            leaveRunning,
            ...(member === undefined ? {} : { session: member.session.id }),
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
            const bytes = bytesToSave(inspection.facts);
            await parts.quota.makeRoom(bytes, signal, { workload: id, stage: stage.id });
            signal.throwIfAborted();
            report('detach');
            const freed = parts.settings.now.leaveOutFreed
              ? parts.cgroups.pids(id).then((pids) => takeFreed(parts.installation.freed, pids, parts.log))
              : undefined;
            await pluginTime.wait(
              plugins.preSuspend(signal, async (states) => {
                if (suspending === undefined) return;
                suspending = { ...suspending, plugins: [...states] };
                await parts.registry.setPassingStatus(id, suspending);
              }),
            );
            signal.throwIfAborted();
            await refuseIfHeld(place, inspection, { externalSockets, connections }, member);
            await place.detach(inspection);
            // A package may have been replaced meanwhile.
            await separateKept();
            await memory.hold();
            freedBytes = (await freed) ?? 0;
            await stopAnew(parts.cgroups, id, await parts.cgroups.pids(id));
            expectedBytes = bytes;
            report('freeze');
            pictures = writePictures(stage, picture);
            pictures.catch(() => {});
            const between = await member?.freeze(inspection.facts);
            if (between !== undefined) {
              sharedPipes = Array.from(between.pipes, ([inode, workloads]) => ({
                inode,
                workloads: [...workloads],
              }));
            }
            const usual = usualDecisions(inspection.facts);
            if (between !== undefined || usual.size > 0)
              await sockets.allow(between?.sockets ?? new Map(), usual);
            frozenAt = performance.now();
            // CRIU would look only after 100 ms whether all stand still.
            if (member === undefined) await parts.cgroups.freezeIfCalm(id);
          },
          // Comes as soon as all are frozen. The recording runs beside the dump.
          'query-ext-files': async () => {
            await sockets.lookFrozen(place.pid);
            report('checkpoint', () => ({ done: memory.receiver.received, total: expectedBytes }));
            await memory.take();
            stage.sealer.start();
            surroundings = recordNow();
            surroundings.catch(() => {});
            movedSockets = examined.then(({ inspection }) => findMovedSockets(inspection.facts));
            movedSockets.catch(() => {});
            hostAndNetwork = hostAndNetworkOf(place, id);
            hostAndNetwork.catch(() => {});
          },
          'post-dump': async () => {
            report('commit', async () => {
              const { done, total } = await stage.sealer.measure();
              // Of the memory little is left to be written by now.
              const { received } = memory.receiver;
              return { done: received + done, total: received + total };
            });
            signal.throwIfAborted();
            [seenFrozen] = await together([lookAtFrozen(), memory.taken()]);
            if (goesOnAtOnce) return;
            committed = await commit(seenFrozen, () => performance.now() - frozenAt);
            if (member !== undefined) await member.commit(committed.id, suspending);
            else await pointOfNoReturn(parts, id, suspending);
            isReleasing = !leaveRunning;
            if (!leaveRunning) await place.release();
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
    if (goesOnAtOnce && seenFrozen !== undefined) {
      await parts.cgroups.thaw(id);
      const standstillMs = performance.now() - frozenAt;
      await memory.letGo();
      committed = await commit(seenFrozen, () => standstillMs);
      report('release');
    }
    if (committed === undefined)
      throw new TorporError('failed', 'CRIU ended without having made a snapshot.');
    const undone = await release(parts, record, place, committed.id, leaveRunning, () =>
      pluginTime.wait(plugins.abort()),
    );
    // From here on nothing that fails changes what has been done.
    const afterwards = async (what: () => Promise<unknown>) => {
      await what().catch((error: unknown) =>
        parts.log.error({ err: error, workload: id }, 'not tidied after a suspend'),
      );
    };
    const { id: kept } = committed;
    await afterwards(() => parts.store.settle(kept));
    memory.kept(committed.id);
    if (!leaveRunning) await afterwards(() => memory.forget());
    if (status.snapshot !== undefined) {
      const before = parts.store.folderOf(status.snapshot);
      // Only a hint, which may not be there.
      await carryWorkingSet(before, parts.store.folderOf(committed.id)).catch(() => {});
    }
    if (!leaveRunning)
      await afterwards(async () =>
        freePorts(parts.installation.forget, (await examined).inspection.facts, parts.log),
      );
    report('done');
    parts.log.info(
      {
        workload: id,
        snapshot: committed.id,
        standstillMs: committed.standstillMs,
        durableMs: committed.durableMs,
        freedBytes,
        memory: await memory.receiver.done,
      },
      'suspended',
    );
    return { manifest: committed, findings: [...committed.findings, ...undone] };
  } catch (error) {
    // Of an application that cannot be suspended or has ended, CRIU may have come to know first, in its own words.
    const refusal = await examined.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    // Of a disk that is full, say, CRIU knows only that nobody took what it had.
    await memory.receiver[Symbol.asyncDispose]();
    const ofCriu = error instanceof CriuError && !signal.aborted;
    const cause = refusal ?? (ofCriu ? (memory.receiver.failure ?? error) : error);
    throw await putBack(parts, record, place, stage, cause, member, plugins);
  }
}

const hostAndNetworkOf = (place: SuspendPlace, id: string) =>
  Promise.all([describeHost(place.criu), recordNetwork(id)]);

/** What is there for a moment only is met a few times in a row at most. */
const mostTries = 8;
/**
 * How long CRIU waits for all to stop, in the first and each later try: what is in the middle of a vfork never stops, and
 * the application stands still meanwhile. A moment later it stops at once.
 */
const freezeSeconds = [1, 1, 1, 2, 3];

/**
 * Suspends, and again where that failed for what the application was at in the very moment of the freeze, and the
 * inspection had not seen: a viewer of the screen came back, a connection was being made and not accepted yet, a process
 * was being started, the kernel told it something that it had no time to read. The application runs on in between.
 */
export async function untilCalm<T>(suspendOnce: (freezeSeconds: number) => Promise<T>): Promise<T> {
  const limits = [...freezeSeconds];
  for (let tries = 1; ; tries++) {
    try {
      return await suspendOnce(limits[0] ?? 1);
    } catch (error) {
      const { cause } = error as Error;
      if (tries === mostTries || !(isMomentary(error) || isMomentary(cause))) throw error;
      if (cause instanceof CriuError && cause.isTimeout) limits.shift();
      if (limits.length === 0) throw error;
    }
  }
}

/** A socket that is bound elsewhere does not need the folder that it was bound in once. */
function withoutGoneFolders(files: readonly FileRecord[], moved: readonly MovedSocket[]): FileRecord[] {
  const folders = new Set(moved.map(({ from }) => posix.dirname(from)));
  const needed = new Set(moved.map(({ to }) => posix.dirname(to)));
  return files.filter(({ kind, path }) => kind !== 'socket-folder' || !folders.has(path) || needed.has(path));
}

/**
 * A snapshot of what runs on has no right to connections that go on without it.
 * @throws TorporError `blocked` where the user wants what is not possible here.
 */
async function connectionsIn(
  { kind, name }: WorkloadRecord,
  place: SuspendPlace,
  { leaveRunning, connections }: SuspendOptions,
): Promise<ConnectionChoice> {
  const wanted = leaveRunning ? 'close' : (connections ?? usualConnections[kind]);
  const possible = await possibleConnections(wanted, place.criu);
  if (possible === wanted || connections === undefined) return possible;
  throw new TorporError(
    'blocked',
    `The connections of ${name} cannot be kept: this kernel has no nftables to hold them with. Nothing was touched.`,
    'Load it (`modprobe nf_tables`), or close them: `--connections close`.',
  );
}

type Choices = Pick<InspectionOptions, 'externalSockets' | 'connections'>;

/** What there is to know beforehand. @throws TorporError `blocked`, or `failed` where the application has ended. */
async function examine(
  place: SuspendPlace,
  name: string,
  choices: Choices,
  member: SetMember | undefined,
  plugins: { found: Promise<Finding[]>; pluginTime: PluginTime },
): Promise<{ inspection: TreeInspection; picture: Picture | undefined }> {
  plugins.found.catch(() => {});
  const [inspection, picture] = await Promise.all([
    place.inspect({ ...choices, companions: await member?.companions() }),
    place.picture(),
  ]);
  const found = await plugins.pluginTime.wait(plugins.found);
  const findings = [...inspection.findings, ...found];
  refuseIfBlocked(name, findings);
  return { inspection: { ...inspection, findings }, picture };
}

/** @throws TorporError `blocked`, by the first finding that blocks. */
export function refuseIfBlocked(name: string, findings: readonly Finding[]): void {
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

/**
 * Where plugins held an end of something, looks whether they have let go, and not left it to a program of their own. Of a
 * socket CRIU would know, but not by whose fault; a pipe it would save without its other end.
 * @throws TorporError `failed` by the first that has not.
 */
async function refuseIfHeld(
  place: SuspendPlace,
  { findings }: TreeInspection,
  choices: Choices,
  member: SetMember | undefined,
): Promise<void> {
  if (!findings.some(isHeldByPlugin)) return;
  const { externalSockets = 'block' } = choices;
  const now = await place.inspect({ ...choices, companions: await member?.companions() });
  const held = now.findings.find((each) =>
    each.tie === 'pipe'
      ? isHeldByPlugin(each) || each.verdict === 'blocking'
      : // Otherwise it is the user's own wish what becomes of it.
        isHeldByPlugin(each) && externalSockets === 'block',
  );
  if (held === undefined) return;
  const by =
    held.by || findings.find(({ tie, ...each }) => tie === held.tie && isHeldByPlugin({ tie, ...each }))?.by;
  throw new TorporError(
    'failed',
    by === undefined ? held.what : `The plugin ${by} has not let go, as it should have: ${held.what}`,
    'See `torpor plugins`; end the plugin or mend it, and try again.',
  );
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
  place: SuspendPlace,
  snapshot: string,
  leaveRunning: boolean,
  abortPlugins: () => Promise<Finding[]>,
): Promise<Finding[]> {
  const { id, status } = record;
  if (leaveRunning) {
    // CRIU leaves it as it found it, and that of a set was frozen before.
    await parts.cgroups.thaw(id);
    await place.reattach();
    const undone = await abortPlugins();
    await parts.registry.setPassingStatus(id, { ...status, snapshot });
    return undone;
  }
  if (!(await waitGone(status.init, goneLimitMs))) await parts.cgroups.kill(id);
  // It is suspended whatever comes of this: an engine that starts would find so, too.
  await parts.workloads
    .cleanUp(id)
    .catch((error: unknown) => parts.log.error({ err: error, workload: id }, 'not all of it was removed'));
  await parts.registry
    .setPassingStatus(id, { kind: 'suspended', snapshot })
    .catch((error: unknown) => parts.log.error({ err: error, workload: id }, 'could not write its record'));
  return [];
}

/** After a failure: the state in which the application goes on, and the error that says so. */
async function putBack(
  parts: SuspendParts,
  record: WorkloadRecord & { status: StatusOf<'running'> },
  place: SuspendPlace,
  stage: Stage,
  error: unknown,
  member: SetMember | undefined,
  plugins: SuspendingPlugins,
): Promise<Error> {
  const { id, status } = record;
  const { connections } = parts.installation;
  const dumpLog = await parts.store.dumpLogOf(stage.id);
  await letGo(await parts.cgroups.pids(id), dumpLog, connections, parts.log);
  await parts.cgroups.thaw(id);
  // Of a set that has failed no snapshot remains.
  if (member?.isCommitted === false && (await parts.store.has(stage.id))) await parts.store.remove(stage.id);
  const init = await lifeOf(parts.cgroups, record, status);
  const alive = init !== undefined;
  const exists = await parts.store.has(stage.id);
  const full = exists ? undefined : await noSpaceAt(stage.folder);
  // First, because on a full disk this is what makes room for the record.
  if (!exists) await parts.store.discard(stage);
  const isSuspended = exists && !alive;
  // Then the failure came after the commit: the snapshot is whole and the application has been ended.
  if (isSuspended) await parts.workloads.cleanUp(id);
  else
    await place
      .reattach()
      .catch((failed: unknown) => parts.log.error({ err: failed, workload: id }, 'could not be put back'));
  if (alive) await plugins.abort();
  const before = init === undefined ? status : { ...status, init };
  const runs: Status = exists ? { ...before, snapshot: stage.id } : before;
  const now: Status = isSuspended ? { kind: 'suspended', snapshot: stage.id } : runs;
  await parts.registry.setStatusIfPossible(id, now, parts.log);
  if (!isSuspended) parts.workloads.watch(id);
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
