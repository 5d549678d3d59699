/** A capsule as a suspend and a resume meet it: CRIU takes all of it, from its init on. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CapsuleSpec } from '../../proto/manifest.ts';
import type { CriuClient } from '../criu/client.ts';
import type { Inspector } from '../inspect/inspector.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import { identify } from '../process.ts';
import { captureScreen } from '../screen/picture.ts';
import { cutViewers } from '../screen/viewers.ts';
import type { ResumePlace, SuspendPlace } from '../transaction/place.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { CapsuleRecord, StatusOf } from '../workload/record.ts';
import type { Workloads } from '../workload/workloads.ts';
import type { Capsules } from './capsules.ts';
import { missingMounts, standsIn } from './missing-mounts.ts';
import { dumpMounts, restoreMounts } from './mount-keys.ts';
import { cutRelay } from './sound.ts';

export interface CapsulePlaceParts {
  workloads: Workloads;
  capsules: Capsules;
  cgroups: Cgroups;
  criu: CriuClient;
  installation: Installation;
  inspector: Inspector;
  log: Logger;
}

const nothing = async () => {};

export function capsuleToSuspend(
  parts: CapsulePlaceParts,
  record: CapsuleRecord & { status: StatusOf<'running'> },
): SuspendPlace {
  const { id, capsule, status } = record;
  return {
    criu: parts.criu,
    pid: status.init.pid,
    init: status.init,
    options: { external: dumpMounts(capsule) },
    view: { root: capsule.root, runFolder: parts.workloads.runFolder(id) },
    pids: () => parts.cgroups.pids(id),
    inspect: (how) => parts.inspector.inspectCapsule(record, how),
    picture: () => captureScreen(parts.capsules.screenSocket(id), parts.log),
    detach: async ({ facts }) => {
      const pids = facts.processes.map((process) => process.pid);
      await cutViewers(parts.installation, status.init.pid, pids, capsule.display ?? 0);
      await cutRelay(pids);
    },
    keep: nothing,
    reattach: nothing,
    release: nothing,
  };
}

/** Makes all that the capsule needs from outside. */
export async function capsuleToResume(
  parts: CapsulePlaceParts,
  id: string,
  capsule: CapsuleSpec,
): Promise<ResumePlace> {
  const runFolder = await parts.capsules.makeRunFolder(id, capsule);
  const relay = join(runFolder, 'sound', 'relay');
  for (const socket of [parts.capsules.screenSocket(id), parts.capsules.busSocket(id), relay])
    await rm(socket, { force: true });
  const missing = await missingMounts(capsule);
  const standIn = join(runFolder, 'absent');
  if (missing.length > 0) await mkdir(standIn, { recursive: true, mode: 0o755 });
  const cgroup = await parts.cgroups.make(id);
  const mountPoint = join(parts.workloads.scratchFolder(id), 'root');
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  const prefix = [
    ...[parts.installation.capsuleTool, 'with-root', capsule.root, mountPoint],
    ...['--cgroup', cgroup, '--'],
  ];
  return {
    criu: parts.criu.withPrefix(prefix),
    options: { root: mountPoint, external: restoreMounts(capsule, runFolder, missing, standIn) },
    needsView: false,
    rewritten: new Map(),
    runFolder,
    view: { root: capsule.root, runFolder },
    initOf: async (root) => {
      const init = root === undefined ? undefined : await identify(root);
      return init && { init };
    },
    findings: missing.map(standsIn),
    done: () => {},
  };
}
