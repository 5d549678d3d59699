/** Open files that are not simply there: deleted or replaced ones, and ones on file systems that may be gone or are not seen. */
import type { Finding } from '../../../api/types.ts';
import type { Facts } from '../facts.ts';
import { coverage, isFar } from '../mounts.ts';
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
  const open = descriptorsOf(facts).map(({ process, descriptor: { mount, target } }) => ({
    process,
    mount,
    path: target,
  }));
  const folders = facts.processes.flatMap((process) =>
    process.folders.map(({ mount, path }) => ({ process, mount, path })),
  );
  const tied = [...open, ...folders].flatMap(({ process, mount: id, path }) => {
    const mount = facts.mounts.get(id);
    if (mount === undefined || mount.path === '/' || !(isFar(mount) || mount.removable)) return [];
    return [{ process, what: `${path} (${isFar(mount) ? mount.type : 'removable disk'})` }];
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

/** A program that is upgraded while it runs: it goes on with what it had, which exists nowhere else any more. */
const replaced: Rule = (facts) => {
  const tied = facts.processes.flatMap((process) =>
    process.mappings.flatMap((mapping) =>
      mapping.kind === 'deleted' && mapping.replaced ? [{ process, what: mapping.path }] : [],
    ),
  );
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'replaced-file',
      verdict: 'handled',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} has ${list(whats)} in memory as before ${whats.length === 1 ? 'it was' : 'they were'} replaced; that is saved too.`,
      hint: 'End it and start it again to have the new one.',
    }),
  );
};

/** Of a mount that was taken away; or handed in by somebody who has mounts that no process of the tree sees, as a desktop portal does. */
const unseen: Rule = (facts) => {
  const open = descriptorsOf(facts).flatMap(({ process, descriptor }) =>
    descriptor.unseen && !facts.mounts.has(descriptor.mount) ? [{ process, what: descriptor.target }] : [],
  );
  const folders = facts.processes.flatMap((process) =>
    process.folders.flatMap((folder) =>
      folder.unseen && !facts.mounts.has(folder.mount) ? [{ process, what: folder.path }] : [],
    ),
  );
  return oncePerProcess(
    [...open, ...folders],
    (process, whats): Finding => ({
      tie: 'foreign-file',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has ${list(whats)} open, on a file system that it does not see: it has been unmounted, or another program handed it in.`,
      hint: 'Close the file or leave the folder in it, open it again from within, and try again.',
    }),
  );
};

/** Where it is now, something else is to be found by its path. */
const covered: Rule = (facts) => {
  const isCovered = coverage(facts.mounts);
  const open = descriptorsOf(facts).flatMap(({ process, descriptor }) =>
    descriptor.kind === 'file' || descriptor.kind === 'folder' || descriptor.kind === 'fifo'
      ? [{ process, mount: descriptor.mount, path: descriptor.target }]
      : [],
  );
  const folders = facts.processes.flatMap((process) =>
    process.folders.map(({ mount, path }) => ({ process, mount, path })),
  );
  const tied = [...open, ...folders].filter(
    ({ mount, path }) => facts.mounts.has(mount) && !path.endsWith(' (deleted)') && isCovered(mount, path),
  );
  return oncePerProcess(
    tied.map(({ process, path }) => ({ process, what: path })),
    (process, whats): Finding => ({
      tie: 'foreign-file',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has ${list(whats)} open, over which another file system has been mounted since.`,
      hint: 'Unmount that, or close the file or leave the folder in it, and try again.',
    }),
  );
};

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
  [deleted, replaced, farFiles, unseen, covered, memoryFiles].flatMap((rule) => rule(facts));
