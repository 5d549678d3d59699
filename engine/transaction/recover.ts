/**
 * What a new engine does about the operations in the middle of which its predecessor died. CRIU fails by itself when
 * the engine's end of its socket closes, so it is waited for, and so is the tracer, which mends what a CRIU that was
 * killed has left; then the facts decide: whether the process is there, and whether the snapshot was committed.
 */
import { letGo } from '../connections/held.ts';
import type { Installation } from '../installation.ts';
import { disown } from '../job/disown.ts';
import type { Logger } from '../log.ts';
import type { Pagers } from '../pages/pagers.ts';
import type { OwedCalls } from '../plugin-host/plugin-host.ts';
import { bootId, endOrphans, isAlive, type ProcessIdentity, signalProcess, waitGone } from '../process.ts';
import type { Sessions } from '../store/sessions.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { Status, StatusOf, WorkloadRecord } from '../workload/record.ts';
import type { Registry } from '../workload/registry.ts';
import { lifeOf } from '../workload/rooms.ts';
import type { Workloads } from '../workload/workloads.ts';

const criuLimitMs = 15_000;
/** It needs milliseconds, except on a busy machine or where something is frozen. */
const tracerLimitMs = 6000;

export interface RecoverParts {
  registry: Registry;
  workloads: Workloads;
  cgroups: Cgroups;
  store: SnapshotStore;
  sessions: Sessions;
  installation: Installation;
  pagers: Pagers;
  log: Logger;
}

/**
 * Brings every record in line with the facts, and watches the workloads that run.
 * @returns what plugins are to be told, once they can be.
 */
export async function recover(parts: RecoverParts): Promise<OwedCalls[]> {
  const owed: OwedCalls[] = [];
  for (const record of parts.registry.all()) {
    // One that cannot be put in order is not to keep the engine from the others.
    try {
      const now = await recoverOne(parts, record);
      owed.push(...(await owedFor(parts, record, now)));
    } catch (error) {
      parts.log.error({ err: error, workload: record.id }, 'could not be recovered');
    }
  }
  // Only now: until it has been waited for, CRIU may still write there.
  await parts.store.removeUnfinished();
  return owed;
}

/** @param record as it was when its engine ended. @param now what has become of it; undefined where nothing runs. */
async function owedFor(
  { store }: RecoverParts,
  record: WorkloadRecord,
  now: StatusOf<'running'> | undefined,
): Promise<OwedCalls[]> {
  const { status: before } = record;
  if (before.kind === 'suspending') {
    const plugins = [...(before.plugins ?? [])].reverse();
    if (now === undefined || plugins.length === 0) return [];
    const how = { leaveRunning: before.leaveRunning };
    return [{ method: 'abort', record: { ...record, status: now }, how, plugins }];
  }
  if (before.kind !== 'resuming') return [];
  const manifest = await store.read(before.snapshot).catch(() => undefined);
  const plugins = [...(manifest?.plugins ?? [])].reverse();
  const how = { copy: before.copy ?? false, snapshot: before.snapshot };
  if (now !== undefined)
    return plugins.length === 0
      ? []
      : [{ method: 'postResume', record: { ...record, status: now }, how, plugins }];
  const asked = plugins.filter(({ name }) => before.plugins?.includes(name));
  return asked.length === 0 ? [] : [{ method: 'abort', record, how, plugins: asked }];
}

/** @returns how it runs on, if it does. */
async function recoverOne(
  parts: RecoverParts,
  record: WorkloadRecord,
): Promise<StatusOf<'running'> | undefined> {
  const found = await factsAbout(parts, record);
  if (found === undefined) {
    // A resume may have prepared a place for it and come no further.
    await clear(parts, record.id);
    return undefined;
  }
  const now = found.kind === 'status' && found.status.kind === 'running' ? found.status : undefined;
  if (found.kind === 'never') {
    await clear(parts, record.id);
    await parts.registry.remove(record.id);
    parts.log.info({ workload: record.id }, 'a copy that was never finished is forgotten');
    return undefined;
  }
  if (found.kind === 'gone') {
    await parts.workloads.recordEnd(record.id, found.note);
  } else {
    if (found.status.kind === 'suspended') await clear(parts, record.id);
    // What the resume that its engine did not see the end of has left.
    else await parts.workloads.removeScratch(record.id);
    await parts.registry.setStatus(record.id, found.status);
    // A job that was not resumed by Torpor is where it was when it was adopted.
    if (found.status.kind === 'running' && found.status.cgroup !== undefined)
      await parts.cgroups.scatter(record.id, found.status.cgroup);
    if (await disown(parts, record.id)) {
      parts.log.info({ workload: record.id }, 'a job of which there is no snapshot is left alone');
      return now;
    }
  }
  parts.log.info(
    { workload: record.id, was: record.status.kind, is: parts.registry.get(record.id)?.status.kind },
    'recovered',
  );
  if (parts.registry.get(record.id)?.status.kind === 'running') parts.workloads.watch(record.id);
  return now;
}

/** Nothing of it runs or lies about outside of the store. */
async function clear({ cgroups, workloads, pagers }: RecoverParts, id: string): Promise<void> {
  await cgroups.kill(id);
  await pagers.end(id);
  await workloads.cleanUp(id);
}

type Found = { kind: 'status'; status: Status } | { kind: 'gone'; note?: string } | { kind: 'never' };

async function factsAbout(parts: RecoverParts, record: WorkloadRecord): Promise<Found | undefined> {
  const { status } = record;
  switch (status.kind) {
    case 'ended':
    case 'suspended':
      return undefined;
    case 'starting':
      return { kind: 'gone', note: 'the engine ended while it was being started' };
    case 'running': {
      // What naps is let go of by who knows how.
      if (status.nap === undefined) await parts.cgroups.thaw(record.id);
      const init = await lifeOf(parts.cgroups, record, status);
      return init === undefined ? gone(status.init) : { kind: 'status', status: { ...status, init } };
    }
    case 'suspending':
      return afterSuspend(parts, record, status);
    case 'resuming':
      return afterResume(parts, record.id, status);
  }
}

async function afterSuspend(
  parts: RecoverParts,
  record: WorkloadRecord,
  status: StatusOf<'suspending'>,
): Promise<Found> {
  const { id } = record;
  await outlive(status.criu);
  const isInSet = status.session !== undefined;
  const isSetCommitted = isInSet && (await parts.sessions.has(status.session ?? ''));
  // All of a set are suspended or none is, whatever came of the one.
  if (isInSet ? isSetCommitted && !status.leaveRunning : status.releasing) {
    await parts.cgroups.kill(id);
    return { kind: 'status', status: { kind: 'suspended', snapshot: status.stage } };
  }
  const dumpLog = await parts.store.dumpLogOf(status.stage);
  await letGo(await parts.cgroups.pids(id), dumpLog, parts.installation.connections, parts.log);
  // Before it is done, what was dumped may stand in CRIU's code. Only what is frozen can keep it waiting.
  const mended = status.tracer === undefined || (await waitGone(status.tracer, tracerLimitMs));
  await parts.cgroups.thaw(id);
  if (!mended && status.tracer !== undefined && !(await waitGone(status.tracer, tracerLimitMs)))
    parts.log.warn({ workload: id, tracer: status.tracer.pid }, 'the tracer waits for what does not stop');
  if (isInSet && !isSetCommitted && (await parts.store.has(status.stage)))
    await parts.store.remove(status.stage);
  const committed = await parts.store.has(status.stage);
  const snapshot = committed ? status.stage : status.snapshot;
  // Before it committed, CRIU had no leave to end anything; and what it was given leave to end, it has ended by now.
  const init = await lifeOf(parts.cgroups, record, status);
  if (init !== undefined) {
    return {
      kind: 'status',
      status: {
        kind: 'running',
        init,
        ...(snapshot === undefined ? {} : { snapshot }),
        ...(status.room === undefined ? {} : { room: status.room }),
        ...(status.cgroup === undefined ? {} : { cgroup: status.cgroup }),
      },
    };
  }
  if (committed && !status.leaveRunning)
    return { kind: 'status', status: { kind: 'suspended', snapshot: status.stage } };
  return gone(status.init);
}

function gone(init: ProcessIdentity): Found {
  return init.boot === bootId
    ? { kind: 'gone' }
    : { kind: 'gone', note: 'the machine was restarted while it ran' };
}

async function afterResume(parts: RecoverParts, id: string, status: StatusOf<'resuming'>): Promise<Found> {
  await outlive(status.criu);
  // Held while CRIU let its processes go.
  await parts.cgroups.thaw(id);
  if (status.init !== undefined && (await isAlive(status.init))) {
    await parts.store.markUsed(status.snapshot);
    const { init, snapshot, room } = status;
    return {
      kind: 'status',
      status: { kind: 'running', init, snapshot, ...(room === undefined ? {} : { room }) },
    };
  }
  if (status.copy) return { kind: 'never' };
  return { kind: 'status', status: { kind: 'suspended', snapshot: status.snapshot } };
}

async function outlive(criu: ProcessIdentity | undefined): Promise<void> {
  if (criu === undefined) return;
  if (!(await waitGone(criu, criuLimitMs))) {
    await signalProcess(criu, 'SIGKILL');
    await waitGone(criu, criuLimitMs);
  }
  await endOrphans(criu);
}
