/**
 * TCP connections in a suspend. One that is kept is taken along by CRIU in the kernel's repair mode (tcp_repair, Linux
 * 3.5), so that the other side is told nothing, and its packets are dropped by a table of nftables until the resume, so
 * that nobody answers that there is no such connection. One that is not kept is closed when the application ends, as
 * by any program that ends.
 */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectionChoice } from '../../api/types.ts';
import { inventoryEntry, readImage } from '../../proto/images.ts';
import { runCommand } from '../command.ts';
import type { CriuClient } from '../criu/client.ts';
import type { DumpOptions } from '../criu/options.ts';
import type { Logger } from '../log.ts';
import { readConnections } from './restored.ts';

/**
 * A program with windows connects again by itself, and may be resumed days later; a job mostly does not, and is
 * suspended to be resumed soon.
 */
export const usualConnections: Record<'capsule' | 'job', ConnectionChoice> = {
  capsule: 'close',
  job: 'keep',
};

/** What can be done here: to keep connections, the kernel must have nftables. */
export async function possibleConnections(
  wanted: ConnectionChoice,
  criu: CriuClient,
): Promise<ConnectionChoice> {
  return wanted === 'keep' && (await criu.canLockConnections()) ? 'keep' : 'close';
}

/** CRIU's options for it. */
export function connectionOptions(
  choice: ConnectionChoice,
): Pick<DumpOptions, 'tcpClose' | 'tcpEstablished' | 'networkLock'> {
  return choice === 'keep'
    ? { tcpClose: false, tcpEstablished: true, networkLock: 'nftables' }
    : { tcpClose: true };
}

/**
 * The lock of the connections in a checkpoint that was made to keep them, for the manifest; undefined where there are
 * none, and then it is removed.
 * @param tool torpor-connections.
 * @throws TorporError `failed` where an image is damaged.
 */
export async function lockOf(imagesDir: string, tool: string, log: Logger): Promise<string | undefined> {
  const [inventory] = readImage(
    'inventory',
    inventoryEntry,
    await readFile(join(imagesDir, 'inventory.img')),
  );
  const lock = tableOf(inventory?.dumpRunId ?? '');
  if ((await readConnections(imagesDir)).length > 0) return lock;
  await removeLock(lock, tool, log);
  return undefined;
}

/** CRIU has 31 letters for the table's family and its name, by the identity of its run, and cuts off what does not fit. */
const tableOf = (runId: string) => `CRIU-${runId}`.slice(0, 31 - 'inet '.length);

/** Packets pass again. Never throws: what is left in the way of a connection that nobody has does no harm. */
export async function removeLock(lock: string, tool: string, log: Logger): Promise<void> {
  await run(tool, ['unlock', lock], log);
}

/**
 * After a dump that has failed: where CRIU was ended in the middle, its lock is removed and connections that it had in
 * its hands go on. A CRIU that fails by itself does that itself.
 * @param logPath CRIU's log of that dump.
 */
export async function letGo(
  pids: readonly number[],
  logPath: string,
  tool: string,
  log: Logger,
): Promise<void> {
  // CRIU names itself twice as it starts.
  const runIds = [...(await headOf(logPath)).matchAll(/CRIU run id = ([0-9a-f-]+)/g)];
  const locks = runIds.map(([, runId = '']) => tableOf(runId));
  if (locks.length > 0) await run(tool, ['unlock', ...locks], log);
  if (pids.length > 0) await run(tool, ['mend', ...pids.map(String)], log);
}

async function run(tool: string, args: readonly string[], log: Logger): Promise<void> {
  try {
    const { status, stderr } = await runCommand(tool, args);
    if (status !== 0) log.warn({ args, stderr }, 'connections could not be let go of');
  } catch (error) {
    log.warn({ err: error, args }, 'connections could not be let go of');
  }
}

/** It is among the first lines. */
async function headOf(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(4096), position: 0 });
    return buffer.toString('latin1', 0, bytesRead);
  } catch {
    // CRIU has not come so far.
    return '';
  }
}
