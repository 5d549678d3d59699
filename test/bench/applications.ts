/**
 * Suspend and resume of applications with little memory, where what the engine does beside writing it is most of the
 * time: by Torpor with its plugins and by plain `criu` with the same options, in turn, beside what the disk itself takes
 * for the same bytes. Everything is in the page cache.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { connectEngine, type EngineClient, readEngineAddress } from '../../api/client.ts';
import { TestEngine } from '../support/engine.ts';
import { TestPlugins } from '../support/plugins.ts';
import { waitForStableScreen } from '../support/screen.ts';
import { markdownTable, median, mediansOf, milliseconds } from './figures.ts';
import { mediumFigures } from './medium.ts';
import { PlainCapsule } from './plain-criu.ts';
import { loaded } from './torpor-side.ts';

const aims = { ratio: 1.25, ownMs: 100 } as const;

interface Round {
  torporSuspendMs: number;
  torporDurableMs: number;
  torporStandstillMs: number;
  torporLeaveRunningStandstillMs: number;
  torporResumeMs: number;
  torporOwnResumeMs: number;
  pluginsSuspendMs: number;
  pluginsResumeMs: number;
  criuSuspendMs: number;
  criuSyncMs: number;
  criuLeaveRunningMs: number;
  criuResumeMs: number;
  diskWriteMs: number;
  bytes: number;
}

export interface ApplicationResult {
  application: string;
  medians: Round;
  suspendRatio: number;
  resumeRatio: number;
}

async function oneRound(
  client: EngineClient,
  id: string,
  plain: PlainCapsule,
  folder: string,
): Promise<Round> {
  const kept = await client.suspend(id, { leaveRunning: true });
  await client.remove(kept.snapshot.id);
  const suspendedAt = performance.now();
  const { snapshot, pluginsMs } = await client.suspend(id, { leaveRunning: false });
  const torporSuspendMs = performance.now() - suspendedAt;
  const leaveRunning = await plain.dump(true);
  const dumped = await plain.dump(false);

  const resumedAt = performance.now();
  const resumed = await client.resume(id, { copy: false });
  const torporResumeMs = performance.now() - resumedAt;
  const criuResumeMs = await plain.restore();
  await loaded(client, id);
  await client.remove(snapshot.id);
  return {
    torporSuspendMs,
    torporDurableMs: snapshot.durableMs,
    torporStandstillMs: snapshot.standstillMs,
    torporLeaveRunningStandstillMs: kept.snapshot.standstillMs,
    torporResumeMs,
    torporOwnResumeMs: resumed.resumeMs - resumed.criuMs - resumed.pluginsMs,
    pluginsSuspendMs: pluginsMs,
    pluginsResumeMs: resumed.pluginsMs,
    criuSuspendMs: dumped.dumpMs + dumped.syncMs,
    criuSyncMs: dumped.syncMs,
    criuLeaveRunningMs: leaveRunning.dumpMs,
    criuResumeMs,
    diskWriteMs: (await mediumFigures(folder, dumped.bytes)).writeMs,
    bytes: snapshot.bytesOnDisk,
  };
}

async function measure(engine: TestEngine, command: string[], rounds: number): Promise<ApplicationResult> {
  const home = await mkdtemp('/var/tmp/torpor-bench-home-');
  await mkdir(join(home, '.config'), { recursive: true });
  const env = { HOME: home, PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' };
  const started = await engine.start(command, '--env', `HOME=${home}`);
  const address = await readEngineAddress(engine.paths);
  if (address === undefined) throw new Error('the engine has ended');
  await using client = await connectEngine(address.address);
  await using plain = await PlainCapsule.start(command, env);
  try {
    await waitForStableScreen(started.screen ?? '', { settleMs: 2000 });
    await waitForStableScreen(plain.screen, { settleMs: 2000 });
    const measured: Round[] = [];
    // The first round warms caches on both sides and does not count.
    for (let round = 0; round <= rounds; round++) {
      const figures = await oneRound(client, started.id, plain, home);
      if (round > 0) measured.push(figures);
    }
    return {
      application: command[0] ?? '',
      medians: mediansOf(measured),
      suspendRatio: median(measured.map((round) => round.torporSuspendMs / round.criuSuspendMs)),
      resumeRatio: median(measured.map((round) => round.torporResumeMs / round.criuResumeMs)),
    };
  } finally {
    await client.end(started.id);
    await rm(home, { recursive: true, force: true });
  }
}

const reached = (holds: boolean) => (holds ? 'reached' : 'NOT reached');

export function applicationsReport(results: readonly ApplicationResult[], rounds: number): string {
  const rows = results.map(({ application, medians: m, suspendRatio, resumeRatio }) => [
    application,
    `${(m.bytes / 1024 ** 2).toFixed(0)} MiB`,
    milliseconds(m.torporSuspendMs),
    `${milliseconds(m.criuSuspendMs)} (${milliseconds(m.criuSyncMs)} of it fsync)`,
    suspendRatio.toFixed(2),
    milliseconds(m.torporStandstillMs),
    milliseconds(m.torporLeaveRunningStandstillMs),
    milliseconds(m.criuLeaveRunningMs),
    milliseconds(m.torporResumeMs),
    milliseconds(m.criuResumeMs),
    resumeRatio.toFixed(2),
    milliseconds(m.torporOwnResumeMs),
    `${milliseconds(m.pluginsSuspendMs)}, ${milliseconds(m.pluginsResumeMs)}`,
    milliseconds(m.diskWriteMs),
  ]);
  const worst = (pick: (result: ApplicationResult) => number) => Math.max(...results.map(pick));
  return [
    '## Applications with little memory',
    '',
    `Medians of ${rounds} rounds, everything in the page cache.`,
    '',
    markdownTable(
      [
        'application',
        'on disk',
        'suspend',
        'criu dump + fsync',
        'ratio',
        'stood still',
        'stood still, left running',
        'criu, left running',
        'resume',
        'criu restore',
        'ratio',
        "engine's own part",
        'of suspend and resume, for plugins',
        'the disk alone',
      ],
      rows,
    ),
    '',
    `- Suspend, to fsynced, within ${aims.ratio} times plain criu plus one fsync: ${reached(worst((r) => r.suspendRatio) <= aims.ratio)}.`,
    `- Resume within ${aims.ratio} times plain criu: ${reached(worst((r) => r.resumeRatio) <= aims.ratio)}.`,
    `- The engine's own part of a resume under ${aims.ownMs} ms: ${reached(worst((r) => r.medians.torporOwnResumeMs) < aims.ownMs)}.`,
    '',
    '"Suspend" is the whole call on the bus, until the snapshot is durable and the processes have gone; what plain criu does not do and Torpor does in that time: inspection, hashes of all images and of all mapped files, pictures of the screen, MAC, manifest. "For plugins" is how long a suspend and a resume waited for all of them: those of Torpor and one that answers at once. "The disk alone" is a direct write and fsync of as many bytes.',
  ].join('\n');
}

export async function measureApplications(
  rounds: number,
  names: readonly string[],
): Promise<ApplicationResult[]> {
  // Beside Torpor's own plugins one that answers at once, for what a call alone takes.
  await using plugins = await TestPlugins.create();
  await plugins.add('org.example.Bench');
  await using engine = await TestEngine.create({ env: plugins.env });
  const commands = [['xterm'], ['mousepad'], ['gimp', '--no-splash']].filter(
    ([name = '']) => names.includes(name) && existsSync(`/usr/bin/${name}`),
  );
  const results: ApplicationResult[] = [];
  for (const command of commands) {
    process.stderr.write(`bench: ${command[0]} ...\n`);
    results.push(await measure(engine, command, rounds));
  }
  return results;
}
