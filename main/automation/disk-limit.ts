/** Which snapshots make room when all together take more than the user wants. Pure. */
import type { Snapshot, Workload } from '../../api/types.ts';
import type { Settings } from '../ipc/view.ts';

/**
 * @returns ids of those to remove, in that order. Never one that is kept, and of an application that does not run neither
 * the one it is suspended in nor the newest; so the limit may not be reached.
 */
export function toMakeRoom(
  snapshots: readonly Snapshot[],
  workloads: readonly Workload[],
  { diskLimitBytes, removeFirst }: Pick<Settings, 'diskLimitBytes' | 'removeFirst'>,
): string[] {
  if (diskLimitBytes === 0) return [];
  const needed = neededSnapshots(snapshots, workloads);
  const candidates = snapshots
    .filter(({ id, kept }) => !kept && !needed.has(id))
    .sort((a, b) =>
      removeFirst === 'largest' ? b.bytesOnDisk - a.bytesOnDisk : a.takenAt.localeCompare(b.takenAt),
    );
  let over = snapshots.reduce((sum, { bytesOnDisk }) => sum + bytesOnDisk, 0) - diskLimitBytes;
  const chosen: string[] = [];
  for (const { id, bytesOnDisk } of candidates) {
    if (over <= 0) break;
    chosen.push(id);
    over -= bytesOnDisk;
  }
  return chosen;
}

/** Without them there would be no way back to an application. */
function neededSnapshots(snapshots: readonly Snapshot[], workloads: readonly Workload[]): Set<string> {
  const states = new Map(workloads.map(({ id, state }) => [id, state]));
  const newest = new Map<string, Snapshot>();
  for (const snapshot of snapshots) {
    if (states.get(snapshot.workload) === 'running') continue;
    const known = newest.get(snapshot.workload);
    if (known === undefined || snapshot.takenAt > known.takenAt) newest.set(snapshot.workload, snapshot);
  }
  const current = workloads
    .filter(({ state }) => state !== 'running')
    .flatMap(({ snapshot }) => snapshot ?? []);
  return new Set([...current, ...[...newest.values()].map(({ id }) => id)]);
}
