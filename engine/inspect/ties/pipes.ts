/** Pipes that lead out of the tree, and terminals of others. */
import type { Finding } from '../../../api/types.ts';
import { type Facts, inodeOf } from '../facts.ts';
import { descriptorsOf, named, type Rule } from '../rule.ts';

const accessMode = 0o3;
const writeOnly = 0o1;
const readWrite = 0o2;

/** Inodes of pipes of which the tree has one end only. */
export function halfPipes(facts: Pick<Facts, 'processes'>): Set<number> {
  const ends = new Map<number, { read: boolean; write: boolean }>();
  for (const { descriptors } of facts.processes) {
    for (const { target, flags = 0 } of descriptors) {
      const inode = inodeOf(target, 'pipe');
      if (inode === undefined) continue;
      const end = ends.get(inode) ?? { read: false, write: false };
      const mode = flags & accessMode;
      ends.set(inode, {
        read: end.read || mode !== writeOnly,
        write: end.write || mode === writeOnly || mode === readWrite,
      });
    }
  }
  return new Set([...ends].filter(([, { read, write }]) => !(read && write)).map(([inode]) => inode));
}

export const pipes: Rule = (facts) => {
  const half = halfPipes(facts);
  const seen = new Set<number>();
  return descriptorsOf(facts).flatMap(({ process, descriptor }): Finding[] => {
    const inode = inodeOf(descriptor.target, 'pipe');
    const owner = inode === undefined ? undefined : facts.outsiders.get(inode);
    if (inode === undefined || owner === undefined || !half.has(inode) || seen.has(inode)) return [];
    seen.add(inode);
    return [
      {
        tie: 'pipe',
        verdict: 'blocking',
        by: '',
        what: `${named(process)} has a pipe to ${named(owner)}, which is outside.`,
        hint: `Wait until ${owner.name} has ended, or suspend both together.`,
      },
    ];
  });
};

export const terminals: Rule = (facts) => {
  // A capsule has its own terminals, whose masters are inside too.
  if (facts.isCapsule) return [];
  return facts.processes
    .filter((process) => process.terminal !== 0)
    .slice(0, 1)
    .map(
      (process): Finding => ({
        tie: 'terminal',
        verdict: 'blocking',
        by: '',
        what: `${named(process)} belongs to a terminal whose other end is outside.`,
        hint: 'Start it in a capsule with `torpor run -- xterm`; jobs of a terminal cannot be adopted by this version.',
      }),
    );
};
