/**
 * Power is lost while the packs that hold an application's memory are swept, compressed and added to: the application
 * comes back. The store is recorded as in store-power-cut.test.ts; what resumes from what is left of it is an engine.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Snapshot } from '../../api/types.ts';
import { Disk, type Loss, type Tree } from '../support/disk-faults/disk.ts';
import { TestEngine } from '../support/engine.ts';
import { type Counter, capsule } from './scene.ts';
import { fill, Scene } from './store/scene.ts';
import type { Step, Wanted } from './store/steps.ts';

const other: Wanted = { name: 'other', workload: 'other', seed: 1, pages: 60, codec: 'raw' };

let scene: Scene;
let engine: TestEngine;
let counter: Counter;
/** Its file when it was suspended. */
let counted: Buffer;
let disk: Disk;

beforeAll(async () => {
  scene = new Scene();
  engine = await TestEngine.create({ stateDir: scene.folder });
  counter = await capsule.start(engine);
  counter.adopted((await engine.json<Snapshot>('suspend', counter.target)).workload);
  counted = readFileSync(counter.file);
  await engine.kill();

  disk = new Disk(scene.folder);
  scene.recorder.watch(scene.folder);
  await scene.record({ kind: 'open' });
  const { id } = await scene.record({ kind: 'suspend', ...other });
  const steps: Step[] = [
    { kind: 'remove', id },
    { kind: 'recompress' },
    { kind: 'suspend', ...other, name: 'again' },
    { kind: 'sweep' },
  ];
  for (const step of steps) await scene.record(step);
});
afterAll(async () => {
  await counter?.[Symbol.asyncDispose]();
  await engine?.[Symbol.asyncDispose]();
  await scene?.[Symbol.asyncDispose]();
});

const losses: Loss[] = [
  { data: 'dropped', names: 'dropped' },
  { data: 'dropped', names: 'kept' },
  { data: 'some', names: 'some', seed: 1 },
];

/** After these parts of all that is done. */
const moments = [0.3, 0.5, 0.65, 0.8, 1];

it('what was suspended resumes', { timeout: 900_000 }, async () => {
  const operations = scene.recorder.operations();
  scene.recorder.stop();
  const left: Tree[] = [];
  const cuts = moments.map((part) => Math.round(part * operations.length));
  for (const [index, operation] of operations.entries()) {
    disk.apply(operation);
    const moment = cuts.indexOf(index + 1);
    const loss = losses[moment % losses.length];
    if (moment >= 0 && loss !== undefined) left.push(disk.after(loss));
  }
  expect(left).toHaveLength(moments.length);
  for (const tree of left) {
    fill(scene.folder, tree);
    writeFileSync(counter.file, counted);
    expect(await counter.expectUsable()).toBe('suspended');
    await engine.json('end', counter.id);
    await engine.kill();
  }
  // For what tidies up.
  fill(scene.folder, left.at(-1) ?? new Map());
});
