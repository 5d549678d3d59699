/**
 * External unix sockets in the two transactions: a suspend tells the plugin whether it may leave them to the restore,
 * and decides on each once the images are there; a resume does as was decided, and says what did not come out so.
 */
import { closeSync, statSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sentenceOf } from '../../api/errors.ts';
import type { Finding, ResumeChoices, SocketChoice } from '../../api/types.ts';
import { type DecidedSocket, type Manifest, specOf } from '../../proto/manifest.ts';
import { firstGivenFd } from '../criu/options.ts';
import { readUnixSockets } from '../inspect/sockets.ts';
import type { Installation } from '../installation.ts';
import { MomentaryError } from '../momentary.ts';
import type { SocketsBetween } from './between.ts';
import {
  type BusLinesPlace,
  BusTime,
  busMissing,
  busNotThere,
  type Learnt,
  learnBus,
  type StartedBusLine,
  startBusLine,
} from './buslines.ts';
import { type Decisions, decide, notConnected, resumedWithout, type UsualDecisions } from './decisions.ts';
import { type ExternalSocket, readSocketsOutside } from './external.ts';
import type { ConnectEnds, Connection } from './pairs.ts';
import {
  encodeDumpPlan,
  encodeRestorePlan,
  type PlannedSocket,
  readOutcomes,
  type SocketUser,
} from './plan.ts';

const planFile = 'sockets';

export interface DumpSockets extends AsyncDisposable {
  /** For CRIU. */
  readonly socketPlan: string;
  /**
   * Before CRIU comes to any socket: in a set, once all are frozen, those that come back by the session; and those that
   * need no choice of the user's.
   */
  allow(between: SocketsBetween, usual: UsualDecisions): Promise<void>;
  /** Once all are frozen: notes what is being said to a bus at this moment. @param root one of the processes. */
  lookFrozen(root: number): Promise<void>;
  /** To be asked when CRIU has written its images. @throws TorporError `blocked` where something cannot be kept. */
  decide(name: string, imagesDir: string, init: number): Promise<Decisions>;
}

/**
 * @param choice the user's, if any.
 * @param scratch a folder of root's own, which need not be there.
 * @param programs that which asks buses, and that which asks the kernel for its sockets.
 */
export async function dumpSockets(
  choice: SocketChoice | undefined,
  scratch: string,
  { busLines, sockdiag }: Pick<Installation, 'busLines' | 'sockdiag'>,
): Promise<DumpSockets> {
  const others = choice ?? 'block';
  let allowed: SocketsBetween = new Map();
  let usually: UsualDecisions = new Map();
  let isSpeaking = false;
  return {
    socketPlan: await writePlan(scratch, encodeDumpPlan(others)),
    allow: async (between, usual) => {
      allowed = between;
      usually = usual;
      await writePlan(scratch, encodeDumpPlan(others, [...between.keys(), ...usual.keys()]));
    },
    lookFrozen: async (root) => {
      const lines = [...usually].filter(([inode, each]) => typeof each === 'object' && !allowed.has(inode));
      if (lines.length === 0) return;
      const table = await readUnixSockets(sockdiag, root);
      isSpeaking = lines.some(([inode]) => (table.get(inode)?.unsent ?? 0) > 0);
    },
    decide: async (name, imagesDir, init) => {
      // It may be in the middle of a message, whose second half would be the first thing that a new connection hears.
      if (isSpeaking)
        throw new MomentaryError(`${name} cannot be suspended now: it is just saying something to its bus.`);
      const outside = await readSocketsOutside(imagesDir);
      // A bus that stands still itself would not answer, and need not.
      const toBuses = outside.external.filter(({ inode }) => !allowed.has(inode));
      const learnt = await learnBuses(busLines, toBuses, usually);
      return decide(name, outside, others, (address) => isThere(address, init), allowed, usually, learnt);
    },
    [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }),
  };
}

const systemBuses: readonly string[] = ['/run/dbus/system_bus_socket', '/var/run/dbus/system_bus_socket'];
const root: SocketUser = { uid: 0, gid: 0, groups: [] };

/** What each bus knows. That of the system, which is root's own, tells root alone which messages are listened to. */
async function learnBuses(
  program: string,
  external: readonly ExternalSocket[],
  usual: UsualDecisions,
): Promise<Map<string, Learnt>> {
  const learnt = new Map<string, Learnt>();
  const time = new BusTime();
  for (const { inode, owner } of external) {
    const line = usual.get(inode);
    if (typeof line !== 'object' || owner === undefined || learnt.has(line.path)) continue;
    const asWhom = systemBuses.includes(line.path) ? root : owner.user;
    learnt.set(line.path, await learnBus(program, line.path, asWhom, time));
  }
  return learnt;
}

/** Abstract names are those of the network namespace, which capsules share. A relative path counts from nobody knows where. */
function isThere(address: Buffer, init: number): boolean {
  if (address[0] === 0) return true;
  const end = address.indexOf(0);
  const path = address.subarray(0, end < 0 ? address.length : end);
  if (path[0] !== '/'.charCodeAt(0)) return false;
  try {
    return statSync(Buffer.concat([Buffer.from(`/proc/${init}/root`), path])).isSocket();
  } catch {
    // Not there, or not to be reached by this name.
    return false;
  }
}

export interface RestoreSockets extends AsyncDisposable {
  /** Options for CRIU. */
  readonly options: { socketPlan?: string; pluginFds?: readonly number[] };
  /** When CRIU has restored: what did not come out as decided. */
  findings(): Promise<Finding[]>;
}

/**
 * Prepares what was decided at the suspend.
 * @param imagesDir CRIU's images, verified already.
 * @param scratch a folder of root's own.
 * @param connect where others are resumed in the same call.
 * @param busLines for connections to message buses.
 * @param choice what becomes of those whose bus cannot be had.
 * @param signal ends the waiting. @throws its reason then.
 * @throws TorporError `blocked` where a bus cannot be had, and the user has not chosen.
 */
export async function restoreSockets(
  manifest: Manifest,
  imagesDir: string,
  scratch: string,
  connect: ConnectEnds | undefined,
  busLines: BusLinesPlace,
  choice: ResumeChoices['externalSockets'],
  signal: AbortSignal,
): Promise<RestoreSockets> {
  const { externalSockets = [], session } = manifest;
  const { external } = externalSockets.length === 0 ? { external: [] } : await readSocketsOutside(imagesDir);
  const connections = (await connect?.(external)) ?? new Map<number, Connection>();
  if (external.length === 0)
    return { options: {}, findings: async () => [], [Symbol.asyncDispose]: async () => {} };
  const decisions = new Map(externalSockets.map((decided) => [decided.inode, decided]));
  const pluginFds: number[] = [];
  const alone: Finding[] = [];
  const started = new StartedBusLines();
  try {
    alone.push(...(await started.start(busLines, external, decisions, choice, signal)));
    const planned = external.map((socket): PlannedSocket => {
      const { inode, type, own, unread, address } = socket;
      const common = { inode, type, user: socket.owner?.user ?? specOf(manifest).user, own };
      const decided = decisions.get(inode);
      const connection = connections.get(inode);
      if (connection?.kind === 'given')
        return { ...common, action: 'given', fd: firstGivenFd + pluginFds.push(connection.fd) - 1 };
      const line = started.of(inode);
      if (line !== undefined)
        return { ...common, action: 'given', fd: firstGivenFd + pluginFds.push(line.fd) - 1 };
      if (connection?.kind === 'by-name') return { ...common, action: 'meet', address, unread };
      if (decided?.decision === 'reconnect') return { ...common, action: 'reconnect', address, unread };
      if (decided?.decision === 'session') alone.push(resumedWithout(socket, nameIn(session, decided)));
      return { ...common, action: 'hang-up', unread };
    });
    const socketPlan = await writePlan(scratch, encodeRestorePlan(planned));
    return {
      options: { socketPlan, pluginFds },
      findings: async () => [...alone, ...findingsOf(external, await readFile(socketPlan, 'utf8'))],
      [Symbol.asyncDispose]: async () => started[Symbol.dispose](),
    };
  } catch (error) {
    started[Symbol.dispose]();
    throw error;
  }
}

/** Those that stand between and a bus; they end with this, unless CRIU has their programs' ends. */
class StartedBusLines implements Disposable {
  readonly #lines = new Map<number, StartedBusLine>();

  /**
   * @returns what did not come out as it was.
   * @throws TorporError `blocked` where one cannot be had, and the user has not chosen.
   */
  async start(
    place: BusLinesPlace,
    external: readonly ExternalSocket[],
    decisions: ReadonlyMap<number, DecidedSocket>,
    choice: ResumeChoices['externalSockets'],
    signal: AbortSignal,
  ): Promise<Finding[]> {
    const findings: Finding[] = [];
    const time = new BusTime();
    for (const { inode, unread, owner } of external) {
      const decided = decisions.get(inode);
      if (decided?.decision !== 'bus' || owner === undefined) continue;
      try {
        const line = await startBusLine(place, decided, unread, owner.user, owner.comm, time, signal);
        this.#lines.set(inode, line);
        findings.push(...line.findings);
      } catch (error) {
        signal.throwIfAborted();
        const why = sentenceOf(error).replace(/\.$/, '');
        if (choice !== 'hang-up') throw busMissing(owner.comm, decided.path, why);
        findings.push(busNotThere(owner.comm, decided.path, why));
      }
    }
    return findings;
  }

  of(inode: number): StartedBusLine | undefined {
    return this.#lines.get(inode);
  }

  [Symbol.dispose](): void {
    for (const { fd, handedOver } of this.#lines.values()) {
      closeSync(fd);
      handedOver();
    }
  }
}

const nameIn = (session: Manifest['session'], { workload }: { workload: string }) =>
  session?.members.find((each) => each.workload === workload)?.name ?? workload;

function findingsOf(external: readonly ExternalSocket[], plan: string): Finding[] {
  const outcomes = readOutcomes(plan);
  return external.flatMap((socket) => {
    const outcome = outcomes.get(socket.inode);
    return outcome?.kind === 'not-connected' ? [notConnected(socket, outcome.errno)] : [];
  });
}

async function writePlan(scratch: string, plan: string): Promise<string> {
  const path = join(scratch, planFile);
  await mkdir(scratch, { recursive: true, mode: 0o700 });
  await writeFile(path, plan, { mode: 0o600 });
  return path;
}
