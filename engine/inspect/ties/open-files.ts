/** Open files that are not simply there: deleted ones, ones on file systems that may be gone, and locks. */
import type { Finding } from '../../../api/types.ts';
import type { Facts } from '../facts.ts';
import { isFar } from '../proc.ts';
import { descriptorsOf, list, mebibytes, named, oncePerProcess, type Rule, size } from '../rule.ts';

/** CRIU's RPC has a 32-bit number for the largest deleted file it takes along. */
export const largestGhost = 2 ** 32 - 1;

/** All files that are open or mapped but deleted, each once. Those with another name left are not among them. */
export function deletedFiles(facts: Pick<Facts, 'processes'>): {
  count: number;
  bytes: number;
  largest: number;
} {
  const sizes = new Map<string, number>();
  for (const { descriptors, mappings } of facts.processes) {
    for (const each of descriptors)
      if (each.kind === 'file' && each.inode.links === 0) sizes.set(each.inode.key, each.inode.bytes);
    for (const each of mappings) if (each.kind === 'deleted') sizes.set(each.inode.key, each.inode.bytes);
  }
  const all = [...sizes.values()];
  return {
    count: all.length,
    bytes: all.reduce((sum, size) => sum + size, 0),
    largest: all.reduce((most, size) => Math.max(most, size), 0),
  };
}

const deleted: Rule = (facts) => {
  const { count, bytes, largest } = deletedFiles(facts);
  if (count === 0) return [];
  const files = count === 1 ? 'file that is' : 'files that are';
  if (largest > largestGhost) {
    return [
      {
        tie: 'deleted-file',
        verdict: 'blocking',
        by: '',
        what: `It has a file of ${mebibytes(largest)} open that is deleted; more than 4095 MiB cannot be saved.`,
        hint: 'Let it close the file, and try again.',
      },
    ];
  }
  return [
    {
      tie: 'deleted-file',
      verdict: 'handled',
      by: 'criu',
      what: `${count} ${files} deleted but still in use ${count === 1 ? 'is' : 'are'} saved too (${size(bytes)}).`,
      hint: '',
    },
  ];
};

const farFiles: Rule = (facts) => {
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const mount = facts.mounts.get(descriptor.mount);
    if (mount === undefined || mount.path === '/' || !(isFar(mount) || mount.removable)) return [];
    return [{ process, what: `${descriptor.target} (${isFar(mount) ? mount.type : 'removable disk'})` }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'file-system',
      verdict: 'degraded',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} has ${list(whats)} open, on a file system that may not be there at the resume.`,
      hint: 'Mount it again before the resume.',
    }),
  );
};

const locks: Rule = (facts) =>
  facts.processes
    .filter(({ descriptors }) => descriptors.some(({ locked }) => locked))
    .map(
      (process): Finding => ({
        tie: 'file-lock',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} holds file locks; it gets them back at the resume.`,
        hint: '',
      }),
    );

const memoryFiles: Rule = (facts) =>
  facts.processes
    .filter(({ descriptors }) => descriptors.some(({ kind }) => kind === 'memory-file'))
    .map(
      (process): Finding => ({
        tie: 'memory-file',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} has files that lie in memory only (memfd); they are saved with it.`,
        hint: '',
      }),
    );

export const openFiles: Rule = (facts) =>
  [deleted, farFiles, locks, memoryFiles].flatMap((rule) => rule(facts));
