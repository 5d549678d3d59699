/**
 * `torpor demo`: the whole promise in half a minute. A GTK application is started in a capsule, typed into, suspended,
 * shown to be gone from memory, resumed, and its window compared to the pixel; then it is typed into once more.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineClient } from '../../api/client.ts';
import { TorporError } from '../../api/errors.ts';
import { connectRfb } from '../../api/rfb/client.ts';
import { comparePictures, type Picture } from '../../api/rfb/picture.ts';
import type { Workload } from '../../api/types.ts';
import type { Command } from '../context.ts';
import { bytes, seconds, table } from '../format.ts';

const applications = ['mousepad', 'gedit', 'gnome-text-editor', 'gnome-calculator'];
const firstText = '12+34 is typed before the suspend.';
const secondText = ' 56 after the resume.';

/** How long a screen must stay as it is to count as settled, and how long that may take. */
const settleMs = 700;
const settleLimitMs = 30_000;
const gainLimitMs = 1000;

interface Step {
  what: string;
  figure: string;
  holds: boolean;
}

function firstInstalled(): string {
  for (const name of applications) {
    if (existsSync(join('/usr/bin', name))) return name;
  }
  throw new TorporError(
    'failed',
    `None of the applications for the demonstration is installed (${applications.join(', ')}).`,
    'Install one: `apt-get install mousepad`.',
  );
}

async function settledScreen(socket: string): Promise<Picture> {
  await using screen = await connectRfb(socket);
  const limit = Date.now() + settleLimitMs;
  let picture = await screen.capture();
  let since = Date.now();
  while (Date.now() - since < settleMs && Date.now() < limit) {
    await sleep(100);
    const next = await screen.capture();
    if (!comparePictures(picture, next).equal) since = Date.now();
    picture = next;
  }
  return picture;
}

async function typeInto(socket: string, text: string): Promise<void> {
  await using screen = await connectRfb(socket);
  await screen.type(text);
}

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

async function availableMemory(): Promise<number> {
  const info = await readFile('/proc/meminfo', 'utf8');
  return Number(/^MemAvailable:\s+(\d+)/m.exec(info)?.[1] ?? 0) * 1024;
}

/** How much more memory is available than before; the kernel takes a moment to count what has been given back. */
async function gainOver(before: number): Promise<number> {
  let gained = 0;
  for (const limit = Date.now() + gainLimitMs; Date.now() < limit; await sleep(50)) {
    gained = Math.max(gained, (await availableMemory()) - before);
  }
  return gained;
}

/** A blinking text cursor would make two pictures of the same window differ. */
async function calmSettings(): Promise<string> {
  const folder = await mkdtemp('/var/tmp/torpor-demo-');
  await mkdir(join(folder, 'gtk-3.0'));
  await writeFile(join(folder, 'gtk-3.0', 'settings.ini'), '[Settings]\ngtk-cursor-blink=false\n');
  return folder;
}

function socketOf(workload: Workload): string {
  if (workload.screen === undefined) throw new TorporError('failed', `${workload.name} does not run.`);
  return workload.screen;
}

/** Suspends, looks, resumes, uses and ends it, adding what it saw to the steps. */
async function suspendAndResume(client: EngineClient, started: Workload, steps: Step[]): Promise<void> {
  const before = await settledScreen(socketOf(started));
  const running = await client.get(started.id);
  const availableBefore = await availableMemory();
  const suspended = await client.suspend(started.id, { leaveRunning: false });
  const { snapshot } = suspended;
  steps.push({
    what: 'suspended, safe on disk',
    figure: `${seconds(snapshot.durableMs)}, stood still ${seconds(snapshot.standstillMs)}`,
    holds: suspended.workload.state === 'suspended',
  });
  const left = running.pids.filter((pid) => !isGone(pid));
  steps.push({
    what: 'processes left',
    figure: `${left.length} of ${running.pids.length}`,
    holds: running.pids.length > 0 && left.length === 0,
  });
  const gained = await gainOver(availableBefore);
  steps.push({
    what: 'memory it held / now available more',
    figure: `${bytes(running.memoryBytes)} / ${bytes(Math.max(0, gained))}`,
    holds: gained > 0,
  });
  steps.push({
    what: 'on disk',
    figure: `${bytes(snapshot.bytesOnDisk)}, snapshot ${snapshot.id}`,
    holds: snapshot.bytesOnDisk > 0,
  });

  const resumed = await client.resume(started.id, { copy: false });
  steps.push({
    what: 'resumed',
    figure: seconds(resumed.resumeMs),
    holds: resumed.workload.state === 'running',
  });
  const after = await settledScreen(socketOf(resumed.workload));
  const comparison = comparePictures(before, after);
  steps.push({
    what: 'window before and after',
    figure: comparison.equal ? 'the same to the pixel' : `${comparison.differentPixels} pixels differ`,
    holds: comparison.equal,
  });
  await typeInto(socketOf(resumed.workload), secondText);
  const used = comparePictures(after, await settledScreen(socketOf(resumed.workload)));
  steps.push({
    what: 'typed into it again',
    figure: `${used.differentPixels} pixels changed`,
    holds: !used.equal,
  });
  await client.end(started.id);
  await client.remove(snapshot.id);
}

export const demo: Command = {
  definition: {
    name: 'demo',
    summary: 'see it work: suspend an application and bring it back',
    description: [
      'Starts a GTK application in a capsule, types into it, suspends it, shows that its processes and memory are gone and what lies on disk, resumes it, compares its window before and after, and prints times and sizes. Exit code 0 only if all of that held.',
    ],
    arguments: [],
    options: [],
    examples: [{ command: 'torpor demo', meaning: 'half a minute' }],
  },
  async run(context) {
    const application = firstInstalled();
    const client = await context.engine();
    const settings = await calmSettings();
    const steps: Step[] = [];
    let started: Workload | undefined;
    let finished = false;
    try {
      context.note(`Starting ${application} in a capsule ...`);
      started = await client.run({
        command: [application],
        env: { XDG_CONFIG_HOME: settings },
        callerEnv: { LANG: process.env.LANG ?? 'C.UTF-8' },
        cwd: '/',
      });
      await settledScreen(socketOf(started));
      await typeInto(socketOf(started), firstText);
      context.note('Typed into it. Suspending and resuming it ...');
      await suspendAndResume(client, started, steps);
      finished = true;
    } finally {
      if (started !== undefined && !finished) {
        const { state } = await client.get(started.id);
        if (state === 'running') await client.end(started.id);
      }
      await rm(settings, { recursive: true, force: true });
    }
    const holds = steps.every((step) => step.holds);
    const text = [
      table(
        ['STEP', 'FIGURE', ''],
        steps.map((step) => [step.what, step.figure, step.holds ? 'ok' : 'FAILED']),
      ),
      holds
        ? `All of it held: ${application} was gone and came back.`
        : 'Not all of it held: see the lines marked FAILED.',
    ].join('\n');
    context.result({ application, steps, holds }, text);
    return holds ? 0 : 1;
  },
};
