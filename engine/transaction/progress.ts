/** Telling how far an operation is. */
import type { Phase, Progress } from '../../api/types.ts';

export type Report = (phase: Phase, bytesDone?: number, bytesTotal?: number) => void;

/** A reporter for one operation on one workload. */
export function reporter(
  workload: string,
  operation: Progress['operation'],
  emit: (progress: Progress) => void,
): Report {
  return (phase, bytesDone = 0, bytesTotal = 0) =>
    emit({ workload, operation, phase, bytesDone, bytesTotal });
}
