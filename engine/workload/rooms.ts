/**
 * What stands around a job that was resumed (native/room.c): the end of it. It has a cgroup of its own beside the job's,
 * and has told in the run folder who keeps the terminal.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { identify, isAlive, type ProcessIdentity, signalProcess, waitGone } from '../process.ts';
import type { Cgroups } from './cgroup.ts';
import type { StatusOf, WorkloadRecord } from './record.ts';

const toldSchema = z.object({
  /** The host's number of its first process. */
  init: z.number().int().positive(),
  /** Of what keeps its terminal; 0 where it has none. */
  keeper: z.number().int().nonnegative(),
  /** Path of its terminal; empty where it has none. */
  terminal: z.string(),
});

/**
 * With whose end a running workload has ended: the one in its status; or the first process of a job, where what held its
 * room has been killed and the job has not, because it has no pid namespace that goes with that.
 */
export async function lifeOf(
  cgroups: Cgroups,
  record: WorkloadRecord,
  { init, room }: Pick<StatusOf<'running'>, 'init' | 'room'>,
): Promise<ProcessIdentity | undefined> {
  if (await isAlive(init)) return init;
  if (record.kind !== 'job' || room === undefined || room.ownPids) return undefined;
  const first = await identify(record.job.root);
  if (first === undefined || !(await isAlive(first))) return undefined;
  return (await cgroups.pids(record.id)).includes(first.pid) ? first : undefined;
}

/** How long the keeper of a terminal may take to say goodbye to those who look at it. */
const keeperLimitMs = 2000;

/** The cgroup of what stands around a job. */
export const roomCgroup = (id: string) => `${id}-room`;
export const isRoomCgroup = (name: string) => name.endsWith('-room');

/** What a room told of itself; undefined where there is none. */
export async function toldByRoom(runFolder: string): Promise<z.infer<typeof toldSchema> | undefined> {
  const text = await readFile(join(runFolder, 'room'), 'utf8').catch(() => 'null');
  return toldSchema.safeParse(JSON.parse(text)).data;
}

/** Path of the terminal in a room, which is another one after each resume; undefined where it has none. */
export function terminalInRoom(runFolder: string): string | undefined {
  const told = toldSchema.safeParse(JSON.parse(readFileSync(join(runFolder, 'room'), 'utf8'))).data;
  return told?.terminal || undefined;
}

/** Those who look at the terminal are told that its job goes, and its keeper ends. */
export async function endKeeper(cgroups: Cgroups, id: string, runFolder: string): Promise<void> {
  const keeper = (await toldByRoom(runFolder))?.keeper ?? 0;
  if (keeper === 0) return;
  const identity = await identify(keeper);
  if (identity === undefined) return;
  // By now the number may be another's, but not in this cgroup.
  const isThere = (await cgroups.pids(roomCgroup(id))).includes(keeper);
  if (isThere) await signalProcess(identity, 'SIGTERM');
  // One that has ended by itself waits to be reaped.
  if (isThere || !(await isAlive(identity))) await waitGone(identity, keeperLimitMs);
}

/** Ends all that stands around a job, which has ended itself. A room that was cut short has told nothing of itself. */
export async function endRoom(cgroups: Cgroups, id: string, runFolder: string): Promise<void> {
  await endKeeper(cgroups, id, runFolder);
  await cgroups.kill(roomCgroup(id));
  await cgroups.remove(roomCgroup(id));
}
