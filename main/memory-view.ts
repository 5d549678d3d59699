/** The memory that applications have, with the names that their user knows, and naps of any of them. */
import type { EngineClient } from '../api/client.ts';
import type { MemoryReport } from '../api/types.ts';
import type { Applications } from './desktop-parts.ts';
import type { MemoryNap, MemoryView } from './ipc/memory-view.ts';

/** @param ownPid of the app, whose own windows are nobody's to put aside. */
export async function memoryView(
  { applications: all, ...machine }: MemoryReport,
  applications: Pick<Applications, 'of'>,
  ownPid: number,
): Promise<MemoryView> {
  const others = all.filter(({ pids }) => !pids.includes(ownPid));
  const rows = others.map(async ({ target, kind, naps, measured, name, command, ...use }) => {
    const { pss, file, shared, swap, zram } = use;
    // Capsules have names of their own, which their user may have chosen.
    const entry = kind === 'capsule' ? undefined : await applications.of({ command });
    const title = entry?.name ?? name;
    return { target, kind, naps, measured, title, pss, file, shared, swap, zram };
  });
  return { ...machine, applications: await Promise.all(rows) };
}

/** @throws TorporError where it fails. */
export async function napIfNothingIsInTheWay(
  client: Pick<EngineClient, 'planNap' | 'nap'>,
  target: string,
  anyway: boolean,
): Promise<MemoryNap> {
  const { findings, mayAnyway } = await client.planNap(target);
  const blocking = findings.filter(({ verdict }) => verdict === 'blocking');
  if (blocking.length > 0 && !(anyway && mayAnyway))
    return { reasons: blocking.map(({ what }) => what), mayAnyway };
  const { memoryBefore, memoryAfter } = await client.nap(target, { anyway });
  return { freedBytes: Math.max(0, memoryBefore - memoryAfter), reasons: [], mayAnyway };
}
