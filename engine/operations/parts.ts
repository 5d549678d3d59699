import type { EnginePaths } from '../../api/paths.ts';
import type { Progress } from '../../api/types.ts';
import { specOf } from '../../proto/manifest.ts';
import type { Bundles } from '../bundle/bundles.ts';
import type { Capsules } from '../capsule/capsules.ts';
import type { CriuClient } from '../criu/client.ts';
import type { ExecRelay } from '../exec/relay.ts';
import type { FileHashes } from '../files/hashes.ts';
import type { KeptFiles } from '../files/kept-files.ts';
import type { Inspector } from '../inspect/inspector.ts';
import type { Installation } from '../installation.ts';
import type { Intervals } from '../intervals/intervals.ts';
import type { Jobs } from '../job/jobs.ts';
import type { Locks } from '../locks.ts';
import type { Logger } from '../log.ts';
import type { Desktop } from '../nap/desktop.ts';
import type { Holder } from '../nap/hold.ts';
import type { Measurements } from '../nap/measurements.ts';
import type { Naps } from '../nap/naps.ts';
import type { NeverNap } from '../nap/never.ts';
import type { PressureWatcher } from '../nap/pressure.ts';
import type { SoundUse } from '../nap/sound.ts';
import type { Transfers } from '../nap/transfers.ts';
import type { Pagers } from '../pages/pagers.ts';
import type { UnwrittenMemory } from '../pages/unwritten.ts';
import type { PluginHost } from '../plugin-host/plugin-host.ts';
import type { PluginPrograms } from '../plugin-host/plugin-programs.ts';
import type { UserSessions } from '../plugin-host/user-sessions.ts';
import type { Profiles } from '../profiles/profiles.ts';
import type { Removal } from '../removal.ts';
import type { CapsuleWindows } from '../screen/windows.ts';
import type { EngineSettings } from '../settings.ts';
import type { Policies } from '../shutdown/policies.ts';
import type { PublishedPictures } from '../store/published-pictures.ts';
import type { Quota } from '../store/quota.ts';
import type { Sessions } from '../store/sessions.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import type { Upkeep } from '../store/upkeep.ts';
import { Reporter } from '../transaction/progress.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { Registry } from '../workload/registry.ts';
import type { Workloads } from '../workload/workloads.ts';

import type { Descriptions } from './descriptions.ts';
import type { References } from './references.ts';

export interface EngineParts {
  paths: EnginePaths;
  installation: Installation;
  registry: Registry;
  workloads: Workloads;
  capsules: Capsules;
  jobs: Jobs;
  cgroups: Cgroups;
  store: SnapshotStore;
  upkeep: Upkeep;
  quota: Quota;
  removal: Removal;
  settings: EngineSettings;
  locks: Locks;
  sessions: Sessions;
  policies: Policies;
  pictures: PublishedPictures;
  criu: CriuClient;
  inspector: Inspector;
  hashes: FileHashes;
  keptFiles: KeptFiles;
  exec: ExecRelay;
  windows: CapsuleWindows;
  profiles: Profiles;
  plugins: PluginHost;
  pluginPrograms: PluginPrograms;
  userSessions: UserSessions;
  intervals: Intervals;
  pagers: Pagers;
  unwritten: UnwrittenMemory;
  bundles: Bundles;
  holder: Holder;
  desktop: Desktop;
  naps: Naps;
  pressure: PressureWatcher;
  soundUse: SoundUse;
  transfers: Transfers;
  neverNap: NeverNap;
  measurements: Measurements;
  log: Logger;
}

export interface OperationParts extends EngineParts {
  references: References;
  descriptions: Descriptions;
  emitProgress: (progress: Progress, ownerUid: number) => void;
}

/** Tells a workload's owner how far an operation on it is. */
export function reporterFor(
  { log, emitProgress }: Pick<OperationParts, 'log' | 'emitProgress'>,
  record: WorkloadRecord,
  operation: Progress['operation'],
): Reporter {
  return new Reporter(record.id, operation, (progress) => {
    log.debug({ workload: record.id, operation, phase: progress.phase }, 'phase');
    emitProgress(progress, specOf(record).user.uid);
  });
}
