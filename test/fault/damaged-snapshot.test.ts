/** A snapshot is damaged on disk: it is refused by the name of the file, and resumes once it is whole again. */
import { readdir, readFile, rename, stat, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Snapshot, VerifyResult } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { Counter, expectSentence, expectTidy, traces } from './scene.ts';

let engine: TestEngine;
let counter: Counter;
let other: Counter;
let folder: string;
let snapshot: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  counter = await Counter.start(engine, '--name', 'counter');
  other = await Counter.start(engine, '--name', 'other');
  snapshot = (await engine.json<Snapshot>('suspend', 'counter')).id;
  folder = join(engine.paths.stateDir, 'snapshots', snapshot);
});
afterAll(async () => {
  await counter[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
});

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

/** Ways to damage a file; each returns how to undo it. */
const damages = {
  'flipped byte': async (path: string) => {
    const at = Math.floor((await readFile(path)).length / 2);
    await flip(path, at);
    return () => flip(path, at);
  },
  truncation: async (path: string) => {
    const bytes = await readFile(path);
    await truncate(path, bytes.length - 1);
    return () => writeFile(path, bytes);
  },
  removal: async (path: string) => {
    await rename(path, `${engine.paths.stateDir}/aside`);
    return () => rename(`${engine.paths.stateDir}/aside`, path);
  },
} as const;

/** The pack that has most of its memory, as a path from the snapshot's folder. */
async function largestPack(): Promise<string> {
  const packs = join(engine.paths.stateDir, 'packs');
  const names = (await readdir(packs)).filter((name) => name.endsWith('.pack'));
  const sized = await Promise.all(
    names.map(async (name) => [(await stat(join(packs, name))).size, name] as const),
  );
  return `../../packs/${sized.sort((a, b) => b[0] - a[0])[0]?.[1]}`;
}

/** A file each of what is read in a way of its own, and a damage each. */
const cases: [keyof typeof damages, string, () => Promise<string>][] = [
  ['flipped byte', 'the manifest', async () => 'manifest.json'],
  ['flipped byte', 'its MAC', async () => 'manifest.mac'],
  ['flipped byte', 'a core image', async () => 'images/core-1.img'],
  ['flipped byte', 'the list of pages', async () => 'pages/places'],
  ['truncation', 'the list of pages', async () => 'pages/entries'],
  ['removal', 'the list of chunks', async () => 'pages/chunks'],
  ['removal', 'its MAC', async () => 'manifest.mac'],
  ['removal', 'the process tree', async () => 'images/pstree.img'],
];

it.each(cases)('%s of %s', async (how, _what, find) => {
  const file = await find();
  const mend = await damages[how](join(folder, file));
  try {
    const before = await traces(engine);
    const isManifest = file.startsWith('manifest');
    const named = isManifest ? /its manifest/ : new RegExp(file.replaceAll('.', '\\.'));
    const target = isManifest ? snapshot : 'counter';
    const outcome = await engine.run(['resume', target]);
    expectSentence(outcome, 1, named);
    expect(outcome.stderr).toContain(`Snapshot ${snapshot} is damaged`);
    expect(outcome.stderr).toContain('torpor verify');
    expect(await traces(engine)).toEqual(before);
    expect((await engine.workload(counter.id)).state).toBe('suspended');
    const seenWithoutReading = isManifest || file.startsWith('pages/') || how !== 'flipped byte';
    for (const [options, seen] of [
      [[], seenWithoutReading],
      [['--read-data'], true],
    ] as const) {
      const verify = await engine.run(['verify', '--json', ...options]);
      expect(verify.code).toBe(seen ? 1 : 0);
      const result = (JSON.parse(verify.stdout) as VerifyResult[]).find((each) => each.snapshot === snapshot);
      expect(result?.ok).toBe(!seen);
      if (seen) expect(result?.problem).toMatch(named);
    }
  } finally {
    await mend();
  }
});

it('by its workload is refused by the manifest too, with the snapshot named', async () => {
  const mend = await damages['flipped byte'](join(folder, 'manifest.json'));
  try {
    expectSentence(await engine.run(['resume', 'counter']), 1, new RegExp(`Snapshot ${snapshot} is damaged`));
  } finally {
    await mend();
  }
});

it('of the memory that snapshots share is found, with the pack and the place in it', async () => {
  const pack = await largestPack();
  const mend = await damages['flipped byte'](join(folder, pack));
  try {
    const verify = await engine.run(['verify', '--read-data']);
    expect(verify.code).toBe(1);
    expect(verify.stdout).toMatch(
      new RegExp(`Snapshot ${snapshot} is damaged: .*${basename(pack)}.* offset \\d+`),
    );
  } finally {
    await mend();
  }
});

it('does not keep that of another workload from being used', async () => {
  const mend = await damages['flipped byte'](join(folder, await largestPack()));
  try {
    await engine.json('suspend', 'other');
    expect(await other.expectUsable()).toBe('suspended');
  } finally {
    await mend();
  }
});

it('resumes once it is whole again', async () => {
  expect(await counter.expectUsable()).toBe('suspended');
  await expectTidy(engine);
});
