/** Whether the disk has room for the snapshot. */
import { mebibytes, type Rule } from '../rule.ts';
import { deletedFiles } from './open-files.ts';

/** Images other than memory, CRIU's log, the pictures. */
const overheadBytes = 32 * 1024 * 1024;

export const space: Rule = (facts) => {
  const memory = facts.processes.reduce((sum, process) => sum + process.imageBytes, 0);
  const needed = memory + facts.privateFileBytes + deletedFiles(facts).bytes + overheadBytes;
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
