/**
 * torpord, the engine: opens the state folder, finds what an earlier engine left, and answers on the bus until it is
 * told to stop. With `--on-demand`, as the command line starts it, it also stops when it has had nothing to do for a
 * while or when its state folder has been removed.
 */

import { existsSync } from 'node:fs';
import { chmod, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { type EngineAddress, type EnginePaths, enginePaths } from '../api/paths.ts';
import { becomeSubreaper } from '../native/child-reaper.ts';
import { lockFolder } from '../native/folder-lock.ts';
import { keepDescriptorsFromChildren } from '../native/inherited-descriptors.ts';
import { version } from '../package.json';
import { specOf } from '../proto/manifest.ts';
import { Bundles } from './bundle/bundles.ts';
import { Polkit } from './bus/authorization.ts';
import { chooseBus } from './bus/choose-bus.ts';
import { BusService } from './bus/service.ts';
import { Capsules } from './capsule/capsules.ts';
import { CriuClient } from './criu/client.ts';
import { withoutCriu } from './criu/own-processes.ts';
import { privateFolder, writeDurable } from './durable.ts';
import { Engine } from './engine.ts';
import { ExecRelay } from './exec/relay.ts';
import { FileHashes } from './files/hashes.ts';
import { KeptFiles } from './files/kept-files.ts';
import { Inspector } from './inspect/inspector.ts';
import { findInstallation } from './installation.ts';
import { Intervals, systemClock } from './intervals/intervals.ts';
import { disown } from './job/disown.ts';
import { Jobs } from './job/jobs.ts';
import { Locks } from './locks.ts';
import { openLog } from './log.ts';
import { readMounts } from './mounts.ts';
import { Desktop } from './nap/desktop.ts';
import { Holder } from './nap/hold.ts';
import { Measurements } from './nap/measurements.ts';
import { Naps } from './nap/naps.ts';
import { NeverNap } from './nap/never.ts';
import { PressureWatcher } from './nap/pressure.ts';
import { SoundUse } from './nap/sound.ts';
import { Transfers } from './nap/transfers.ts';
import { Pagers } from './pages/pagers.ts';
import { UnwrittenMemory } from './pages/unwritten.ts';
import { PluginCgroups } from './plugin-host/plugin-cgroups.ts';
import { PluginHost } from './plugin-host/plugin-host.ts';
import { PluginPrograms } from './plugin-host/plugin-programs.ts';
import { Residents, runsSoon } from './plugin-host/residents.ts';
import { UserSessions } from './plugin-host/user-sessions.ts';
import { waitGone } from './process.ts';
import { Agreements } from './profiles/agreements.ts';
import { Profiles } from './profiles/profiles.ts';
import { Removal } from './removal.ts';
import { CapsuleWindows } from './screen/windows.ts';
import { EngineSettings } from './settings.ts';
import { Policies } from './shutdown/policies.ts';
import { guardShutdown } from './shutdown/shutdown.ts';
import { Encryption } from './store/encryption/encryption.ts';
import { PagesProgram } from './store/pages-program.ts';
import { PublishedPictures } from './store/published-pictures.ts';
import { Quota } from './store/quota.ts';
import { Sessions } from './store/sessions.ts';
import { SnapshotStore } from './store/snapshot-store.ts';
import { Upkeep } from './store/upkeep.ts';
import { recover } from './transaction/recover.ts';
import { Cgroups } from './workload/cgroup.ts';
import type { WorkloadRecord } from './workload/record.ts';
import { Registry } from './workload/registry.ts';
import { Workloads } from './workload/workloads.ts';

const idleLimitMs = 15 * 60_000;
const goneLimitMs = 10_000;
const idleCheckMs = 2000;
/** How long one plugin may keep one suspend or resume waiting. */
const pluginLimitMs = 10_000;

/** Opens the folders the engine works in. @throws TorporError `failed` where they cannot be written. */
async function openFolders(paths: EnginePaths): Promise<void> {
  try {
    await privateFolder(paths.stateDir);
    await chmod(paths.stateDir, 0o700);
    await mkdir(paths.runDir, { recursive: true, mode: 0o755 });
    // Two that were started at the same moment must not be in each other's way.
    const trial = join(paths.stateDir, `.writable-${process.pid}`);
    await writeDurable(trial, '');
    await rm(trial);
  } catch (error) {
    throw new TorporError(
      'failed',
      `The state folder ${paths.stateDir} cannot be written: ${sentenceOf(error)}.`,
      'Free some space, mount it writable, or name another one by TORPOR_STATE_DIR.',
    );
  }
}

async function main(onDemand: boolean): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new TorporError('not-permitted', 'The engine must run as root.', 'Start it with sudo.');
  }
  const paths = enginePaths();
  await openFolders(paths);
  using _lock = takeLock(paths);
  const log = openLog(paths.stateDir);
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'defect');
    process.exit(70);
  });
  becomeSubreaper();
  keepDescriptorsFromChildren();
  log.info({ version, pid: process.pid, stateDir: paths.stateDir }, 'engine starts');

  const installation = findInstallation();
  const encryption = await Encryption.open(paths.stateDir, log);
  const pages = new PagesProgram(installation.pages, paths.stateDir, log, () => encryption.forPrograms());
  const store = await SnapshotStore.open(paths.stateDir, pages, log, { encryption, runDir: paths.runDir });
  const settings = await EngineSettings.open(paths.stateDir, log);
  const sessions = await Sessions.open(paths.stateDir);
  const policies = await Policies.open(paths.stateDir, log);
  const registry = await Registry.open(paths.stateDir, log);
  const cgroups = await Cgroups.find(paths.tag);
  const workloads = new Workloads(paths, registry, cgroups, log);
  const profiles = new Profiles(installation.profiles, await Agreements.open(paths.stateDir, log), log);
  const capsules = new Capsules(workloads, installation, registry, cgroups, profiles, settings, log);
  const criu = new CriuClient({
    criuPath: installation.criu,
    rlimitPreload: installation.rlimitPreload,
    restorePreload: installation.restorePreload,
    unwrittenPreload: installation.unwritten.preload,
    pluginFolder: installation.criuPlugins,
    programFolder: installation.criuPrograms,
    tracer: installation.tracer,
    logger: log,
  });
  const intervals = await Intervals.open(paths.stateDir, systemClock, log);
  const userSessions = await UserSessions.open(join(paths.runDir, 'sessions.json'), log);
  const isBusy = (uid: number) =>
    registry.all().some((each) => runsSoon(each) && specOf(each).user.uid === uid);
  const pluginPrograms = new PluginPrograms(
    installation.plugins,
    userSessions,
    await PluginCgroups.open(paths.tag),
    isBusy,
    log,
  );
  const inspector = new Inspector(paths, installation, cgroups, (uid) => pluginPrograms.processes(uid));
  const jobs = new Jobs({ registry, workloads, cgroups, criu, installation, inspector, log });
  const hashes = new FileHashes(join(paths.stateDir, 'file-hashes.json'), log);
  const keptFiles = await KeptFiles.open(
    paths.stateDir,
    {
      ofSnapshots: () => store.systemFilesNeeded(),
      running: async () => (await Promise.all((await cgroups.ids()).map((id) => cgroups.pids(id)))).flat(),
    },
    log,
  );
  const exec = new ExecRelay(paths, installation, cgroups, log);
  const pictures = new PublishedPictures(paths.runDir, store);
  const windows = new CapsuleWindows(installation);
  const plugins = new PluginHost(pluginPrograms, {
    limitMs: Number(process.env.TORPOR_PLUGIN_LIMIT_MS) || pluginLimitMs,
    runFolder: (id) => workloads.runFolder(id),
    pids: async (record) => {
      const pids = await (record.kind === 'job' ? jobs.pids(record) : cgroups.pids(record.id));
      const isResuming = registry.get(record.id)?.status.kind === 'resuming';
      return isResuming ? withoutCriu(pids, installation.criu) : pids;
    },
    log,
  });
  let service: BusService | undefined;
  const tellOf = (record: WorkloadRecord | undefined) => {
    if (record === undefined || record.preparing) return;
    void engine
      .describe(record)
      .then((workload) => service?.emit('workloadChanged', specOf(record).user.uid, workload))
      .catch((error: unknown) => log.error({ err: error }, 'could not tell of a change'));
  };
  const pagers = new Pagers({
    runDir: paths.runDir,
    log,
    changed: (id) => tellOf(registry.get(id)),
    failed: async (id, snapshot, what) => {
      const status = registry.get(id)?.status;
      if (status?.kind !== 'running') return;
      await cgroups.kill(id);
      await waitGone(status.init, goneLimitMs);
      await workloads.recordEnd(
        id,
        `its memory could not be read from snapshot ${snapshot}: ${what}; the snapshot is as it was`,
      );
    },
  });
  const unwritten = new UnwrittenMemory(installation.unwritten.program, log);
  const locks = new Locks();
  const removal = new Removal({
    store,
    registry,
    workloads,
    installation,
    pictures,
    pagers,
    intervals,
    locks,
    log,
  });
  const upkeep = new Upkeep(store, pages, log);
  const quota = new Quota({
    ...{ store, upkeep, settings, log },
    isNeeded: (id) => removal.isNeeded(id),
    remove: (id) => removal.remove(id, { reason: 'quota' }),
  });
  const bundles = new Bundles({
    ...{ installation, store, registry, workloads, hashes, locks, log },
    runDir: paths.runDir,
  });
  const holder = new Holder(await readMounts(), paths.tag);
  const desktop = new Desktop(installation.desktop);
  using pressure = new PressureWatcher(installation.pressure, log, (value) =>
    service?.emit('pressureRose', undefined, value),
  );
  const naps = new Naps({ registry, installation, holder, desktop, log });
  const owed = await recover({ registry, workloads, cgroups, store, sessions, installation, pagers, log });
  for (const id of await naps.recover()) await disown({ registry, store, workloads }, id);
  await pictures.sweep();
  await sessions.sweep(await store.ids());
  await bundles.sweep();
  await store.listSystemFiles();
  await keptFiles.sweep();
  upkeep.start();

  const engine = new Engine(
    {
      paths,
      installation,
      registry,
      workloads,
      capsules,
      jobs,
      cgroups,
      store,
      upkeep,
      quota,
      removal,
      settings,
      locks,
      sessions,
      policies,
      pictures,
      criu,
      inspector,
      hashes,
      keptFiles,
      exec,
      windows,
      profiles,
      plugins,
      pluginPrograms,
      userSessions,
      intervals,
      pagers,
      unwritten,
      bundles,
      holder,
      desktop,
      naps,
      pressure,
      soundUse: new SoundUse(installation.playing, log),
      transfers: new Transfers(installation.transfers, log),
      neverNap: await NeverNap.open(paths.stateDir, log),
      measurements: await Measurements.open(paths.stateDir, log),
      log,
    },
    (progress, ownerUid) => service?.emit('progress', ownerUid, progress),
  );
  await engine.tidy();
  const properties = { Version: version, StateDir: paths.stateDir };
  await using bus = await chooseBus(paths, log, async (connection, address, kind) => {
    const candidate = new BusService(
      connection,
      engine,
      properties,
      log,
      (name) => pluginPrograms.isPlugin(name),
      kind === 'system' ? new Polkit(connection, log) : undefined,
      (left) =>
        void engine
          .left(left)
          .catch((error: unknown) => log.error({ err: error }, 'what it kept asleep may nap still')),
    );
    pluginPrograms.attach(connection, address);
    await candidate.start();
    service = candidate;
  });
  store.onChange(({ workload, ownerUid }) => service?.emit('snapshotsChanged', ownerUid, workload));
  const sweepLayers = () => {
    bundles.sweep().catch((error: unknown) => log.error({ err: error }, 'layers were not swept'));
  };
  store.onChange(({ what }) => {
    if (what === 'removed') {
      sweepLayers();
      void keptFiles.sweep();
    }
  });
  registry.onForgotten(sweepLayers);
  registry.onForgotten((record) => service?.emit('workloadForgotten', specOf(record).user.uid, record.id));
  const residents = new Residents(pluginPrograms, isBusy, log);
  registry.onChange((record) => residents.follow(record));
  registry.onForgotten(({ id }) => residents.forget(id));
  registry.onChange((record) => {
    if (record.status.kind === 'ended') {
      unwritten.end(record.id);
      void keptFiles.sweep();
    }
    intervals.follow(record.id);
    bundles.follow(record);
    tellOf(record);
  });
  registry.onForgotten(({ id }) => {
    unwritten.end(id);
    intervals
      .end(id)
      .catch((error: unknown) => log.error({ err: error, workload: id }, 'its interval remains'));
  });
  await intervals.start(
    {
      runs: (id) => {
        const status = registry.get(id)?.status;
        return status?.kind === 'suspending' || (status?.kind === 'running' && status.nap === undefined);
      },
      take: (id, interval) => engine.takeTurn(id, interval),
      changed: (id) => tellOf(registry.get(id)),
    },
    (id) => registry.get(id) !== undefined,
  );

  for (const { id, status } of registry.all()) {
    if (status.kind === 'running' && status.snapshot !== undefined)
      await pagers.find(id, status.snapshot, status.init.pid);
  }
  plugins.settle(owed);
  for (const record of registry.all()) residents.follow(record);
  await using guard =
    bus.kind === 'system'
      ? await guardShutdown({ connection: bus.connection, registry, policies, engine, log })
      : undefined;
  const address: EngineAddress = { pid: process.pid, address: bus.address, version };
  await writeDurable(paths.addressFile, JSON.stringify(address), 0o644);
  await chmod(paths.addressFile, 0o644);
  log.info({ bus: bus.kind, address: bus.address }, 'engine answers');
  engine.arrive();

  const reason = await new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
    bus.connection.onLost(() => resolve('the bus has gone'));
    if (onDemand) whenIdle(paths, engine, () => service?.lastCall ?? 0, resolve);
  });
  log.info({ reason }, 'engine stops');
  await guard?.beforeEnd();
  intervals.stop();
  unwritten.endAll();
  workloads.stop();
  await upkeep.stop();
  residents.stop();
  await pluginPrograms.end();
  await hashes.flush();
  await cgroups.removeAll();
  await rm(paths.addressFile, { force: true });
}

function takeLock(paths: EnginePaths): Disposable {
  const lock = lockFolder(paths.stateDir);
  if (lock !== undefined) return lock;
  throw new TorporError(
    'failed',
    `Another engine works in the state folder ${paths.stateDir}.`,
    'Use that one, or name another folder by TORPOR_STATE_DIR.',
  );
}

function whenIdle(
  paths: EnginePaths,
  engine: Engine,
  lastCall: () => number,
  stop: (reason: string) => void,
): void {
  const startedAt = Date.now();
  setInterval(() => {
    if (!existsSync(paths.stateDir)) stop('the state folder was removed');
    else if (!engine.busy && Date.now() - Math.max(startedAt, lastCall()) > idleLimitMs)
      stop('nothing to do');
  }, idleCheckMs).unref();
}

main(process.argv.includes('--on-demand')).then(
  // Waiting receives of the bindings would keep the process alive.
  () => process.exit(0),
  (error: unknown) => {
    const known = error instanceof TorporError;
    process.stderr.write(`torpord: ${sentenceOf(error)}${known && error.hint ? ` ${error.hint}` : ''}\n`);
    process.exit(1);
  },
);
