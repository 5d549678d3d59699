/** Which snapshots go when the disk limit is reached. */
import { describe, expect, it } from 'vitest';
import type { Snapshot, Workload } from '../../api/types.ts';
import { toMakeRoom } from '../../main/automation/disk-limit.ts';

const snapshot = (
  id: string,
  workload: string,
  day: number,
  bytesOnDisk: number,
  kept = false,
): Snapshot => ({
  id,
  workload,
  name: workload,
  takenAt: new Date(Date.UTC(2026, 0, day)).toISOString(),
  bytesOnDisk,
  memoryBytes: 0,
  standstillMs: 0,
  durableMs: 0,
  user: 'ada',
  command: [workload],
  kept,
});
const workload = (id: string, state: Workload['state'], current?: string): Workload => ({
  id,
  name: id,
  kind: 'capsule',
  state,
  user: 'ada',
  pids: [],
  memoryBytes: 0,
  command: [id],
  startedAt: new Date(0).toISOString(),
  ...(current === undefined ? {} : { snapshot: current }),
});
const limit = (diskLimitBytes: number, removeFirst: 'oldest' | 'largest' = 'oldest') => ({
  diskLimitBytes,
  removeFirst,
});

describe('the disk limit', () => {
  const three = [snapshot('c', 'gimp', 3, 10), snapshot('b', 'gimp', 2, 30), snapshot('a', 'gimp', 1, 20)];

  it('removes the oldest until what is left fits', () => {
    expect(toMakeRoom(three, [workload('gimp', 'running', 'c')], limit(45))).toEqual(['a']);
    expect(toMakeRoom(three, [workload('gimp', 'running', 'c')], limit(20))).toEqual(['a', 'b']);
  });

  it('removes the largest where that is wanted', () => {
    expect(toMakeRoom(three, [workload('gimp', 'running', 'c')], limit(45, 'largest'))).toEqual(['b']);
  });

  it('removes nothing without a limit or below it', () => {
    expect(toMakeRoom(three, [], limit(0))).toEqual([]);
    expect(toMakeRoom(three, [], limit(60))).toEqual([]);
  });

  it('never removes what a suspended application needs, even where it is not the newest', () => {
    expect(toMakeRoom(three, [workload('gimp', 'suspended', 'a')], limit(1))).toEqual(['b']);
  });

  it('never removes the last of an application that has ended or is not known', () => {
    expect(toMakeRoom(three, [workload('gimp', 'ended')], limit(1))).toEqual(['a', 'b']);
    expect(toMakeRoom(three, [], limit(1))).toEqual(['a', 'b']);
  });

  it('never removes what is kept', () => {
    const kept = [...three.slice(0, 2), snapshot('a', 'gimp', 1, 20, true)];
    expect(toMakeRoom(kept, [workload('gimp', 'running', 'c')], limit(1))).toEqual(['b', 'c']);
  });
});
