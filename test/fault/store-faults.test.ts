/**
 * Each operation on the disk fails in turn, is cut short, or finds the disk full: what was to be done is done or refused,
 * nothing else is lost, and the same store goes on as if nothing had been. That is so still when power is lost right after
 * its next success.
 */
import { describe, expect, it } from 'vitest';
import { Disk, digestOf, readTree, type Tree } from '../support/disk-faults/disk.ts';
import type { Fault, Operation } from '../support/disk-faults/recorder.ts';
import { examine, fill, Reader, Scene } from './store/scene.ts';
import type { Answer, Expected, Step, Wanted } from './store/steps.ts';

const a1: Wanted = { name: 'A1', workload: 'a', seed: 1, pages: 60, codec: 'raw' };
const a2: Wanted = { ...a1, name: 'A2', changedEvery: 20 };
const b1: Wanted = { name: 'B1', workload: 'b', seed: 2, pages: 60, codec: 'lz4' };
/** Nothing of it is new to the packs, so that it relies on what was written before. */
const again: Wanted = { ...a1, name: 'again', workload: 'c' };

/** What an operation that goes well may be struck by. */
function faultsOf(operation: Operation, at: number): Fault[] {
  const faults: Fault[] = [{ kind: 'error', at, code: 'EIO' }];
  if (operation.kind === 'write') faults.push({ kind: 'short', at });
  if (['write', 'allocate', 'make-file', 'make-folder'].includes(operation.kind))
    faults.push({ kind: 'full', at });
  return faults;
}

/** What is there before a step, and what the step makes of it. */
interface Before {
  tree: Tree;
  there: ReadonlyMap<string, Wanted>;
  step: Step;
}

interface Case {
  what: string;
  wanted: readonly Wanted[];
  /** Of those, removed again. */
  removed?: string;
  step: (ids: ReadonlyMap<string, string>) => Step;
}

const cases: Case[] = [
  { what: 'the first opening', wanted: [], step: () => ({ kind: 'open' }) },
  { what: 'a suspend', wanted: [b1], step: () => ({ kind: 'suspend', ...a1 }) },
  { what: 'a second suspend', wanted: [b1, a1], step: () => ({ kind: 'suspend', ...a2 }) },
  { what: 'a removal', wanted: [b1, a1, a2], step: (ids) => ({ kind: 'remove', id: ids.get('A1') ?? '' }) },
  { what: 'a sweep', wanted: [b1, a1, a2], removed: 'A1', step: () => ({ kind: 'sweep' }) },
  { what: 'a recompression', wanted: [b1, a1], step: () => ({ kind: 'recompress' }) },
];

async function before(scene: Scene, { wanted, removed, step }: Case): Promise<Before> {
  scene.recorder.stop();
  const there = new Map<string, Wanted>();
  const ids = new Map<string, string>();
  if (wanted.length > 0) await scene.record({ kind: 'open' });
  for (const each of wanted) {
    ids.set(each.name, (await scene.record({ kind: 'suspend', ...each })).id);
    there.set(each.name, each);
  }
  const id = removed === undefined ? undefined : ids.get(removed);
  if (id !== undefined) await scene.record({ kind: 'remove', id });
  there.delete(removed ?? '');
  const next = step(ids);
  if (next.kind === 'remove') doomed.set(next.id, 'A1');
  return { tree: readTree(scene.folder), there, step: next };
}

/** Names of snapshots that a step removes, by id. */
const doomed = new Map<string, string>();

/** What must be there after a step that has succeeded or not. */
function outcome(there: ReadonlyMap<string, Wanted>, step: Step, { ok }: Answer): Expected {
  const result = { there: new Map(there), maybe: new Map<string, Wanted>() };
  if (step.kind === 'suspend') (ok ? result.there : result.maybe).set(step.name, step);
  if (step.kind === 'remove') {
    const name = doomed.get(step.id) ?? '';
    const removed = there.get(name);
    result.there.delete(name);
    if (!ok && removed !== undefined) result.maybe.set(name, removed);
  }
  return result;
}

/** Does the step on a store as it was before, all of that durable. */
async function perform(
  scene: Scene,
  { tree, step }: Before,
  fault?: Fault,
): Promise<{ answer: Answer; disk: Disk }> {
  scene.recorder.stop();
  fill(scene.folder, tree);
  if (step.kind !== 'open') await scene.record({ kind: 'open' });
  const disk = new Disk(scene.folder);
  scene.recorder.watch(scene.folder, fault);
  return { answer: await scene.perform(step), disk };
}

/** @returns what is wrong after the fault. */
async function strike(scene: Scene, reader: Reader, start: Before, fault: Fault): Promise<string[]> {
  const { step } = start;
  const { answer, disk } = await perform(scene, start, fault);
  // One byte cannot be cut short.
  if (scene.recorder.struck === 0) return [];
  const wrong: string[] = [];
  const look = async (when: string, left: Tree, expected: Expected) => {
    // A copy, for who opens it tidies it.
    fill(scene.other, left);
    wrong.push(...(await examine(scene.other, reader, expected)).map((each) => `${when}: ${each}`));
  };
  const expected = outcome(start.there, step, answer);
  await look('at once', readTree(scene.folder), expected);
  // What comes after it does not depend on how it failed.
  if (fault.kind !== 'error') return wrong;

  scene.recorder.mend();
  if (step.kind === 'open') await scene.record({ kind: 'open' });
  await scene.record({ kind: 'suspend', ...again });
  const after = { ...expected, there: new Map(expected.there).set(again.name, again) };
  for (const operation of scene.recorder.operations()) disk.apply(operation);
  if (digestOf(disk.live) !== digestOf(readTree(scene.folder))) wrong.push('not all was recorded');
  await look('after another suspend', disk.live, after);
  await look('power lost after it', disk.after({ data: 'dropped', names: 'dropped' }), after);
  return wrong;
}

describe('a store goes on after a fault', () => {
  it.each(cases)('in $what', { timeout: 900_000 }, async (each) => {
    await using scene = new Scene();
    await using reader = new Reader();
    const start = await before(scene, each);
    const wrong: string[] = [];
    expect((await perform(scene, start)).answer).toMatchObject({ ok: true });
    const operations = scene.recorder.operations();
    expect(operations.length).toBeGreaterThan(0);
    for (const [index, operation] of operations.entries())
      for (const fault of faultsOf(operation, index + 1))
        for (const what of await strike(scene, reader, start, fault))
          wrong.push(`${JSON.stringify(fault)}: ${what}`);
    expect(wrong).toEqual([]);
  });
});
