/** Unix sockets and pipes between workloads that are frozen together: which have their other end in which other workload. */
import { readdir, readlink } from 'node:fs/promises';
import { TorporError } from '../../api/errors.ts';
import type { Facts } from '../inspect/facts.ts';
import { readUnixSockets } from '../inspect/sockets.ts';

/** Of one workload: by the inode of its socket, where the other end is. */
export type SocketsBetween = ReadonlyMap<number, { peer: number; workload: string }>;

/** Of one workload: by inode, who else has ends of this pipe. */
export type PipesBetween = ReadonlyMap<number, readonly string[]>;

export interface EndsBetween {
  sockets: SocketsBetween;
  pipes: PipesBetween;
}

export const nothingBetween: EndsBetween = { sockets: new Map(), pipes: new Map() };

type Holders = ReadonlyMap<number, ReadonlySet<string>>;

/** @param members all frozen, so that nothing changes while this looks. @returns by workload. */
export async function endsBetween(
  members: readonly { id: string; pids: readonly number[] }[],
  sockdiag: string,
): Promise<Map<string, EndsBetween>> {
  const sockets = new Map<number, Set<string>>();
  const pipes = new Map<number, Set<string>>();
  for (const { id, pids } of members) {
    for (const { kind, inode } of (await Promise.all(pids.map(endsOf))).flat()) {
      const holders = kind === 'socket' ? sockets : pipes;
      holders.set(inode, (holders.get(inode) ?? new Set()).add(id));
    }
  }
  const root = members.flatMap(({ pids }) => pids)[0];
  const table = root === undefined ? new Map() : await readUnixSockets(sockdiag, root);
  return new Map(
    members.map(({ id }) => [id, { sockets: betweenOf(id, table, sockets), pipes: pipesOf(id, pipes) }]),
  );
}

/** Pure part of {@link endsBetween}. An end that a workload has itself as well is not another's. */
export function betweenOf(
  id: string,
  sockets: ReadonlyMap<number, { inode: number; peer: number }>,
  holders: Holders,
): SocketsBetween {
  const between = new Map<number, { peer: number; workload: string }>();
  for (const { inode, peer } of sockets.values()) {
    const there = holders.get(peer);
    if (!holders.get(inode)?.has(id) || there === undefined || there.has(id)) continue;
    const [workload] = there;
    if (workload !== undefined) between.set(inode, { peer, workload });
  }
  return between;
}

/** Pure. Of a pipe both ends have one number. */
export function pipesOf(id: string, holders: Holders): PipesBetween {
  return new Map(
    [...holders]
      .filter(([, there]) => there.has(id) && there.size > 1)
      .map(([inode, there]) => [inode, [...there].filter((other) => other !== id)]),
  );
}

async function endsOf(pid: number): Promise<{ kind: string; inode: number }[]> {
  const folder = `/proc/${pid}/fd`;
  const names = await readdir(folder).catch(() => []);
  const targets = await Promise.all(names.map((name) => readlink(`${folder}/${name}`).catch(() => '')));
  return targets.flatMap((target) => {
    const [, kind, inode] = /^(socket|pipe):\[(\d+)\]$/.exec(target) ?? [];
    return kind === undefined ? [] : [{ kind, inode: Number(inode) }];
  });
}

const accessMode = 0o3;
const writeOnly = 0o1;

/**
 * What waits in a named pipe is saved with whoever can read it, and put back by each. Pure.
 * @throws TorporError `blocked` where two members can read the same one.
 */
export function refuseTwoReaders(members: readonly { name: string; facts: Facts }[]): void {
  const readers = new Map<string, string>();
  for (const { name, facts } of members) {
    for (const descriptor of facts.processes.flatMap(({ descriptors }) => descriptors)) {
      if (descriptor.kind !== 'fifo' || (descriptor.flags & accessMode) === writeOnly) continue;
      const other = readers.get(descriptor.inode.key) ?? name;
      readers.set(descriptor.inode.key, other);
      if (other === name) continue;
      throw new TorporError(
        'blocked',
        `${other} and ${name} cannot be suspended together: both read from the named pipe ${descriptor.target}.`,
        'Suspend one of them only, or close the pipe in one.',
      );
    }
  }
}
