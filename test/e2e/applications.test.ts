/**
 * Real applications: started, used, suspended, seen to be gone, resumed, compared to the pixel, used again. Every run
 * takes the chosen ones; with TORPOR_TEST_APPS=all all of them, and the results are written to docs/applications.md.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import { type Box, comparePictures, cropPicture, encodePng, type Picture } from '../../api/rfb/picture.ts';
import type { Workload } from '../../api/types.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { waitForStableScreen } from '../support/screen.ts';
import { type Application, applications } from './applications.ts';

/** A user that every Debian has and that nobody is; its shell is given, since it has none. */
const user = 'games';
const all = process.env.TORPOR_TEST_APPS === 'all';
const shots = new URL('../../test-results/applications/', import.meta.url).pathname;
const execute = promisify(execFile);

interface Result {
  application: string;
  memoryBytes: number;
  bytesOnDisk: number;
  durableMs: number;
  standstillMs: number;
  resumeMs: number;
  compared: string;
}

interface SuspendDocument {
  memoryBytes: number;
  bytesOnDisk: number;
  durableMs: number;
  standstillMs: number;
}

const results: Result[] = [];
let engine: TestEngine;

beforeAll(async () => {
  engine = await TestEngine.create();
  await mkdir(shots, { recursive: true });
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  if (all && results.length > 0)
    await writeFile(new URL('../../docs/applications.md', import.meta.url), tableOf(results));
});

/** A home folder in which no cursor blinks. */
async function makeHome(application: Application): Promise<string> {
  const home = await mkdtemp('/var/tmp/torpor-home-');
  for (const version of ['gtk-3.0', 'gtk-4.0']) {
    await mkdir(join(home, '.config', version), { recursive: true });
    await writeFile(
      join(home, '.config', version, 'settings.ini'),
      '[Settings]\ngtk-cursor-blink=false\ngtk-enable-animations=false\ngtk-overlay-scrolling=false\n',
    );
  }
  await writeFile(join(home, '.gtkrc-2.0'), 'gtk-cursor-blink = 0\n');
  await application.prepare?.(home);
  await execute('chown', ['-R', `${user}:`, home]);
  return home;
}

async function withScreen<T>(workload: Workload, use: (screen: RfbClient) => Promise<T>): Promise<T> {
  await using screen = await connectRfb(workload.screen ?? '');
  return await use(screen);
}

/** The screen when nothing moves any more; of an application that moves by itself, after a while. */
async function look(application: Application, workload: Workload, step: string): Promise<Picture> {
  const path = workload.screen ?? '';
  const picture =
    application.moves === undefined
      ? await waitForStableScreen(path, { settleMs: 1500, timeoutMs: 90_000 })
      : await sleep(1500).then(() => withScreen(workload, (screen) => screen.capture()));
  await writeFile(
    join(shots, `${application.name.replaceAll(/\W+/g, '-')}-${step}.png`),
    await encodePng(picture),
  );
  return picture;
}

const partOf = (picture: Picture, part: Box | undefined) =>
  part === undefined ? picture : cropPicture(picture, part);

async function availableMemory(): Promise<number> {
  return Number(/^MemAvailable:\s+(\d+)/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1]) * 1024;
}

async function memoryRises(above: number): Promise<boolean> {
  for (let round = 0; round < 200; round++) {
    if ((await availableMemory()) > above) return true;
    await sleep(50);
  }
  return false;
}

/** Whether a counter's file holds 1, 2, 3, ... without a gap. @returns how far it came. */
async function countIn(file: string): Promise<number> {
  const numbers = (await readFile(file, 'utf8')).trim().split('\n').map(Number);
  numbers.forEach((number, index) => {
    if (number !== index + 1) throw new Error(`${file}: line ${index + 1} says ${number}`);
  });
  return numbers.length;
}

async function grows(file: string, from: number): Promise<boolean> {
  for (let round = 0; round < 100; round++) {
    if ((await countIn(file)) > from) return true;
    await sleep(50);
  }
  return false;
}

/** Waits for the first window: until then the screen is black but for the pointer. */
async function firstWindow(application: Application, workload: Workload): Promise<void> {
  for (let round = 0; round < 300; round++) {
    const { rgb } = await withScreen(workload, (screen) => screen.capture());
    const lit = rgb.reduce((count, byte) => count + (byte === 0 ? 0 : 1), 0);
    if (lit > 10_000) break;
    await sleep(200);
  }
  await look(application, workload, '0-started');
}

async function story(application: Application): Promise<void> {
  const home = await makeHome(application);
  const counter = application.counter === undefined ? undefined : join(home, application.counter);
  const env = ['--env', `HOME=${home}`, '--env', 'SHELL=/bin/bash'];
  const started = await engine.start(application.command(home), '--user', user, ...env);
  try {
    await firstWindow(application, started);
    const untouched = await look(application, started, '1-ready');
    await withScreen(started, application.act);
    const before = await look(application, started, '2-used');
    expect(comparePictures(untouched, before).equal, 'what was done to it shows').toBe(false);

    const { pids } = await engine.workload(started.id);
    expect(pids.length).toBeGreaterThan(4);
    const available = await availableMemory();
    const suspended = await engine.json<SuspendDocument>('suspend', started.id);
    expect(pids.filter(isThere), 'no process is left').toEqual([]);
    expect(await engine.workload(started.id)).toMatchObject({ state: 'suspended', pids: [], memoryBytes: 0 });
    expect(await memoryRises(available), 'MemAvailable rose').toBe(true);
    const counted = counter === undefined ? 0 : await countIn(counter);

    const resumed = await engine.json<Workload & { resumeMs: number }>('resume', started.id);
    const after = await look(application, resumed, '3-resumed');
    const still = application.moves?.still;
    const comparable = application.moves === undefined || still !== undefined;
    if (comparable)
      expect(comparePictures(partOf(before, still), partOf(after, still))).toEqual({
        equal: true,
        differentPixels: 0,
      });
    else
      expect(
        comparePictures(after, await look(application, resumed, '3-later')).equal,
        application.moves?.why,
      ).toBe(false);
    if (counter !== undefined) expect(await grows(counter, counted), 'it counts on without a gap').toBe(true);

    await withScreen(resumed, application.actAgain);
    const again = await look(application, resumed, '4-used-again');
    expect(comparePictures(partOf(after, still), partOf(again, still)).equal, 'it reacts').toBe(false);
    results.push({
      application: application.name,
      ...suspended,
      resumeMs: resumed.resumeMs,
      compared: !comparable
        ? `goes on (${application.moves?.why})`
        : still === undefined
          ? 'whole screen'
          : `the part that stands still (${application.moves?.why})`,
    });
  } finally {
    await engine.run(['end', started.id]);
    await rm(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

function tableOf(rows: readonly Result[]): string {
  const mebibytes = (count: number) => `${Math.round(count / 1024 ** 2)} MiB`;
  const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(2)} s`;
  return [
    '# Applications that are tested',
    '',
    'Made by `npm run test:apps`: each is started as an ordinary user, used, suspended, resumed, compared to the pixel with',
    'what it showed before, and used again. Times are of one run on a small virtual machine.',
    '',
    '| application | memory | on disk | safe on disk after | stood still | resumed after | compared |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...rows.map(
      (row) =>
        `| ${row.application} | ${mebibytes(row.memoryBytes)} | ${mebibytes(row.bytesOnDisk)} | ${seconds(row.durableMs)} | ${seconds(row.standstillMs)} | ${seconds(row.resumeMs)} | ${row.compared} |`,
    ),
    '',
  ].join('\n');
}

describe('applications come back as they were', () => {
  for (const application of applications.filter((each) => all || each.chosen)) {
    it(application.name, async () => {
      expect(existsSync(application.program), `${application.program} is installed`).toBe(true);
      await story(application);
    });
  }
});
