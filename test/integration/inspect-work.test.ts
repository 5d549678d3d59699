/**
 * How much an inspection does, rather than how long it takes: how often this process reads (/proc/self/io), which does not
 * depend on what else the machine is doing.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { canInspect, makeInspector, root, Tie } from './inspect-fixture.ts';

const readsSoFar = () => Number(/^syscr: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);

async function readsFor(tie: Tie): Promise<{ reads: number; processes: number; descriptors: number }> {
  const inspector = await makeInspector(tie.folder);
  const inspect = () => inspector.inspectPid(tie.insider, root);
  // Once ahead, for what is read only the first time.
  await inspect();
  const before = readsSoFar();
  const { facts } = await inspect();
  return {
    reads: readsSoFar() - before,
    processes: facts.processes.length,
    descriptors: facts.processes.reduce((sum, { descriptors }) => sum + descriptors.length, 0),
  };
}

describe.skipIf(!canInspect)('the work of an inspection', () => {
  test('is a few reads for a process and one file for a descriptor', async () => {
    await using small = await Tie.hold('UnixInside');
    await using crowd = await Tie.hold('Crowd');
    const least = await readsFor(small);
    const { reads, processes, descriptors } = await readsFor(crowd);
    expect([processes, descriptors >= 500]).toEqual([20, true]);
    // Each file is read to its end, which takes two reads; a process has nine files, one of them long.
    expect(reads - least.reads).toBeLessThan(processes * 40 + descriptors * 2.5);
  });

  test('does not grow with what others have', async () => {
    await using crowd = await Tie.hold('Crowd');
    const alone = await readsFor(crowd);
    await using _desktop = await Tie.hold('Desktop');
    const among = await readsFor(crowd);
    expect(among.descriptors).toBe(alone.descriptors);
    // The tables of sockets are longer, and are read in larger pieces.
    expect(among.reads - alone.reads).toBeLessThan(150);
  });
});
