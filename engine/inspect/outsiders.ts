/**
 * Who outside of a tree is tied to it. Looking through all processes of the machine takes time, so descriptors are
 * searched only for ends that are known to be missing inside.
 */
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { isBusPath, isUniqueName } from '../sockets/buslines.ts';
import { searchDescriptors } from './descriptors.ts';
import { endKey, type Outsider, type ProcessFacts } from './facts.ts';
import { textOf } from './kernel-files.ts';
import { allProcesses, namespaceOf, readProcessLine } from './proc.ts';

const busLineProgram = 'torpor-buslines';

/** What one of ours was started with. It is its user's, who can make it say anything, of their own connections. */
function busLineOf(pid: number): Outsider['busLine'] {
  const [, verb, path, shown] = textOf(`/proc/${pid}/cmdline`)?.split('\0') ?? [];
  return verb === 'stand' && path && shown && isBusPath(path) && isUniqueName(shown)
    ? { path, shown }
    : undefined;
}

export function outsiderOf(pid: number): Outsider {
  const line = readProcessLine(pid);
  const busLine = line?.name === busLineProgram ? busLineOf(pid) : undefined;
  return {
    pid,
    name: line?.name ?? '?',
    ...(line === undefined ? {} : { ppid: line.ppid }),
    ...(busLine === undefined ? {} : { busLine }),
  };
}

/** Ends of sockets, pipes and terminals by {@link endKey}, each with the target that a descriptor of it has. */
export type Ends = ReadonlyMap<string, string>;

/** Descriptors that may be wanted, by process. */
export type Holders = ReadonlyMap<number, readonly number[]>;

const terminalTarget = /\/(ptmx|pts\/\d+)$/;

/**
 * Who outside has one of these; what has been started below the root since the tree was read is not outside.
 * @param holders where to look; everywhere if not given.
 * @param companions those who count, with all that they have started, only where nobody else has it.
 */
export async function findOutsiders(
  wanted: Ends,
  root: number,
  inside: ReadonlySet<number>,
  holders?: Holders,
  companions: ReadonlyMap<number, string> = new Map(),
): Promise<Map<string, Outsider>> {
  const found = new Map<string, Outsider>();
  if (wanted.size === 0) return found;
  const targets = new Set(wanted.values());
  const isWanted = (target: string) => targets.has(target) || terminalTarget.test(target);
  for (const pid of holders?.keys() ?? allProcesses()) {
    if (inside.has(pid)) continue;
    for (const descriptor of searchDescriptors(pid, isWanted, holders?.get(pid))) {
      const key = endKey(descriptor);
      if (key === undefined || !wanted.has(key)) continue;
      const companion = companionAbove(pid, companions);
      const known = found.get(key);
      if (known !== undefined && (companion !== undefined || !companions.has(known.pid))) continue;
      if (!isBelow(pid, root) && isRunning(pid)) found.set(key, outsiderOf(companion ?? pid));
    }
    await yieldToOthers();
  }
  return found;
}

const accessMode = 0o3;
const readOnly = 0o0;
const writeOnly = 0o1;

/** Pipes and fifos of which the tree has one end only. */
function halfPipes(processes: readonly ProcessFacts[]): Map<string, string> {
  const ends = new Map<string, { target: string; read: boolean; write: boolean }>();
  for (const descriptor of processes.flatMap((each) => each.descriptors)) {
    const key = endKey(descriptor);
    if (key === undefined || (descriptor.kind !== 'pipe' && descriptor.kind !== 'fifo')) continue;
    const end = ends.get(key) ?? { target: descriptor.target, read: false, write: false };
    const mode = descriptor.flags & accessMode;
    ends.set(key, { ...end, read: end.read || mode !== writeOnly, write: end.write || mode !== readOnly });
  }
  return new Map(
    [...ends].filter(([, { read, write }]) => !(read && write)).map(([key, { target }]) => [key, target]),
  );
}

/** The other ends of what the tree has, as far as they are not in the tree too. Pure. */
export function missingEnds(
  processes: readonly ProcessFacts[],
  unixSockets: ReadonlyMap<number, { peer: number }>,
  internetSockets: ReadonlyMap<number, { peer: number }>,
): Ends {
  const descriptors = processes.flatMap((each) => each.descriptors);
  const inside = new Set(descriptors.map(endKey));
  const missing = halfPipes(processes);
  const want = (key: string, target: string) => {
    if (!inside.has(key)) missing.set(key, target);
  };
  for (const descriptor of descriptors) {
    if (descriptor.kind === 'terminal') {
      want(`${descriptor.end === 'master' ? 'slave' : 'master'}:${descriptor.key}`, '');
    }
    if (descriptor.kind !== 'socket') continue;
    const { inode } = descriptor;
    const peer = unixSockets.get(inode)?.peer || internetSockets.get(inode)?.peer || 0;
    if (peer !== 0) want(`socket:${peer}`, `socket:[${peer}]`);
  }
  for (const { terminal } of processes) if (terminal !== undefined) want(`master:${terminal}`, '');
  return missing;
}

/**
 * Processes that are in the cgroup of a tree, or in a pid namespace that is its own, without being below its root: a
 * checkpoint would not take them, and they would not survive it.
 * @param isAlone whether it has a pid namespace of its own to itself, if it has one.
 */
export function findStrangers(
  root: number,
  inside: ReadonlySet<number>,
  inCgroup: readonly number[],
  isAlone: boolean,
): Outsider[] {
  const namespace = namespaceOf(root, 'pid');
  const isOwn = isAlone && namespace !== undefined && namespace !== namespaceOf(process.pid, 'pid');
  const inNamespace = isOwn ? allProcesses().filter((pid) => namespaceOf(pid, 'pid') === namespace) : [];
  return [...new Set([...inCgroup, ...inNamespace])]
    .filter((pid) => !inside.has(pid) && !isBelow(pid, root) && isRunning(pid))
    .map(outsiderOf);
}

/** Asked again for each: a process may have been started since the tree was read. */
export function isBelow(pid: number, root: number): boolean {
  for (let at = pid; at > 0; at = readProcessLine(at)?.ppid ?? 0) if (at === root) return true;
  return false;
}

function companionAbove(pid: number, companions: ReadonlyMap<number, string>): number | undefined {
  if (companions.size === 0) return undefined;
  for (let at = pid; at > 0; at = readProcessLine(at)?.ppid ?? 0) if (companions.has(at)) return at;
  return undefined;
}

function isRunning(pid: number): boolean {
  const state = readProcessLine(pid)?.state;
  return state !== undefined && state !== 'Z' && state !== 'X';
}

/** Pids outside that processes inside point to: tracers, leaders of their sessions, what pidfds are of. */
export function pointedTo(processes: readonly ProcessFacts[]): number[] {
  return processes.flatMap(({ tracer, session, descriptors }) => [
    tracer,
    session,
    ...descriptors.map((each) => (each.kind === 'kernel-object' ? (each.pid ?? 0) : 0)),
  ]);
}
