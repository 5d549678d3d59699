/** Whether the disk has room for the snapshot. */
import type { Facts } from '../facts.ts';
import { mebibytes, type Rule } from '../rule.ts';
import { deletedFiles } from './open-files.ts';

/** Images other than memory, CRIU's log, the pictures. */
const overheadBytes = 32 * 1024 * 1024;

/** About what CRIU has to write: it leaves out pages of zeros, and writes what processes have in common for each. */
export function bytesToSave(facts: Pick<Facts, 'processes' | 'privateFileBytes'>): number {
  const memory = facts.processes.reduce((sum, process) => sum + process.imageBytes, 0);
  return memory + facts.privateFileBytes + deletedFiles(facts).bytes;
}

export const space: Rule = (facts) => {
  const needed = bytesToSave(facts) + overheadBytes;
  const what = `It needs up to ${mebibytes(needed)} of disk; ${mebibytes(facts.freeBytes)} are free.`;
  if (needed <= facts.freeBytes) return [{ tie: 'disk', verdict: 'handled', by: 'engine', what, hint: '' }];
  return [
    {
      tie: 'disk',
      verdict: 'blocking',
      by: '',
      what,
      hint: 'Remove snapshots that are no longer needed (`torpor snapshots`, `torpor rm`), or free space otherwise.',
    },
  ];
};
