/** A full disk in words: everything that writes may meet it. */
import { TorporError } from '../../api/errors.ts';

/** The error for users where this one says that the disk is full; otherwise undefined. */
export function noSpace(error: unknown): TorporError | undefined {
  if ((error as NodeJS.ErrnoException | undefined)?.code !== 'ENOSPC') return undefined;
  return new TorporError(
    'failed',
    'There is no space left on the disk of the state folder.',
    'Remove snapshots that are no longer needed (`torpor snapshots`, `torpor rm`), or free space otherwise.',
  );
}
