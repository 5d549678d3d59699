/**
 * Each operation on the disk fails in turn, is cut short, or finds the disk full: what was to be done is done or refused,
 * nothing else is lost, and the same store goes on as if nothing had been. That is so still when power is lost right after
 * its next success.
 */
import { describe, expect, it } from 'vitest';
import { Disk, digestOf, readTree, type Tree } from '../support/disk-faults/disk.ts';
import type { Fault } from '../support/disk-faults/recorder.ts';
import { examine, fill, Reader, Scene } from './store/scene.ts';
import type { Answer, Expected, Step, Wanted } from './store/steps.ts';

const a1: Wanted = { name: 'A1', workload: 'a', seed: 1, pages: 60, codec: 'raw' };
const a2: Wanted = { ...a1, name: 'A2', changedEvery: 20 };
const b1: Wanted = { name: 'B1', workload: 'b', seed: 2, pages: 60, codec: 'lz4' };
/** Nothing of it is new to the packs, so that it relies on what was written before. */
const again: Wanted = { ...a1, name: 'again', workload: 'c' };

const attempts: ((at: number) => Fault)[] = [
  (at) => ({ kind: 'error', at, code: 'EIO' }),
  (at) => ({ kind: 'short', at }),
  (at) => ({ kind: 'full', at }),
];

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

/** @returns what is wrong after the fault, or undefined where nothing was left for it to strike at. */
async function strike(
  scene: Scene,
  reader: Reader,
  { tree, there, step }: Before,
  fault: Fault,
): Promise<string[] | undefined> {
  scene.recorder.stop();
  fill(scene.folder, tree);
  const disk = new Disk(scene.folder);
  if (step.kind !== 'open') await scene.record({ kind: 'open' });
  scene.recorder.watch(scene.folder, fault);
  const answer = await scene.perform(step);
  if (scene.recorder.count < fault.at) return undefined;
  // What was no write cannot be cut short.
  if (scene.recorder.struck === 0) return [];
  const wrong: string[] = [];
  const look = async (when: string, left: Tree, expected: Expected) => {
    // A copy, for who opens it tidies it.
    fill(scene.other, left);
    wrong.push(...(await examine(scene.other, reader, expected)).map((each) => `${when}: ${each}`));
  };
  const expected = outcome(there, step, answer);
  await look('at once', readTree(scene.folder), expected);

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
  it.each(cases)('in $what', async (each) => {
    await using scene = new Scene();
    await using reader = new Reader();
    const start = await before(scene, each);
    const wrong: string[] = [];
    let struck = 0;
    for (const attempt of attempts) {
      for (let at = 1; ; at++) {
        const fault = attempt(at);
        const found = await strike(scene, reader, start, fault);
        if (found === undefined) break;
        struck += Math.min(1, scene.recorder.struck);
        for (const what of found) wrong.push(`${JSON.stringify(fault)}: ${what}`);
      }
    }
    console.log(each.what, struck);
    expect(wrong).toEqual([]);
  });
});
