/**
 * The inspection of a process tree: facts are gathered, the rules in `ties/` say what each means, and the options for
 * CRIU follow from the same facts. Nothing is touched.
 */
import { statfs } from 'node:fs/promises';
import { posix } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConnectionChoice, Finding, Inspection, SocketChoice } from '../../api/types.ts';
import type { DumpOptions } from '../criu/options.ts';
import { Semaphore } from '../criu/semaphore.ts';
import { readInhibitors } from '../inhibitors/inhibitors.ts';
import type { Descriptor, Facts, FileSystem, ProcessFacts } from './facts.ts';
import { askHidden } from './hidden.ts';
import { textOf } from './kernel-files.ts';
import { readMountsOf } from './mounts.ts';
import { findOutsiders, findStrangers, missingEnds, pointedTo } from './outsiders.ts';
import { isContained, namespaceOf, readMemory, readProcessLine, treeBelow } from './proc.ts';
import { processorsIn, readProcess } from './process-facts.ts';
import { socketsAwaited } from './readers.ts';
import { type Rule, soon, withoutAmounts } from './rule.ts';
import { mayPing, readInternetSockets, readNetlinkSockets, readUnixSockets } from './sockets.ts';
import { devices } from './ties/devices.ts';
import { inhibitors } from './ties/inhibitors.ts';
import { internetSockets } from './ties/internet-sockets.ts';
import { kernelObjects } from './ties/kernel-objects.ts';
import { locks } from './ties/locks.ts';
import { memory } from './ties/memory.ts';
import { messages } from './ties/messages.ts';
import { containers, namespaces } from './ties/namespaces.ts';
import { largestGhost, openFiles } from './ties/open-files.ts';
import { otherSockets } from './ties/other-sockets.ts';
import { pids } from './ties/pids.ts';
import { pipes } from './ties/pipes.ts';
import { processors } from './ties/processors.ts';
import { protection } from './ties/protection.ts';
import { sharedMemory } from './ties/shared-memory.ts';
import { sharedResources } from './ties/shared-resources.ts';
import { socketSettings } from './ties/socket-settings.ts';
import { space } from './ties/space.ts';
import { stopped } from './ties/stopped.ts';
import { strangers, stuck } from './ties/strangers.ts';
import { sessions, terminals } from './ties/terminals.ts';
import { threads } from './ties/threads.ts';
import { timers } from './ties/timers.ts';
import { tracing } from './ties/tracing.ts';
import { unixSockets } from './ties/unix-sockets.ts';
import { watches } from './ties/watches.ts';

const rules: readonly Rule[] = [
  strangers,
  stuck,
  unixSockets,
  messages,
  internetSockets,
  otherSockets,
  socketSettings,
  devices,
  kernelObjects,
  watches,
  timers,
  namespaces,
  containers,
  sharedMemory,
  sharedResources,
  tracing,
  threads,
  protection,
  processors,
  pipes,
  inhibitors,
  terminals,
  sessions,
  stopped,
  openFiles,
  locks,
  memory,
  pids,
  space,
];

/** How long a process may wait for a disk before it counts as stuck. */
const stuckMs = 150;
/** How long a process has for what it does in a moment. */
const fleetingMs = 100;
/** The application stands still while CRIU waits for all of it to stop. */
const freezeLimitSeconds = 3;
/** Processes that are read at once: more would hold up what else the engine does. */
const readAtOnce = 4;
/** A capsule has the host's folder there, which is not its own. */
const runMount = '/run/torpor';

/** What a tree is in, as far as it cannot be seen from the tree. */
export interface Surroundings {
  isCapsule: boolean;
  /** All processes of its cgroup; none for a job that was not resumed. */
  cgroupPids: readonly number[];
  /** A job that was resumed: what stands around it shares its pid namespace, where it has one. */
  isInRoom?: boolean;
  /** Where the snapshot would be written. */
  stateDir: string;
  /** The program that lists unix sockets. */
  sockdiag: string;
  /** What the user has chosen for unix sockets with an end outside, if anything. */
  externalSockets?: SocketChoice | undefined;
  /** What becomes of TCP connections; `close` where nothing. */
  connections?: ConnectionChoice;
  /** Workloads that are suspended at the same instant, by the pids of their processes. */
  companions?: ReadonlyMap<number, string> | undefined;
  /** Names of plugins, by the pids of their processes: they let go of a workload before its suspend. */
  plugins?: ReadonlyMap<number, string>;
  /** Ids of other workloads that run, by the pids of their processes. */
  neighbours?: ReadonlyMap<number, string>;
  /** The one that answers what /proc does not tell. */
  ties: string;
}

/** What the engine itself goes on with; the report for users is made from it by {@link reportOf}. */
export interface TreeInspection {
  facts: Facts;
  findings: Finding[];
  memoryBytes: number;
}

/**
 * All that ties a process and those below it. Processes that end meanwhile are left out.
 * @throws TorporError `failed` where the kernel's tables cannot be read.
 */
export async function inspectTree(root: number, surroundings: Surroundings): Promise<TreeInspection> {
  let facts = await gather(root, surroundings);
  let findings = findingsOf(facts);
  const isFleeting = findings.some(({ verdict, hint }) => verdict === 'blocking' && hint === soon);
  if (isFleeting) await sleep(fleetingMs);
  if (isFleeting || (findings.some(isBlocking) && hasChanged(facts))) {
    const before = new Set(findings.map(matter));
    facts = await gather(root, surroundings);
    findings = findingsOf(facts).filter((each) => !isBlocking(each) || before.has(matter(each)));
  }
  return {
    facts,
    findings,
    memoryBytes: facts.processes.reduce((sum, process) => sum + process.memoryBytes, 0),
  };
}

const isBlocking = ({ verdict }: Finding) => verdict === 'blocking';
const sentence = ({ tie, what }: Finding) => `${tie} ${what}`;
/** What is said of something, whatever its amount is at one look or the next. */
const matter = (finding: Finding) => withoutAmounts(sentence(finding));

/** What several descriptors would have said in the same words is said once. */
function findingsOf(facts: Facts): Finding[] {
  const all = rules.flatMap((rule) => rule(facts));
  return [...new Map(all.map((each) => [sentence(each), each])).values()];
}

/**
 * Whether processes were started or have ended meanwhile. One that was missed is taken for one outside, and of one that
 * ends an end of a pipe may be missing; so what blocks then must be seen twice.
 */
function hasChanged({ root, processes }: Facts): boolean {
  const now = treeBelow(root);
  const then = new Set(processes.filter(({ state }) => state !== 'Z').map(({ pid }) => pid));
  return now.length !== then.size || now.some((pid) => !then.has(pid));
}

async function gather(root: number, surroundings: Surroundings): Promise<Facts> {
  const { isCapsule, cgroupPids, isInRoom = false, stateDir, sockdiag, ties } = surroundings;
  const {
    externalSockets,
    connections = 'close',
    companions = new Map(),
    plugins = new Map(),
    neighbours = new Map(),
  } = surroundings;
  const mountsOf = mountReader();
  const below = treeBelow(root);
  const told = Promise.all([
    readProcesses(below, mountsOf),
    readUnixSockets(sockdiag, root),
    readInternetSockets(root),
    readNetlinkSockets(root),
  ]).then(([processes, unix, internet, netlink]) => ({
    root,
    processes,
    unix,
    internet,
    netlink,
    unixSockets: unix,
    mounts: new Map(processes.flatMap(({ pid }) => [...mountsOf(pid)])),
    missing: missingEnds(processes, unix, internet),
    // The first connection of an MPTCP socket is in the table of TCP too.
    isKnownSocket: (inode: number) =>
      unix.has(inode) || netlink.has(inode) || /^(?!tcp)/.test(internet.get(inode)?.protocol ?? 'tcp'),
  }));
  const [
    { processes, unix, internet, netlink, mounts, missing },
    { hidden, holders },
    disk,
    privateFileBytes,
  ] = await Promise.all([
    told,
    askHidden(ties, told),
    statfs(stateDir),
    isCapsule ? measurePrivateFiles(root, mountsOf(root)) : 0,
  ]);
  const inside = new Set(processes.map(({ pid }) => pid));
  return {
    processes,
    root,
    isCapsule,
    inhibitors: isCapsule ? new Map() : readInhibitors(processes),
    hasOwnPids: namespaceOf(root, 'pid') !== namespaceOf(process.pid, 'pid'),
    isContained: !isCapsule && !isInRoom && isContained(root),
    ...(isCapsule ? {} : { jobMounts: namespaceOf(isInRoom ? root : process.pid, 'mnt') }),
    strangers: findStrangers(root, inside, cgroupPids, !isInRoom),
    unixSockets: unix,
    awaited: socketsAwaited(processes, unix),
    ...(externalSockets === undefined ? {} : { externalSockets }),
    connections,
    companions,
    plugins,
    neighbours,
    internetSockets: internet,
    netlinkSockets: netlink,
    processors: processorsIn(textOf('/proc/self/status') ?? ''),
    mayPing: mayPing(),
    mounts,
    hidden,
    outsiders: await findOutsiders(missing, root, inside, holders, companions),
    names: namesOf(pointedTo(processes).filter((pid) => pid > 0 && !inside.has(pid))),
    privateFileBytes,
    freeBytes: disk.bavail * disk.bsize,
    memory: readMemory(),
  };
}

/** Most processes of a tree share one mount namespace, whose mounts are read once. */
function mountReader(): (pid: number) => ReadonlyMap<number, FileSystem> {
  const known = new Map<string, ReadonlyMap<number, FileSystem>>();
  return (pid) => {
    const namespace = namespaceOf(pid, 'mnt') ?? '';
    const mounts = known.get(namespace) ?? readMountsOf(pid);
    known.set(namespace, mounts);
    return mounts;
  };
}

async function readProcesses(
  pids: readonly number[],
  mountsOf: ReturnType<typeof mountReader>,
): Promise<ProcessFacts[]> {
  const places = new Semaphore(readAtOnce);
  const read = async (pid: number) => {
    using _place = await places.acquire();
    const process = await readProcess(pid, mountsOf(pid));
    // A short wait for the disk is nothing unusual.
    if (process?.state !== 'D' || (await isStuck(pid))) return process;
    return { ...process, state: 'S' };
  };
  return (await Promise.all(pids.map(read))).filter((process) => process !== undefined);
}

/** Whether it waits for a disk and never for anything else, or runs, for a while. */
async function isStuck(pid: number): Promise<boolean> {
  for (const end = Date.now() + stuckMs; Date.now() < end; await sleep(5))
    if (readProcessLine(pid)?.state !== 'D') return false;
  return true;
}

/** What lies on the capsule's own tmpfs mounts travels in the images. */
async function measurePrivateFiles(root: number, mounts: ReadonlyMap<number, FileSystem>): Promise<number> {
  const own = [...mounts.values()].filter(
    ({ type, path }) => type === 'tmpfs' && path !== runMount && !path.startsWith(`${runMount}/`),
  );
  const sizes = await Promise.all(
    own.map(async ({ path }) => {
      const disk = await statfs(posix.join(`/proc/${root}/root`, path)).catch(() => undefined);
      return disk === undefined ? 0 : (disk.blocks - disk.bfree) * disk.bsize;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

function namesOf(pids: readonly number[]): Map<number, string> {
  const names = new Map<number, string>();
  for (const pid of pids) {
    const line = readProcessLine(pid);
    if (line !== undefined) names.set(pid, line.name);
  }
  return names;
}

/** The inspection as users get it. */
export function reportOf(target: string, { facts, findings, memoryBytes }: TreeInspection): Inspection {
  const descriptors = facts.processes.flatMap((process) => process.descriptors);
  const paths = descriptors.map((each) => each.target).filter((each) => each.startsWith('/'));
  return {
    target,
    processes: facts.processes.map(
      ({ pid, ppid, name, command, uid, memoryBytes: memory, descriptors: own }) => ({
        pid,
        ppid,
        name,
        command,
        uid,
        memoryBytes: memory,
        openFiles: own.length,
      }),
    ),
    memoryBytes,
    openFiles: [...new Set(paths)].sort(),
    sockets: [...new Map(descriptors.flatMap((each) => describeSocket(facts, each))).values()].sort(),
    findings,
  };
}

/** By inode, so that one that several processes share is one. */
function describeSocket(facts: Facts, descriptor: Descriptor): [number, string][] {
  if (descriptor.kind !== 'socket') return [];
  const { inode, target } = descriptor;
  const unix = facts.unixSockets.get(inode);
  if (unix !== undefined) {
    return [[inode, `unix ${unix.type} ${unix.state}${unix.path === '' ? '' : ` ${unix.path}`}`]];
  }
  const internet = facts.internetSockets.get(inode);
  if (internet === undefined) return [[inode, target]];
  const { protocol, state, local, remote } = internet;
  return [[inode, [protocol, state, local, remote].filter(Boolean).join(' ')]];
}

/**
 * What CRIU must be told whatever it takes. All of it is harmless where there is nothing of the kind, and an application may
 * come by it until the freeze.
 */
export const dumpOptions: Pick<
  DumpOptions,
  'skipInFlight' | 'fileLocks' | 'linkRemap' | 'ghostLimit' | 'timeout'
> = {
  timeout: freezeLimitSeconds,
  skipInFlight: true,
  fileLocks: true,
  linkRemap: true,
  ghostLimit: largestGhost,
};
