/** Open files that are not simply there: deleted ones, ones on file systems that may be gone, and locks. */
import type { Finding } from '../../../api/types.ts';
import { descriptorsOf, named, oncePerProcess, type Rule } from '../rule.ts';

/** Bytes of all files that are open but deleted. memfds look like them and are saved as memory. */
export function deletedFiles(facts: Parameters<Rule>[0]): { count: number; bytes: number; largest: number } {
  const sizes = descriptorsOf(facts)
    .filter(
      ({ descriptor }) => descriptor.deletedBytes !== undefined && !descriptor.target.startsWith('/memfd:'),
    )
    .map(({ descriptor }) => descriptor.deletedBytes ?? 0);
  return {
    count: sizes.length,
    bytes: sizes.reduce((sum, size) => sum + size, 0),
    largest: Math.max(0, ...sizes),
  };
}

const deleted: Rule = (facts) => {
  const { count, bytes } = deletedFiles(facts);
  if (count === 0) return [];
  return [
    {
      tie: 'deleted-file',
      verdict: 'handled',
      by: 'criu',
      what: `${count} deleted but still open ${count === 1 ? 'file is' : 'files are'} saved too (${bytes} bytes).`,
      hint: '',
    },
  ];
};

const awayTypes = /^(nfs4?|cifs|smb3|9p|ceph|afs|fuse(\..*)?|fuseblk)$/;

const farFiles: Rule = (facts) => {
  const far = facts.mounts
    .filter((mount) => awayTypes.test(mount.type))
    .sort((a, b) => b.path.length - a.path.length);
  if (far.length === 0) return [];
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const mount = far.find(({ path }) => descriptor.target.startsWith(`${path}/`));
    return mount === undefined ? [] : [{ process, what: `${descriptor.target} (${mount.type})` }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'file-system',
      verdict: 'degraded',
      by: 'criu',
      what: `${named(process)} has ${whats.join(', ')} open, on a file system that may not be there at the resume.`,
      hint: 'Mount it again before the resume.',
    }),
  );
};

const locks: Rule = (facts) =>
  facts.processes
    .filter((process) => facts.lockHolders.has(process.pid))
    .map(
      (process): Finding => ({
        tie: 'file-lock',
        verdict: 'handled',
        by: 'criu',
        what: `${named(process)} holds file locks; it gets them back at the resume.`,
        hint: '',
      }),
    );

export const openFiles: Rule = (facts) => [deleted, farFiles, locks].flatMap((rule) => rule(facts));
