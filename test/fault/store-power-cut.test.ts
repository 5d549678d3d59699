/** Power is lost after each operation of a store's life: what was committed is there, whole, and all else is gone. */
import { expect, it } from 'vitest';
import { Disk, digestOf, type Loss, readTree } from '../support/disk-faults/disk.ts';
import { examine, fill, Reader, Scene, verify } from './store/scene.ts';
import { type Done, type Expected, expectedAfter, type Wanted } from './store/steps.ts';
import { reopenStore, suspend, sweep } from './store/work.ts';

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

const a1: Wanted = { name: 'A1', workload: 'a', seed: 1, pages: 120, codec: 'raw' };
const a2: Wanted = { ...a1, name: 'A2', changedEvery: 20 };
const a3: Wanted = { ...a1, name: 'A3', changedEvery: 15, codec: 'zstd' };
const b1: Wanted = { name: 'B1', workload: 'b', seed: 2, pages: 120, codec: 'lz4' };
const later: Wanted = { ...a1, name: 'later', changedEvery: 7 };

it('leaves each snapshot complete or absent, and the store usable', async () => {
  await using scene = new Scene();
  await using reader = new Reader();
  const disk = new Disk(scene.folder);
  scene.recorder.watch(scene.folder);
  const done: Done[] = [await scene.record({ kind: 'open' })];
  for (const wanted of [a1, a2, b1]) done.push(await scene.record({ kind: 'suspend', ...wanted }));
  done.push(await scene.record({ kind: 'remove', id: done[1]?.id ?? '' }));
  done.push(await scene.record({ kind: 'sweep' }));
  done.push(await scene.record({ kind: 'recompress' }));
  done.push(await scene.record({ kind: 'suspend', ...a3 }));
  const operations = scene.recorder.operations();
  console.log(done);

  const wrong: string[] = [];
  let cases = 0;
  for (let count = 0; count <= operations.length; count++) {
    const operation = operations[count - 1];
    if (operation !== undefined) disk.apply(operation);
    const expected = expectedAfter(count, done);
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
  console.log(cases);
});

/** It is a store like any other: what was half done is in nobody's way. @returns what is wrong. */
async function goOn(folder: string, reader: Reader, { there, maybe }: Expected): Promise<string[]> {
  const store = await reopenStore(folder);
  await suspend(store, later);
  await sweep(store);
  const expected = { there: new Map(there).set(later.name, later), maybe };
  return [...(await examine(folder, reader, expected)), ...(await verify(folder, expected))];
}
