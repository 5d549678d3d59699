/** From what the engine and the desktop say to what the windows show. Pure. */
import type { Session, Snapshot, Workload } from '../../api/types.ts';
import type {
  Application,
  Operation,
  ProgressView,
  SessionView,
  SnapshotView,
  WorkloadView,
} from '../ipc/view.ts';
import { lastSession } from '../sessions.ts';

/** Path of a workload's icon on the app's origin. */
export function iconPath(workload: Pick<Workload, 'name'>, application: Application | undefined): string {
  return application?.icon ?? `/icons/name/${encodeURIComponent(workload.name)}`;
}

export function workloadView(
  workload: Workload,
  about: {
    application: Application | undefined;
    snapshots: readonly Snapshot[];
    operation: Operation | undefined;
    loading: ProgressView | undefined;
    /** Version of its live picture. */
    live: string | undefined;
  },
): WorkloadView {
  const { screen: _screen, terminal, loading: _loading, ...shared } = workload;
  const { application, snapshots, operation, loading, live } = about;
  const current = snapshots.find(({ id }) => id === workload.snapshot);
  const isSuspended = workload.state === 'suspended';
  const thumbnail = thumbnailPath(workload, current, live);
  return {
    ...shared,
    hasTerminal: terminal !== undefined,
    title: application?.name ?? workload.name,
    icon: iconPath(workload, application),
    ...(thumbnail === undefined ? {} : { thumbnail }),
    since: sinceWhen(workload, current),
    bytesOnDisk: snapshots.reduce((sum, { bytesOnDisk }) => sum + bytesOnDisk, 0),
    snapshots: snapshots.length,
    freedBytes: isSuspended ? (current?.memoryBytes ?? 0) : 0,
    ...(operation === undefined ? {} : { operation }),
    ...(loading === undefined ? {} : { loading }),
  };
}

function thumbnailPath(
  workload: Workload,
  current: Snapshot | undefined,
  live: string | undefined,
): string | undefined {
  if (workload.state !== 'suspended' && live !== undefined) return `/thumbnails/live/${workload.id}/${live}`;
  return current === undefined || current.damaged !== undefined ? undefined : `/thumbnails/${current.id}`;
}

function sinceWhen({ state, startedAt }: Workload, current: Snapshot | undefined): string {
  if (current === undefined) return startedAt;
  return state === 'suspended' ? current.takenAt : (current.usedAt ?? startedAt);
}

export function snapshotView(snapshot: Snapshot, workload: Workload | undefined): SnapshotView {
  return {
    ...snapshot,
    ...(snapshot.damaged === undefined
      ? { thumbnail: `/thumbnails/${snapshot.id}`, picture: `/pictures/${snapshot.id}` }
      : {}),
    current: workload?.snapshot === snapshot.id,
  };
}

/** @param workloads of which some may be gone that the session has */
export function sessionView(
  session: Session,
  workloads: readonly WorkloadView[],
  snapshots: readonly Snapshot[],
): SessionView {
  return {
    ...session,
    isLast: session.name === lastSession,
    members: session.members.map((member) => {
      const known = workloads.find(({ id }) => id === member.workload);
      const snapshot = snapshots.find(({ id }) => id === member.snapshot);
      return {
        ...member,
        title: known?.title ?? member.name,
        icon: known?.icon ?? iconPath(member, undefined),
        ...(snapshot === undefined || snapshot.damaged !== undefined
          ? {}
          : { thumbnail: `/thumbnails/${snapshot.id}` }),
      };
    }),
  };
}
