/**
 * External unix sockets in the two transactions: a suspend tells the plugin whether it may leave them to the restore,
 * and decides on each once the images are there; a resume does as was decided, and says what did not come out so.
 */
import { statSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding, SocketChoice } from '../../api/types.ts';
import { type Manifest, specOf } from '../../proto/manifest.ts';
import { firstGivenFd } from '../criu/options.ts';
import type { SocketsBetween } from './between.ts';
import { type Decisions, decide, notConnected, resumedWithout } from './decisions.ts';
import { type ExternalSocket, readSocketsOutside } from './external.ts';
import type { ConnectEnds, Connection } from './pairs.ts';
import { encodeDumpPlan, encodeRestorePlan, type PlannedSocket, readOutcomes } from './plan.ts';

const planFile = 'sockets';

export interface DumpSockets extends AsyncDisposable {
  /** For CRIU. */
  readonly socketPlan: string;
  /**
   * Before CRIU comes to any socket: in a set, once all are frozen, those that come back by the session; and datagram
   * sockets that are connected again whatever the user has chosen for others.
   */
  allow(between: SocketsBetween, datagrams: readonly number[]): Promise<void>;
  /** To be asked when CRIU has written its images. @throws TorporError `blocked` where something cannot be kept. */
  decide(name: string, imagesDir: string, init: number): Promise<Decisions>;
}

/** @param scratch a folder of root's own, which need not be there. */
export async function dumpSockets(choice: SocketChoice, scratch: string): Promise<DumpSockets> {
  let allowed: SocketsBetween = new Map();
  return {
    socketPlan: await writePlan(scratch, encodeDumpPlan(choice)),
    allow: async (between, datagrams) => {
      allowed = between;
      await writePlan(scratch, encodeDumpPlan(choice, [...between.keys(), ...datagrams]));
    },
    decide: async (name, imagesDir, init) =>
      decide(name, await readSocketsOutside(imagesDir), choice, (address) => isThere(address, init), allowed),
    [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }),
  };
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

export interface RestoreSockets {
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
 */
export async function restoreSockets(
  manifest: Manifest,
  imagesDir: string,
  scratch: string,
  connect: ConnectEnds | undefined,
): Promise<RestoreSockets> {
  const { externalSockets = [], session } = manifest;
  const { external } = externalSockets.length === 0 ? { external: [] } : await readSocketsOutside(imagesDir);
  const connections = (await connect?.(external)) ?? new Map<number, Connection>();
  if (external.length === 0) return { options: {}, findings: async () => [] };
  const decisions = new Map(externalSockets.map((decided) => [decided.inode, decided]));
  const pluginFds: number[] = [];
  const alone: Finding[] = [];
  const planned = external.map((socket): PlannedSocket => {
    const { inode, type, own, unread, address } = socket;
    const common = { inode, type, user: socket.owner?.user ?? specOf(manifest).user, own };
    const decided = decisions.get(inode);
    const connection = connections.get(inode);
    if (connection?.kind === 'given')
      return { ...common, action: 'given', fd: firstGivenFd + pluginFds.push(connection.fd) - 1 };
    if (connection?.kind === 'by-name') return { ...common, action: 'meet', address, unread };
    if (decided?.decision === 'reconnect') return { ...common, action: 'reconnect', address, unread };
    if (decided?.decision === 'session') alone.push(resumedWithout(socket, nameIn(session, decided)));
    return { ...common, action: 'hang-up', unread };
  });
  const socketPlan = await writePlan(scratch, encodeRestorePlan(planned));
  return {
    options: { socketPlan, pluginFds },
    findings: async () => [...alone, ...findingsOf(external, await readFile(socketPlan, 'utf8'))],
  };
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
