/**
 * How long it takes from the request until an application can be used: started cold, and begun with a snapshot. In turn, the
 * first of both another one in each round; each time it goes to its menus and back.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectEngine, type EngineClient, readEngineAddress } from '../../api/client.ts';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import { comparePictures } from '../../api/rfb/picture.ts';
import type { RunSpec } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { markdownTable, mediansOf, milliseconds, ratio } from './figures.ts';
import { applicationSubjects, type Subject } from './subjects.ts';

export interface WarmResult {
  name: string;
  coldMs: number;
  warmMs: number;
  /** The first start of all, by which the snapshot is made. */
  firstMs: number;
}

const limitMs = 120_000;
/** A menu comes within that, where it does at all; it may fade away. */
const openMs = 400;
const closeMs = 1500;
/** More than a blinking cursor, and less than the name of a menu that is chosen. */
const fewestChangedPixels = 400;

/** Waits until pictures differ from this one by a menu, or do not. @returns when, or undefined where that takes too long */
async function until(
  screen: RfbClient,
  isChanged: boolean,
  before: Awaited<ReturnType<RfbClient['capture']>>,
) {
  for (
    const end = performance.now() + (isChanged ? openMs : closeMs);
    performance.now() < end;
    await sleep(2)
  ) {
    const { differentPixels } = comparePictures(before, await screen.capture());
    if (differentPixels >= fewestChangedPixels === isChanged) return performance.now();
  }
  return undefined;
}

async function untilUsable(path: string): Promise<number> {
  for (const end = performance.now() + limitMs; performance.now() < end; ) {
    const screen = await connectRfb(path).catch(() => undefined);
    if (screen === undefined) {
      await sleep(10);
      continue;
    }
    await using open = screen;
    while (performance.now() < end) {
      const before = await open.capture();
      await open.press('F10');
      const openedAt = await until(open, true, before);
      await open.press('Escape');
      await open.press('Escape');
      // What shows its window only now has changed all of it, and does not change back.
      if (openedAt !== undefined && (await until(open, false, before)) !== undefined) return openedAt;
    }
  }
  throw new Error(`it could not be used within ${limitMs / 1000} s`);
}

async function start(engine: EngineClient, spec: RunSpec): Promise<number> {
  const startedAt = performance.now();
  const { id, screen = '', warm } = await engine.run(spec);
  try {
    if (spec.warm && warm?.start !== 'warm') throw new Error(warm?.why?.en);
    return (await untilUsable(screen)) - startedAt;
  } finally {
    await engine.end(id);
  }
}

async function measureOne(subject: Subject, work: string, rounds: number): Promise<WarmResult> {
  const home = await mkdtemp(join(work, 'h'));
  await using server = await TestEngine.create();
  await server.json('ps');
  const address = await readEngineAddress(server.paths);
  if (address === undefined) throw new Error('the engine does not run');
  await using engine = await connectEngine(address.address);
  const command = await subject.prepareSmall(home);
  const spec = { command, env: { HOME: home }, callerEnv: { PATH: process.env.PATH ?? '' }, cwd: home };
  const all: { coldMs: number; warmMs: number }[] = [];
  let firstMs = 0;
  try {
    // Its own first start makes what later ones find.
    await start(engine, spec);
    firstMs = await start(engine, { ...spec, warm: true });
    for (let round = 0; round < rounds; round++) {
      process.stderr.write(`bench: warm start of ${subject.name}, round ${round + 1} of ${rounds} ...\n`);
      const coldMs = await start(engine, spec);
      // What it has written at its end may have the snapshot made anew, as it is in the time between two starts.
      await start(engine, { ...spec, warm: true });
      await sleep(15_000);
      all.push({ coldMs, warmMs: await start(engine, { ...spec, warm: true }) });
    }
  } finally {
    await rm(home, { recursive: true, force: true });
  }
  return { name: subject.name, firstMs, ...mediansOf(all) };
}

/** One that cannot be measured is named in `notes`. */
export async function measureWarm(work: string, rounds: number, notes: string[]): Promise<WarmResult[]> {
  const { subjects, missing } = applicationSubjects(1);
  notes.push(...missing);
  const results: WarmResult[] = [];
  for (const subject of subjects) {
    try {
      results.push(await measureOne(subject, work, rounds));
    } catch (error) {
      notes.push(`The warm start of ${subject.name} is left out: ${(error as Error).message}`);
    }
  }
  return results;
}

export function warmReport(results: readonly WarmResult[], rounds: number): string {
  return [
    '## Warm starts',
    '',
    `From the request until its menus answer; medians of ${rounds} rounds, cold and warm in turn, measured by \`npm run bench -- --only warm\`. The first warm start makes the snapshot.`,
    '',
    markdownTable(
      ['application', 'cold', 'warm', 'cold / warm', 'first'],
      results.map(({ name, coldMs, warmMs, firstMs }) => [
        name.replace(/,.*/, ''),
        milliseconds(coldMs),
        milliseconds(warmMs),
        ratio(coldMs / warmMs),
        milliseconds(firstMs),
      ]),
    ),
  ].join('\n');
}
