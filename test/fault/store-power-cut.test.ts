/** Power is lost after each operation of a store's life: what was committed is there, whole, and all else is gone. */
import { describe, expect, it } from 'vitest';
import { Disk, digestOf, type Loss, readTree } from '../support/disk-faults/disk.ts';
import { examine, fill, Reader, Scene, verify } from './store/scene.ts';
import { type Done, type Expected, expectedAfter, type Step, type Wanted } from './store/steps.ts';
import { makeVersion1, reopenStore, suspend, sweep } from './store/work.ts';

const losses: Loss[] = [
  { data: 'dropped', names: 'dropped' },
  { data: 'kept', names: 'kept' },
  { data: 'dropped', names: 'kept' },
  { data: 'kept', names: 'dropped' },
  { data: 'some', names: 'some' },
  { data: 'some', names: 'some' },
];
/** Of so many cases one is gone on with. */
const goOnEvery = 67;

let counted = 0;

const a1: Wanted = { name: 'A1', workload: 'a', seed: 1, pages: 120, codec: 'raw' };
const a2: Wanted = { ...a1, name: 'A2', changedEvery: 20 };
const a3: Wanted = { ...a1, name: 'A3', changedEvery: 15, codec: 'zstd' };
const b1: Wanted = { name: 'B1', workload: 'b', seed: 2, pages: 120, codec: 'lz4' };
const later: Wanted = { ...a1, name: 'later', changedEvery: 7 };

const gone: Wanted = { ...b1, name: 'gone', workload: 'c', seed: 3 };

/** What is done to a store, in the steps of a life; a removal is by name. */
type Life = (Step | { kind: 'remove-named'; name: string })[];

const suspended = (wanted: Wanted): Step => ({ kind: 'suspend', ...wanted });

const lives: { what: string; version1?: Wanted; life: Life }[] = [
  {
    what: 'a new store',
    life: [
      { kind: 'open' },
      suspended(a1),
      suspended(a2),
      suspended(b1),
      { kind: 'remove-named', name: 'A1' },
      { kind: 'sweep' },
      { kind: 'recompress' },
      suspended(a3),
    ],
  },
  {
    what: 'a store of the first version',
    version1: { ...a1, name: 'old', workload: 'old' },
    life: [
      { kind: 'open' },
      suspended(gone),
      suspended(b1),
      { kind: 'remove-named', name: 'gone' },
      { kind: 'sweep' },
      { kind: 'remove-named', name: 'old' },
    ],
  },
];

describe('a loss of power leaves each snapshot complete or absent, and the store usable', () => {
  it.each(lives)('in the life of $what', { timeout: 900_000 }, async ({ version1, life }) => {
    await using scene = new Scene();
    await using reader = new Reader();
    const before = new Map<string, Wanted>();
    const ids = new Map<string, string>();
    if (version1 !== undefined) {
      ids.set(version1.name, await makeVersion1(scene.folder, version1));
      before.set(version1.name, version1);
    }
    const disk = new Disk(scene.folder);
    scene.recorder.watch(scene.folder);
    const done: Done[] = [];
    for (const each of life) {
      const step: Step =
        each.kind === 'remove-named' ? { kind: 'remove', id: ids.get(each.name) ?? '' } : each;
      const last = await scene.record(step);
      if (each.kind === 'suspend') ids.set(each.name, last.id);
      done.push({ ...last, ...(each.kind === 'remove-named' ? { removed: each.name } : {}) });
    }
    const operations = scene.recorder.operations();

    const wrong: string[] = [];
    let cases = 0;
    for (let count = 0; count <= operations.length; count++) {
      const operation = operations[count - 1];
      if (operation !== undefined) disk.apply(operation);
      const expected = expectedAfter(count, before, done);
      for (const loss of losses) {
        const seed = cases++;
        fill(scene.other, disk.after({ ...loss, seed }));
        const found = await examine(scene.other, reader, expected);
        if (seed % goOnEvery === 0 && found.length === 0)
          found.push(...(await goOn(scene.other, reader, expected)));
        const last = operation === undefined ? 'the beginning' : `${operation.kind} of ${operation.path}`;
        for (const each of found)
          wrong.push(`${count}, ${last}; ${JSON.stringify({ ...loss, seed })}: ${each}`);
      }
    }
    // Nothing has changed but by operations that were recorded.
    expect(digestOf(disk.live)).toBe(digestOf(readTree(scene.folder)));
    expect(wrong).toEqual([]);
    counted += cases;
  });

  it('wherever it happens', () => expect(counted).toBeGreaterThan(2000));
});

/** It is a store like any other: what was half done is in nobody's way. @returns what is wrong. */
async function goOn(folder: string, reader: Reader, { there, maybe }: Expected): Promise<string[]> {
  const store = await reopenStore(folder);
  await suspend(store, later);
  await sweep(store);
  const expected = { there: new Map(there).set(later.name, later), maybe };
  return [...(await examine(folder, reader, expected)), ...(await verify(folder, expected))];
}
