/**
 * Real applications: started, used, suspended, seen to be gone, resumed, compared to the pixel, used again. Every run
 * takes the chosen ones; with TORPOR_TEST_APPS=all all of them, and the results are written to docs/applications.md.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import { type Box, comparePictures, encodePng, type Picture } from '../../api/rfb/picture.ts';
import type { Workload } from '../../api/types.ts';
import { readProcessLine } from '../../engine/inspect/proc.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { maskPicture, waitForStableScreen } from '../support/screen.ts';
import { type Application, applications } from './applications.ts';

/** A user that every Debian has and that nobody is; its shell is given, since it has none. */
const ordinaryUser = 'games';
/** Long enough that a clock which ran on under a suspended application would show as a step too large. */
const suspendedMs = 1000;
const all = process.env.TORPOR_TEST_APPS === 'all';
const shots = new URL('../../test-results/applications/', import.meta.url).pathname;
const execute = promisify(execFile);

interface SuspendDocument {
  memoryBytes: number;
  bytesOnDisk: number;
  durableMs: number;
  standstillMs: number;
}

interface Result extends SuspendDocument {
  resumeMs: number;
}

const results = new Map<string, Result>();
let engine: TestEngine;

beforeAll(async () => {
  engine = await TestEngine.create();
  await mkdir(shots, { recursive: true });
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  // A table with gaps, or put together from several runs, would say more than was shown.
  if (all && results.size === applications.length)
    await writeFile(new URL('../../docs/applications.md', import.meta.url), await table());
});

/** A home folder in which no cursor blinks. */
async function fillHome(application: Application, home: string): Promise<void> {
  for (const version of ['gtk-3.0', 'gtk-4.0']) {
    await mkdir(join(home, '.config', version), { recursive: true });
    await writeFile(
      join(home, '.config', version, 'settings.ini'),
      '[Settings]\ngtk-cursor-blink=false\ngtk-enable-animations=false\ngtk-overlay-scrolling=false\n',
    );
  }
  await writeFile(join(home, '.gtkrc-2.0'), 'gtk-cursor-blink = 0\n');
  await application.prepare?.(home);
  await execute('chown', ['-R', `${application.user ?? ordinaryUser}:`, home]);
}

async function withScreen<T>(workload: Workload, use: (screen: RfbClient) => Promise<T>): Promise<T> {
  await using screen = await connectRfb(workload.screen ?? '');
  return await use(screen);
}

const movingPart = ({ moves }: Application): Box[] => (moves === undefined ? [] : [moves.where]);

/** What differs between two screens, but for what moves by itself. */
const difference = (application: Application, a: Picture, b: Picture) =>
  comparePictures(maskPicture(a, movingPart(application)), maskPicture(b, movingPart(application)));

/** The screen when nothing moves any more but what moves by itself; also kept as a file to look at. */
async function look(application: Application, workload: Workload, step: string): Promise<Picture> {
  const picture = await waitForStableScreen(workload.screen ?? '', {
    settleMs: 1500,
    timeoutMs: 90_000,
    ignoring: movingPart(application),
  });
  const name = `${application.name.replaceAll(/\W+/g, '-')}-${step}.png`;
  await writeFile(join(shots, name), await encodePng(picture));
  return picture;
}

/** Asks again and again until it holds, or until the time is over. */
async function comesTrue(holds: () => Promise<boolean>, limitMs = 10_000): Promise<boolean> {
  for (const end = Date.now() + limitMs; Date.now() < end; await sleep(50)) {
    if (await holds()) return true;
  }
  return false;
}

async function availableMemory(): Promise<number> {
  return Number(/^MemAvailable:\s+(\d+)/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1]) * 1024;
}

/**
 * Memory that processes other than these hold for themselves, in bytes. MemAvailable counts the whole machine, so what
 * others took or gave back meanwhile must be left out to know what the suspend gave back.
 */
async function heldByOthers(pids: readonly number[]): Promise<number> {
  let total = 0;
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || pids.includes(Number(name))) continue;
    const text = await readFile(`/proc/${name}/smaps_rollup`, 'utf8').catch(() => '');
    for (const [, kibibytes] of text.matchAll(/^Pss_(?:Anon|Shmem):\s+(\d+)/gm))
      total += Number(kibibytes) * 1024;
  }
  return total;
}

/** The folders of the cgroups of a capsule's process, as the kernel tells them and not the engine. */
async function cgroupsOf(pid: number): Promise<string[]> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(' ')[4] ?? '');
  return (await readFile(`/proc/${pid}/cgroup`, 'utf8'))
    .split('\n')
    .map((line) => line.replace(/^[^:]*:[^:]*:/, ''))
    .filter((path) => path.includes(`/torpor-${engine.paths.tag}/`))
    .flatMap((path) => mounts.map((mount) => join(mount, path)))
    .filter((path) => existsSync(join(path, 'cgroup.procs')));
}

/** Processes in these cgroups; none in one that is not there any more. */
async function membersOf(cgroups: readonly string[]): Promise<number[]> {
  const texts = await Promise.all(
    cgroups.map((path) => readFile(join(path, 'cgroup.procs'), 'utf8').catch(() => '')),
  );
  return [...new Set(texts.join('\n').split('\n').filter(Boolean).map(Number))];
}

/** What has been counted so far. @throws Error where a step is missing, repeated or larger than may be. */
async function countedIn(home: string, counter: NonNullable<Application['counter']>): Promise<number[]> {
  const text = await readFile(join(home, counter.file), 'utf8');
  // A last line without an end is still being written.
  const numbers = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1)
    .map(Number);
  numbers.forEach((number, index) => {
    const last = numbers[index - 1];
    if (last === undefined) return;
    const step = number - last;
    if (!(step > 0 && step <= counter.largestStep))
      throw new Error(`${counter.file}: ${number} comes after ${last} in line ${index + 1}`);
  });
  return numbers;
}

/** Waits for the first window: until then the screen is black but for the pointer. */
async function firstWindow(application: Application, workload: Workload): Promise<void> {
  const isLit = async () => {
    const { rgb } = await withScreen(workload, (screen) => screen.capture());
    return rgb.reduce((count, byte) => count + (byte === 0 ? 0 : 1), 0) > 10_000;
  };
  expect(await comesTrue(isLit, 60_000), 'a window appears').toBe(true);
  await look(application, workload, '0-started');
}

/** It is there, and has not ended. */
function runs(pid: number): boolean {
  const process = readProcessLine(pid);
  return process !== undefined && !['Z', 'X'].includes(process.state);
}

/** Suspends it and checks from outside the engine that it is gone. */
async function suspendAndLook(workload: Workload): Promise<SuspendDocument> {
  const { pids } = await engine.workload(workload.id);
  const cgroups = await cgroupsOf(pids[0] ?? 0);
  const members = await membersOf(cgroups);
  // A shell's children come and go: those that ended since they were listed do not count, reaped or not.
  expect(members, 'its cgroup holds all of it').toEqual(expect.arrayContaining(pids.filter(runs)));
  expect(pids.length).toBeGreaterThan(4);

  const [available, others] = [await availableMemory(), await heldByOthers(pids)];
  const suspended = await engine.json<SuspendDocument>('suspend', workload.id);
  expect(pids.filter(isThere), 'no process is left').toEqual([]);
  expect(await membersOf(cgroups), 'its cgroup is empty').toEqual([]);
  expect(await engine.workload(workload.id)).toMatchObject({ state: 'suspended', pids: [], memoryBytes: 0 });

  // What was written to disk is what it alone held in memory. Half of it, since the kernel counts in batches.
  let risenBytes = 0;
  const rises = async () => {
    const takenByOthers = (await heldByOthers(pids)) - others;
    risenBytes = (await availableMemory()) - available + takenByOthers;
    return risenBytes > suspended.bytesOnDisk / 2;
  };
  expect(await comesTrue(rises), `MemAvailable rose (by ${risenBytes} of ${suspended.bytesOnDisk})`).toBe(
    true,
  );
  return suspended;
}

async function story(application: Application, home: string): Promise<void> {
  const user = application.user ?? ordinaryUser;
  const env = ['--env', `HOME=${home}`, '--env', 'SHELL=/bin/bash'];
  const started = await engine.start(application.command(home), '--user', user, ...env);
  try {
    await firstWindow(application, started);
    const untouched = await look(application, started, '1-ready');
    await withScreen(started, application.act);
    const before = await look(application, started, '2-used');
    expect(difference(application, untouched, before).equal, 'what was done to it shows').toBe(false);

    const gone = await suspendAndLook(started);
    const { counter } = application;
    const counted = counter === undefined ? [] : await countedIn(home, counter);
    await sleep(suspendedMs);
    if (counter !== undefined)
      expect(await countedIn(home, counter), 'nothing counts while it is suspended').toEqual(counted);

    const resumed = await engine.json<Workload & { resumeMs: number }>('resume', started.id);
    const after = await look(application, resumed, '3-resumed');
    expect(difference(application, before, after), 'it is the same to the pixel').toEqual({
      equal: true,
      differentPixels: 0,
    });
    if (application.moves !== undefined) {
      const moves = async () => {
        const now = await withScreen(resumed, (screen) => screen.capture());
        return !comparePictures(after, now).equal;
      };
      expect(await comesTrue(moves), `${application.moves.why}, also now`).toBe(true);
    }
    if (counter !== undefined) {
      const goesOn = async () => (await countedIn(home, counter)).length > counted.length;
      expect(await comesTrue(goesOn), 'it counts on without a gap').toBe(true);
    }

    await withScreen(resumed, application.actAgain);
    const again = await look(application, resumed, '4-used-again');
    expect(difference(application, after, again).equal, 'it reacts').toBe(false);
    if (counter !== undefined) await countedIn(home, counter);
    results.set(application.name, { ...gone, resumeMs: resumed.resumeMs });
  } finally {
    await engine.run(['end', started.id]);
  }
}

async function table(): Promise<string> {
  const mebibytes = (count: number) => `${Math.round(count / 1024 ** 2)} MiB`;
  const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(2)} s`;
  const rowOf = ({ name, user, moves }: Application): string => {
    const result = results.get(name);
    if (result === undefined) throw new Error(`${name} has no result`);
    const cells = [
      name,
      user ?? 'ordinary',
      mebibytes(result.memoryBytes),
      mebibytes(result.bytesOnDisk),
      seconds(result.durableMs),
      seconds(result.standstillMs),
      seconds(result.resumeMs),
      moves === undefined ? 'whole screen' : `all but where ${moves.why}`,
    ];
    return `| ${cells.join(' | ')} |`;
  };
  return [
    '# Applications that are tested',
    '',
    'Made by `npm run test:apps` when all of them passed: each is started, used, suspended, seen to be gone, resumed,',
    'compared to the pixel with what it showed before, and used again. All figures are of one and the same run, on a',
    `virtual machine with ${cpus().length} processors, ${mebibytes(totalmem())} of memory and Linux ${release()}; what else ran there is in them.`,
    '"Memory" is the proportional share (PSS) with the X server and everything else in the capsule.',
    '',
    '| application | user | memory | on disk | safe on disk after | stood still | resumed after | compared |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...applications.map(rowOf),
    '',
  ].join('\n');
}

describe('applications come back as they were', () => {
  for (const application of applications.filter((each) => all || each.chosen)) {
    it(application.name, async () => {
      expect(existsSync(application.program), `${application.program} is installed`).toBe(true);
      const home = await mkdtemp('/var/tmp/torpor-home-');
      try {
        await fillHome(application, home);
        await story(application, home);
      } finally {
        await rm(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
      }
    });
  }
});
