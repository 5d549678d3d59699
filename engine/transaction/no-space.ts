/** A full disk in words: everything that writes may meet it. */
import { statfs } from 'node:fs/promises';
import { TorporError } from '../../api/errors.ts';

const fullBelowBytes = 256 * 1024;

/** The error for users where this one says that the disk is full; otherwise undefined. */
export function noSpace(error: unknown): TorporError | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOSPC' ? diskFull() : undefined;
}

/** The same where the disk of this folder has hardly a block left: CRIU can then not even say so in its log. */
export async function noSpaceAt(folder: string): Promise<TorporError | undefined> {
  const disk = await statfs(folder).catch(() => undefined);
  return disk !== undefined && disk.bavail * disk.bsize < fullBelowBytes ? diskFull() : undefined;
}

function diskFull(): TorporError {
  return new TorporError(
    'failed',
    'There is no space left on the disk of the state folder.',
    'Remove snapshots that are no longer needed (`torpor snapshots`, `torpor rm`), or free space otherwise.',
  );
}
