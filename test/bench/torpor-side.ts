/** One subject suspended and resumed by Torpor, with everything the report tells of it. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectEngine, type EngineClient, readEngineAddress } from '../../api/client.ts';
import { runCommand } from '../../engine/command.ts';
import { findInstallation } from '../../engine/installation.ts';
import { Cgroups } from '../../engine/workload/cgroup.ts';
import { TestEngine } from '../support/engine.ts';
import { bytesOnDisk, forgetCached, type MediumFigures, mediumFigures } from './medium.ts';
import { type Place, type Subject, untilReaction } from './subjects.ts';
import { type HelpersMemory, memoryFreed, Usage } from './usage.ts';

const installation = findInstallation();
const residentLimitMs = 600_000;
const settleLimitMs = 600_000;

/** Milliseconds, bytes and seconds of processor time. */
export interface TorporSuspend {
  freeMs: number;
  durableMs: number;
  standstillMs: number;
  /** What the store grew by. */
  bytes: number;
  /** The same once it was compressed, as the engine does in the background some time later. */
  settledBytes: number;
  settleMs: number;
  cpuSeconds: number;
}

export interface TorporFigures {
  /** Proportional share of memory (PSS) before the suspend. */
  memoryBytes: number;
  first: TorporSuspend;
  /** Until the call has returned: it runs. */
  resumeMs: number;
  reactMs: number;
  /** Until all of its memory was there. */
  residentMs: number;
  resumeCpuSeconds: number;
  /** With 5% changed since the resume. */
  second: TorporSuspend;
  /** The medium itself: a write of as many bytes as the first suspend wrote, a read of as many as the resume had to. */
  medium: MediumFigures;
  helpers: HelpersMemory;
  /** Its memory was the same after the resume. */
  isIntact: boolean;
}

/** @param folder where the store is to be @param home of the application */
export async function measureTorpor(subject: Subject, folder: string, home: string): Promise<TorporFigures> {
  await using usage = await Usage.create('torpor');
  const stateDir = join(folder, 'state');
  await mkdir(stateDir);
  await using engine = await TestEngine.create({ stateDir, prefix: usage.prefix });
  const cgroups = await Cgroups.find(engine.paths.tag);
  const start = async (command: string[]): Promise<{ id: string; place: Place }> => {
    const { id, screen = '' } = await engine.start(command, '--env', `HOME=${home}`);
    const place = { home, screen, cgroup: cgroups.pathOf(id) };
    await subject.ready(place);
    return { id, place };
  };

  // What an engine does once for a program, or a disk, is not what this measures.
  const small = await start(await subject.prepareSmall(home));
  await engine.json('suspend', small.id);
  for (const snapshot of await engine.snapshots()) await engine.json('rm', snapshot.id);
  await engine.json('gc');

  const { id, place } = await start(await subject.prepare(home));
  const address = await readEngineAddress(engine.paths);
  if (address === undefined) throw new Error('the engine has ended');
  await using client = await connectEngine(address.address);
  await client.subscribe();
  const before = await subject.sum(place);
  const { result, helpers } = await usage.watchHelpers(async () => {
    const { memoryBytes, ...first } = await suspend(client, usage, id, stateDir);
    const medium = await mediumOf(folder, first);
    await forgetCached(stateDir);
    const { result: resumed, seconds: resumeCpuSeconds } = await usage.during(async () => {
      const askedAt = performance.now();
      const { result: resumedAt, reactMs } = await untilReaction(subject, place, async () => {
        await client.resume(id, { copy: false });
        return performance.now();
      });
      await usage.without('torpor-pager', residentLimitMs);
      const residentMs = performance.now() - askedAt;
      return { resumeMs: resumedAt - askedAt, reactMs, residentMs };
    }, place.cgroup);
    await loaded(client, id);
    const isIntact = (await subject.sum(place)) === before;
    await subject.change(place);
    const { memoryBytes: _, ...second } = await suspend(client, usage, id, stateDir);
    return {
      memoryBytes,
      first,
      ...resumed,
      resumeCpuSeconds,
      second,
      medium,
      isIntact,
    };
  });
  return { ...result, helpers };
}

async function suspend(
  client: EngineClient,
  usage: Usage,
  id: string,
  stateDir: string,
): Promise<TorporSuspend & { memoryBytes: number }> {
  const bytesBefore = await bytesOnDisk(stateDir);
  const { pids } = await client.get(id);
  let durableAt: number | undefined;
  const off = client.on('progress', ({ workload, phase }) => {
    if (workload === id && phase === 'release') durableAt ??= performance.now();
  });
  const askedAt = performance.now();
  const { result, seconds: cpuSeconds } = await usage.during(() =>
    Promise.all([client.suspend(id, { leaveRunning: false }).finally(off), memoryFreed(pids)]),
  );
  const [{ snapshot }, freedAt] = result;
  if (durableAt === undefined) throw new Error('the engine did not tell when the snapshot was durable');
  const bytes = (await bytesOnDisk(stateDir)) - bytesBefore;
  const settleMs = await settle(stateDir);
  return {
    freeMs: freedAt - askedAt,
    // Memory is freed only then, and that may be seen before the engine's signal comes.
    durableMs: Math.min(durableAt, freedAt) - askedAt,
    standstillMs: snapshot.standstillMs,
    memoryBytes: snapshot.memoryBytes,
    bytes,
    settledBytes: (await bytesOnDisk(stateDir)) - bytesBefore,
    settleMs,
    cpuSeconds,
  };
}

async function mediumOf(folder: string, { bytes, settledBytes }: TorporSuspend): Promise<MediumFigures> {
  const { writeMs, readMs } = await mediumFigures(folder, bytes);
  return {
    writeMs,
    readMs: settledBytes === bytes ? readMs : (await mediumFigures(folder, settledBytes)).readMs,
  };
}

/** The last that `torpor-pages recompress` says. */
type Recompressed =
  | { event: 'done'; packs: number; skipped: string[] }
  | { event: 'error'; code: string; what: string };

/** Compresses at once what the engine would some time later. @returns milliseconds */
async function settle(stateDir: string): Promise<number> {
  const startedAt = performance.now();
  for (;;) {
    const { status, stdout, stderr } = await runCommand(
      installation.pages,
      ['recompress', '--store', stateDir],
      { timeoutMs: settleLimitMs },
    );
    const last = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as Recompressed;
    if (last.event === 'done' && last.skipped.length > 0)
      throw new Error(`torpor-pages recompress left out: ${last.skipped.join('; ')}`);
    if (last.event === 'done' && last.packs === 0) break;
    // The engine may be at the same, or removes what was just replaced.
    if (last.event === 'error' && last.code !== 'EBUSY')
      throw new Error(`torpor-pages recompress ended with ${status}: ${last.what} ${stderr}`);
    if (last.event === 'error') await sleep(100);
  }
  return performance.now() - startedAt;
}

/** Waits until all memory of a resumed workload is there. */
export async function loaded(client: EngineClient, id: string): Promise<void> {
  for (const end = performance.now() + residentLimitMs; performance.now() < end; await sleep(50))
    if ((await client.get(id)).loading === undefined) return;
  throw new Error('its memory is still being fetched');
}
