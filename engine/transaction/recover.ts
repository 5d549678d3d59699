/**
 * What a new engine does about the operations in the middle of which its predecessor died. CRIU fails by itself when
 * the engine's end of its socket closes, so it is waited for, and so is the tracer, which mends what a CRIU that was
 * killed has left; then the facts decide: whether the process is there, and whether the snapshot was committed.
 */
import { rm } from 'node:fs/promises';
import type { Capsules } from '../capsule/capsules.ts';
import type { Cgroups } from '../capsule/cgroup.ts';
import type { Status, StatusOf, WorkloadRecord } from '../capsule/record.ts';
import type { Registry } from '../capsule/registry.ts';
import type { Logger } from '../log.ts';
import { bootId, endOrphans, isAlive, type ProcessIdentity, signalProcess, waitGone } from '../process.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';

const criuLimitMs = 15_000;
/** It needs milliseconds, except on a busy machine or where something is frozen. */
const tracerLimitMs = 6000;

export interface RecoverParts {
  registry: Registry;
  capsules: Capsules;
  cgroups: Cgroups;
  store: SnapshotStore;
  log: Logger;
}

/** Brings every record in line with the facts, and watches the capsules that run. */
export async function recover(parts: RecoverParts): Promise<void> {
  for (const record of parts.registry.all()) {
    const found = await factsAbout(parts, record);
    if (found === undefined) {
      // A resume may have prepared a place for it and come no further.
      await clear(parts, record.id);
      continue;
    }
    if (found.kind === 'never') {
      await clear(parts, record.id);
      await parts.registry.remove(record.id);
      parts.log.info({ workload: record.id }, 'a copy that was never finished is forgotten');
      continue;
    }
    if (found.kind === 'gone') {
      await parts.capsules.recordEnd(record.id, found.note);
    } else {
      if (found.status.kind === 'suspended') await clear(parts, record.id);
      // What the resume that its engine did not see the end of has left.
      else await rm(parts.capsules.scratchFolder(record.id), { recursive: true, force: true });
      await parts.registry.setStatus(record.id, found.status);
    }
    parts.log.info(
      { workload: record.id, was: record.status.kind, is: parts.registry.get(record.id)?.status.kind },
      'recovered',
    );
    if (parts.registry.get(record.id)?.status.kind === 'running') parts.capsules.watch(record.id);
  }
  // Only now: until it has been waited for, CRIU may still write there.
  await parts.store.removeUnfinished();
}

/** Nothing of it runs or lies about outside of the store. */
async function clear({ cgroups, capsules }: RecoverParts, id: string): Promise<void> {
  await cgroups.kill(id);
  await capsules.cleanUp(id);
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
    case 'running':
      await parts.cgroups.thaw(record.id);
      return (await isAlive(status.init)) ? { kind: 'status', status } : gone(status.init);
    case 'suspending':
      return afterSuspend(parts, record.id, status);
    case 'resuming':
      return afterResume(parts, status);
  }
}

async function afterSuspend(parts: RecoverParts, id: string, status: StatusOf<'suspending'>): Promise<Found> {
  await outlive(status.criu);
  if (status.releasing) {
    await parts.cgroups.kill(id);
    return { kind: 'status', status: { kind: 'suspended', snapshot: status.stage } };
  }
  // Before it is done, what was dumped may stand in CRIU's code. Only what is frozen can keep it waiting.
  const mended = status.tracer === undefined || (await waitGone(status.tracer, tracerLimitMs));
  await parts.cgroups.thaw(id);
  if (!mended && status.tracer !== undefined && !(await waitGone(status.tracer, tracerLimitMs)))
    parts.log.warn({ workload: id, tracer: status.tracer.pid }, 'the tracer waits for what does not stop');
  const committed = await parts.store.has(status.stage);
  const snapshot = committed ? status.stage : status.snapshot;
  // Before it committed, CRIU had no leave to end anything; and what it was given leave to end, it has ended by now.
  if (await isAlive(status.init)) {
    return {
      kind: 'status',
      status: { kind: 'running', init: status.init, ...(snapshot === undefined ? {} : { snapshot }) },
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

async function afterResume(parts: RecoverParts, status: StatusOf<'resuming'>): Promise<Found> {
  await outlive(status.criu);
  if (status.init !== undefined && (await isAlive(status.init))) {
    await parts.store.markUsed(status.snapshot);
    return { kind: 'status', status: { kind: 'running', init: status.init, snapshot: status.snapshot } };
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
