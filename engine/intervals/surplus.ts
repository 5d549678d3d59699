/** Which snapshots that were taken at an interval go when there are enough later ones. Pure. */
import type { StoredSnapshot } from '../store/snapshot-store.ts';

/**
 * @param stored newest first.
 * @param current the one that the workload was last suspended to or resumed from, which never goes.
 * @returns ids, the oldest first; never one that is kept, or that somebody took by hand, nor do these count.
 */
export function surplusOf(
  stored: readonly StoredSnapshot[],
  workload: string,
  keepLast: number,
  current: string | undefined,
): string[] {
  return stored
    .filter(
      (item) =>
        item.kind === 'complete' &&
        item.manifest.workload === workload &&
        item.manifest.atInterval === true &&
        !item.kept,
    )
    .slice(keepLast)
    .map(({ id }) => id)
    .filter((id) => id !== current)
    .reverse();
}
