/**
 * Resume mirrors the suspend: verify, prepare the root, restore, and only then mark the snapshot used. Whatever fails
 * leaves the snapshot as it was, ready for another try. Memory contents come from the workload's pager, which looks at
 * every byte before it gives it away; those of a snapshot of the first version are files, which are hashed while CRIU
 * reads them: no process runs before both are done, because CRIU's post-restore notification is answered only then.
 */
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { Finding, ResumeChoices } from '../../api/types.ts';
import { type Manifest, specOf } from '../../proto/manifest.ts';
import { unlessAborted } from '../abort.ts';
import { refuseMissingMounts } from '../capsule/missing-mounts.ts';
import { restoreClocks } from '../clocks/clocks.ts';
import { type Claim, restoreConnections } from '../connections/restored.ts';
import { CriuError } from '../criu/criu-error.ts';
import { compareDocumentLocks } from '../files/document-locks.ts';
import { ownGhosts } from '../files/ghosts.ts';
import type { KeptFiles } from '../files/kept-files.ts';
import { placeMovedSockets } from '../files/moved-sockets.ts';
import { UserFiles } from '../files/user-files.ts';
import { takeInhibitors } from '../inhibitors/inhibitors.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import { meetNetwork } from '../network/network.ts';
import { type MemorySource, memoryOf } from '../pages/memory-source.ts';
import type { Pagers } from '../pages/pagers.ts';
import type { PluginTime } from '../plugin-host/budget.ts';
import type { PluginHost } from '../plugin-host/plugin-host.ts';
import type { ResumingPlugins } from '../plugin-host/resuming-plugins.ts';
import { identify } from '../process.ts';
import { restoreSockets } from '../sockets/sockets.ts';
import { type SnapshotStore, sizesOf } from '../store/snapshot-store.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { Status, StatusOf, WorkloadRecord } from '../workload/record.ts';
import type { Registry } from '../workload/registry.ts';
import { roomCgroup } from '../workload/rooms.ts';
import type { Workloads } from '../workload/workloads.ts';
import { refuseOtherCpu } from './cpu.ts';
import { mendedMappings } from './mapping-flags.ts';
import { noSpace } from './no-space.ts';
import type { ResumePlace } from './place.ts';
import { type Report, Tally } from './progress.ts';
import type { ResumeMember } from './resume-set.ts';
import { type Prepared, prepareSurroundings } from './surroundings.ts';
import { refuseTakenLocks } from './taken-locks.ts';

export interface ResumeParts {
  registry: Registry;
  workloads: Workloads;
  cgroups: Cgroups;
  store: SnapshotStore;
  installation: Installation;
  plugins: PluginHost;
  pagers: Pagers;
  keptFiles: KeptFiles;
  log: Logger;
}

export interface ResumeOutcome {
  findings: Finding[];
  criuMs: number;
  /** How long it waited for plugins, in milliseconds. */
  pluginsMs: number;
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
  makePlace: () => Promise<ResumePlace>,
  report: Report,
  signal: AbortSignal,
  choices: ResumeChoices = {},
  member?: ResumeMember,
): Promise<ResumeOutcome> {
  await unlessAborted(parts.plugins.settled(record.id), signal);
  const ofNetwork =
    member?.network ?? (await meetNetwork(manifest, choices.waitNetwork, () => report('network'), signal));
  const pluginTime = parts.plugins.time();
  const { status } = record;
  const isFirst = status.kind === 'suspended' && status.snapshot === manifest.id;
  const tryOnce = async (claim: Claim, how: ResumeChoices) => {
    const outcome = await resumeOnce(
      ...([parts, record, manifest, makePlace, report, signal, how, member, claim, pluginTime] as const),
    );
    return { ...outcome, findings: [...ofNetwork, ...outcome.findings] };
  };
  const tryWith = async (claim: Claim) => {
    try {
      return await tryOnce(claim, choices);
    } catch (error) {
      const { cause } = error as Error;
      // Of a set all others would have to begin again too.
      const isFinal = choices.eager || member !== undefined || signal.aborted;
      const mayBeLazy = manifest.kind === 'capsule' && manifest.pages !== undefined;
      if (
        isFinal ||
        !mayBeLazy ||
        !(cause instanceof CriuError) ||
        cause.wasKilled ||
        cause.isAboutConnections
      )
        throw error;
      // What keeps CRIU from restoring lazily may not matter where all memory is there first.
      parts.log.warn({ workload: record.id, snapshot: manifest.id }, 'resumed eagerly after all');
      return await tryOnce(claim, { ...choices, eager: true });
    }
  };
  if (manifest.connectionLock === undefined || !isFirst) return tryWith('none');
  try {
    return await tryWith('keep');
  } catch (error) {
    const { cause } = error as Error;
    if (!(cause instanceof CriuError && cause.isAboutConnections) || signal.aborted) throw error;
    if (member !== undefined) throw withoutOthers(error as TorporError, record.name);
    const outcome = await tryWith('close');
    return { ...outcome, findings: [...outcome.findings, notKept(cause)] };
  }
}

/** Of a set all others would have to begin again too, so that is left to the user. */
function withoutOthers({ code, message, details }: TorporError, name: string): TorporError {
  return new TorporError(
    code,
    message,
    `Resume ${name} by itself: then it comes back with its connections closed.`,
    details,
  );
}

function notKept({ message }: CriuError): Finding {
  return {
    tie: 'internet-socket',
    verdict: 'degraded',
    by: 'engine',
    what: `Its network connections could not be kept: ${message}`,
    hint: 'They are closed, as if the other side had hung up.',
  };
}

async function resumeOnce(
  parts: ResumeParts,
  record: WorkloadRecord,
  manifest: Manifest,
  makePlace: () => Promise<ResumePlace>,
  report: Report,
  signal: AbortSignal,
  choices: ResumeChoices,
  member: ResumeMember | undefined,
  claim: Claim,
  pluginTime: PluginTime,
): Promise<ResumeOutcome> {
  const { id, status: before } = record;
  const sizes = sizesOf(manifest);
  const parsed = new Tally(sizes.parsed);
  report('verify', parsed.measure);
  const cpuFindings = await refuseOtherCpu(manifest);
  const verified = await parts.store.verifyBeforeRestore(manifest, parsed.add);
  await using _opened = await parts.store.open(manifest);
  const contents = parts.store.contentFolderOf(manifest.id);
  const imagesDir = join(contents, 'images');
  await refuseMissingMounts(manifest, imagesDir);
  signal.throwIfAborted();

  report('prepare');
  const scratch = parts.workloads.scratchFolder(id);
  const stop = new AbortController();
  const givenUp = AbortSignal.any([signal, stop.signal]);
  const resuming: StatusOf<'resuming'> =
    before.kind === 'resuming' ? before : { kind: 'resuming', snapshot: manifest.id };
  let current = resuming;
  const noteStatus = async (change: Partial<StatusOf<'resuming'>>) => {
    current = { ...current, ...change };
    await parts.registry.setPassingStatus(id, current);
  };
  let prepared: Prepared | undefined;
  let place: ResumePlace | undefined;
  let plugins: ResumingPlugins | undefined;
  let source: Promise<MemorySource> | undefined;
  try {
    await mkdir(scratch, { recursive: true, mode: 0o700 });
    const looked = Promise.all([ownGhosts(imagesDir, manifest.id), mendedMappings(imagesDir)]);
    looked.catch(() => {});
    place = await makePlace();
    const { initOf } = place;
    // They come to be there while the rest is prepared.
    source = memoryOf(parts, id, manifest, place.criu, choices.eager ?? false);
    source.catch(() => {});
    plugins = parts.plugins.forResume(record, manifest, {
      copy: resuming.copy ?? false,
      time: pluginTime,
      signal,
      // On a full disk too they are called.
      note: (names) =>
        noteStatus({ plugins: names }).catch((error: unknown) =>
          parts.log.warn({ err: error, workload: id }, 'could not write which plugins were called'),
        ),
    });
    const seen = new UserFiles(place.view.root, specOf(manifest).user);
    const lockFindings = await compareDocumentLocks(manifest.documentLocks ?? [], seen);
    await refuseTakenLocks(manifest, place.view);
    prepared = await prepareSurroundings(manifest, imagesDir, place, contents, parts.keptFiles);
    const [ghosts, mended] = await looked;
    const rewritten = new Map([...prepared.rewritten, ...ghosts.rewritten, ...place.rewritten, ...mended]);
    await placeSockets(manifest, imagesDir, rewritten);
    const clocks = await restoreClocks(manifest, imagesDir, rewritten, choices.clock ?? 'keep');
    const connections = await restoreConnections(manifest, imagesDir, rewritten, claim);
    const busLines = {
      program: parts.installation.busLines,
      cgroup: () => parts.cgroups.make(roomCgroup(id)),
    };
    await using sockets = await restoreSockets(
      ...([
        manifest,
        imagesDir,
        scratch,
        member?.connect,
        busLines,
        choices.externalSockets,
        givenUp,
      ] as const),
    );
    using inhibitors = await takeInhibitors(manifest.inhibitors, imagesDir, rewritten, givenUp);
    const memory = await source;
    const isViewed = place.needsView || rewritten.size > 0 || memory.files.length > 0;
    const images = isViewed
      ? viewOfImages(imagesDir, rewritten, ghosts.renamed, memory.files, join(scratch, 'images'))
      : imagesDir;

    // CRIU reads the same bytes beside it, and is asked for nothing while it does.
    const hashed = new Tally(sizes.pages);
    report('restore', memory.measure ?? hashed.measure);
    const pages = verified.pages(givenUp, hashed.add);
    // CRIU may wait for ever for what a damaged file does not have: it is not left to come to the notification.
    pages.catch((error: unknown) => stop.abort(error));
    const startedAt = performance.now();
    let criuPid = 0;
    const criuOf = member === undefined ? place.criu : place.criu.inSet();
    await criuOf.restore(
      {
        ...place.options,
        imagesDir: images,
        workDir: scratch,
        logFile: 'restore.log',
        fileLocks: true,
        lazyPages: memory.isLazy,
        ...connections.options,
        ...sockets.options,
        inheritFd: [...(member?.pipes() ?? []), ...inhibitors.inherited],
      },
      {
        signal: givenUp,
        onStarted: async (pid) => {
          const criu = await identify(pid);
          criuPid = pid;
          if (criu !== undefined) current = { ...current, criu };
          await parts.registry.setStatus(id, current);
        },
        onNotify: {
          // The last one that CRIU lets fail: everything is restored and nothing has run yet.
          'post-restore': async (pid) => {
            await pages;
            signal.throwIfAborted();
            await noteStatus((await initOf(pid)) ?? {});
            if (plugins !== undefined) await pluginTime.wait(plugins.beforeItRuns());
            await member?.restored();
          },
          // CRIU lets one process after the other go: none of them is to run, and end another, before it is done.
          // In the room of a job CRIU has a parent between itself and the engine, whose pid this would be.
          'pre-resume': async () => {
            if (manifest.kind === 'capsule') await parts.cgroups.holdWithout(id, criuPid);
          },
        },
      },
    );
    await memory.restored(current.init);
    await parts.cgroups.thaw(id);
    const criuMs = performance.now() - startedAt - pluginTime.waitedMs;
    const foundByPlugins = await pluginTime.wait(plugins.afterItRuns());
    await becomeRunning(parts, id, manifest.id);
    memory.follow();
    const findings = [
      ...place.findings,
      ...prepared.findings,
      ...lockFindings,
      ...cpuFindings,
      clocks,
      ...connections.findings,
      ...inhibitors.findings,
      ...(await sockets.findings().catch(() => [])),
      ...foundByPlugins,
    ];
    report('done');
    return { findings, criuMs, pluginsMs: pluginTime.waitedMs };
  } catch (error) {
    stop.abort();
    await parts.store.keepFailure(manifest.id, join(scratch, 'restore.log'));
    await parts.cgroups.kill(id);
    // What CRIU says of a file that it could not read is not why.
    const memory = await source?.catch(() => undefined);
    const cause = (await memory?.problem()) ?? error;
    await memory?.end();
    await plugins?.abort();
    await parts.workloads.cleanUp(id);
    await parts.registry.setStatusIfPossible(id, before, parts.log);
    parts.log.warn({ err: cause, workload: id, snapshot: manifest.id }, 'resume failed');
    throw failure(record.name, manifest.id, cause);
  } finally {
    place?.done();
    await prepared?.afterwards();
    await parts.workloads.removeScratch(id);
  }
}

/** It runs already, so nothing that cannot be written down may end it. */
async function becomeRunning(parts: ResumeParts, id: string, snapshot: string): Promise<void> {
  const status = parts.registry.get(id)?.status;
  if (status?.kind !== 'resuming' || status.init === undefined) {
    throw new TorporError('failed', 'CRIU ended without saying which process it made.');
  }
  const { init, room } = status;
  const note = (what: string) => (error: unknown) =>
    parts.log.error({ err: error, workload: id, snapshot }, `could not write ${what}`);
  const running: Status = { kind: 'running', init, snapshot, ...(room === undefined ? {} : { room }) };
  await parts.registry.setPassingStatus(id, running).catch(note('its record'));
  parts.workloads.watch(id);
  await parts.store.markUsed(snapshot).catch(note('that its snapshot was used'));
  parts.log.info({ workload: id, snapshot, pid: status.init.pid }, 'resumed');
}

/** Sockets are bound where they have come to, and not where they were bound first. */
async function placeSockets(
  { movedSockets = [] }: Manifest,
  imagesDir: string,
  rewritten: Map<string, Buffer>,
): Promise<void> {
  if (movedSockets.length === 0) return;
  const image = rewritten.get('files.img') ?? (await readFile(join(imagesDir, 'files.img')));
  const placed = placeMovedSockets(image, movedSockets);
  if (placed !== undefined) rewritten.set('files.img', placed);
}

/**
 * The images as CRIU shall read them. A snapshot is immutable: where an image must be rewritten, CRIU gets a folder of
 * links with the new one among them.
 */
function viewOfImages(
  imagesDir: string,
  changed: ReadonlyMap<string, Buffer>,
  renamed: ReadonlyMap<string, string>,
  memory: readonly string[],
  viewDir: string,
): string {
  // Hundreds of small files in memory: to take turns for each would be most of the time.
  mkdirSync(viewDir, { recursive: true, mode: 0o700 });
  // Relative ones: they are followed from this folder also by those for whom other things lie at the same paths.
  const link = (path: string, name: string) => symlinkSync(relative(viewDir, path), join(viewDir, name));
  for (const name of readdirSync(imagesDir)) {
    const rewritten = changed.get(name);
    if (rewritten === undefined) link(join(imagesDir, name), name);
    else writeFileSync(join(viewDir, name), rewritten, { mode: 0o600 });
  }
  for (const [name, old] of renamed) link(join(imagesDir, old), name);
  for (const path of memory) link(path, basename(path));
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
