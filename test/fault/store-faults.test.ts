/**
 * Each operation on the disk fails in turn, is cut short, or is the last one of its process: what was to be done is done
 * or refused, nothing else is lost, and the same store goes on as if nothing had been. That is so still when power is
 * lost right after the next success.
 */
import { describe, expect, it } from 'vitest';
import { Disk, digestOf, readTree, type Tree } from '../support/disk-faults/disk.ts';
import type { Fault } from '../support/disk-faults/recorder.ts';
import { examine, fill, Scene } from './store/scene.ts';
import type { Expected, Step, Wanted } from './store/steps.ts';

const a1: Wanted = { name: 'A1', workload: 'a', seed: 1, pages: 60 };
const a2: Wanted = { ...a1, name: 'A2', changedEvery: 20 };
const b1: Wanted = { name: 'B1', workload: 'b', seed: 2, pages: 60 };
const again: Wanted = { ...a1, name: 'again', changedEvery: 15 };

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

/** Everything up to the last of the steps, which is the one to be struck at. */
async function before(
  scene: Scene,
  wanted: readonly Wanted[],
  step: (ids: string[]) => Step,
): Promise<Before> {
  scene.recorder.stop();
  const there = new Map<string, Wanted>();
  if (wanted.length > 0) await scene.record({ kind: 'open' });
  for (const each of wanted) there.set((await scene.record({ kind: 'suspend', ...each })).id, each);
  return { tree: readTree(scene.folder), there, step: step([...there.keys()]) };
}

/** @returns what is wrong after the fault, or undefined where nothing was left for it to strike at. */
async function strike(
  scene: Scene,
  { tree, there, step }: Before,
  fault: Fault,
): Promise<string[] | undefined> {
  fill(scene.folder, tree);
  const disk = new Disk(scene.folder);
  scene.recorder.stop();
  if (step.kind !== 'open') await scene.record({ kind: 'open' });
  scene.recorder.watch(scene.folder, fault);
  const answer = await scene.perform(step);
  if (scene.recorder.count < fault.at) return undefined;
  // What was no write cannot be cut short.
  if (scene.recorder.struck === 0) return [];
  const wrong: string[] = [];
  const expected = outcome(there, step, answer);
  // Of a copy, for it is tidied by who opens it.
  fill(scene.other, readTree(scene.folder));
  wrong.push(...(await examine(scene.other, expected)).map((each) => `at once: ${each}`));

  scene.recorder.mend();
  if (step.kind === 'open') await scene.record({ kind: 'open' });
  const { id } = await scene.record({ kind: 'suspend', ...again });
  const after = { there: new Map(expected.there).set(id, again), maybe: expected.maybe };
  for (const operation of scene.recorder.operations()) disk.apply(operation);
  if (digestOf(disk.live) !== digestOf(readTree(scene.folder))) wrong.push('not all was recorded');
  fill(scene.other, disk.after({ data: 'dropped', names: 'dropped' }));
  wrong.push(
    ...(await examine(scene.other, after)).map((each) => `power lost after another suspend: ${each}`),
  );
  return wrong;
}

/** What must be there after a step that has succeeded or not. */
function outcome(
  before: ReadonlyMap<string, Wanted>,
  step: Step,
  { ok, id }: { ok: boolean; id?: string },
): Expected {
  const there = new Map(before);
  const maybe = new Map<string, Wanted>();
  if (step.kind === 'suspend' && id !== undefined) (ok ? there : maybe).set(id, step);
  if (step.kind === 'remove') {
    const removed = there.get(step.id);
    there.delete(step.id);
    if (!ok && removed !== undefined) maybe.set(step.id, removed);
  }
  return { there, maybe };
}

const cases: [string, readonly Wanted[], (ids: string[]) => Step][] = [
  ['the first opening', [], () => ({ kind: 'open' })],
  ['a suspend', [b1], () => ({ kind: 'suspend', ...a1 })],
  ['a second suspend', [b1, a1], () => ({ kind: 'suspend', ...a2 })],
  ['a removal', [b1, a1, a2], ([, id = '']) => ({ kind: 'remove', id })],
];

describe('a store goes on after a fault', () => {
  it.each(cases)('in %s', async (_, wanted, step) => {
    await using scene = new Scene();
    const start = await before(scene, wanted, step);
    const wrong: string[] = [];
    let count = 0;
    for (const attempt of attempts) {
      for (let at = 1; ; at++) {
        const fault = attempt(at);
        const found = await strike(scene, start, fault);
        if (found === undefined) break;
        if (scene.recorder.struck > 0) count++;
        for (const each of found) wrong.push(`${JSON.stringify(fault)}: ${each}`);
      }
    }
    console.log(count);
    expect(wrong).toEqual([]);
  });
});
