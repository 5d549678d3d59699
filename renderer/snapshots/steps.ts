/** The time machine: which snapshot one step back and one step forward is. */
import type { SnapshotView, WorkloadView } from '../../main/ipc/view.ts';

/** What runs for longer than this since it was resumed or its snapshot taken has a state of its own to step back from. */
const ownStateMs = 10_000;

export interface Steps {
  back: SnapshotView | undefined;
  forward: SnapshotView | undefined;
}

/**
 * Back is the snapshot before the current one. Where the application runs on since the current one, that is the step
 * back, as with a player's button that first goes to the start of the piece. Damaged ones are passed over.
 */
export function findSteps(
  snapshots: readonly SnapshotView[],
  workload: Pick<WorkloadView, 'state' | 'since'>,
  now: number,
): Steps {
  const usable = snapshots
    .filter(({ damaged }) => damaged === undefined)
    .sort((a, b) => a.takenAt.localeCompare(b.takenAt));
  const at = usable.findIndex(({ current }) => current);
  const current = usable[at];
  if (current === undefined) return { back: usable.at(-1), forward: undefined };
  const runs = workload.state === 'running' || workload.state === 'napping';
  const runsSince = Math.max(Date.parse(workload.since), Date.parse(current.takenAt));
  const hasMovedOn = runs && now - runsSince > ownStateMs;
  return { back: hasMovedOn ? current : usable[at - 1], forward: usable[at + 1] };
}
