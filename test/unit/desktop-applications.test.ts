/** Which processes are one application, and what is remembered of putting them aside. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { groupApplications, type ProcessFacts } from '../../engine/nap/applications.ts';
import { Measurements, medianOf } from '../../engine/nap/measurements.ts';
import type { WorkloadKind } from '../../proto/manifest.ts';

const process = (
  pid: number,
  ppid: number,
  name: string,
  more: Partial<ProcessFacts> = {},
): ProcessFacts => ({
  ...{ pid, ppid, name, uid: 1000, hasDisplay: true, unit: undefined },
  ...more,
});
const leaders = (all: ProcessFacts[]) =>
  groupApplications(all).map(({ leader, pids }) => [leader, pids] as const);

it('takes a tree with a display for one application, below what the session itself is made of', () => {
  const all = [
    process(1, 0, 'systemd', { uid: 0, hasDisplay: false }),
    process(10, 1, 'xfce4-session'),
    process(11, 10, 'xfwm4'),
    process(12, 10, 'firefox-esr'),
    process(13, 12, 'Web Content'),
    process(14, 13, 'crashhelper', { hasDisplay: false }),
    process(15, 10, 'dbus-daemon'),
    process(16, 12, 'other', { uid: 1001 }),
  ];
  expect(leaders(all)).toEqual([
    [12, [12, 13]],
    [16, [16]],
  ]);
});

it('tells a terminal, with its shell, from what was started in it', () => {
  const all = [
    process(20, 1, 'xterm'),
    process(21, 20, 'bash'),
    process(22, 21, 'gimp'),
    process(23, 22, 'script-fu'),
  ];
  expect(leaders(all)).toEqual([
    [20, [20, 21]],
    [22, [22, 23]],
  ]);
  expect(leaders([process(30, 1, 'bash'), process(31, 30, 'make')])).toEqual([[31, [31]]]);
});

it('goes by the unit of the desktop where there is one', () => {
  const unit = '/sys/fs/cgroup/app-gimp-1.scope';
  const all = [
    process(40, 1, 'nautilus'),
    process(41, 40, 'gimp', { unit }),
    process(42, 41, 'helper', { unit, hasDisplay: false }),
  ];
  expect(leaders(all)).toEqual([
    [40, [40]],
    [41, [41, 42]],
  ]);
});

const log = pino({ enabled: false });
const workload = (name: string) =>
  ({ kind: 'job', job: { command: [name], user: { uid: 7 } } }) as unknown as WorkloadKind;

it('remembers the last few times of each program, also for the next engine', async () => {
  const folder = await mkdtemp('/tmp/torpor-measured-');
  try {
    const measurements = await Measurements.open(folder, log);
    expect(measurements.of(7, ['gimp'])).toEqual({});
    for (const ms of [9000, 1, 2, 3, 4, 5]) measurements.add(workload('/usr/bin/gimp'), 'resume', { ms });
    measurements.add(workload('gimp'), 'nap', { gainBytes: 10, ms: 1 });
    await measurements.flush();
    const again = await Measurements.open(folder, log);
    expect(again.of(7, ['gimp', 'a.png'])).toEqual({ resume: { ms: 3 }, nap: { gainBytes: 10, ms: 1 } });
    expect(again.of(8, ['gimp'])).toEqual({});

    for (let index = 0; index < 250; index++) again.add(workload(`program-${index}`), 'wake', { ms: 1 });
    await again.flush();
    expect(again.of(7, ['gimp'])).toEqual({});
    expect(
      (JSON.parse(await readFile(join(folder, 'measurements.json'), 'utf8')) as { programs: unknown[] })
        .programs,
    ).toHaveLength(200);

    await writeFile(join(folder, 'measurements.json'), '{"version":1,"programs":[[');
    expect((await Measurements.open(folder, log)).of(7, ['program-249'])).toEqual({});
  } finally {
    await rm(folder, { recursive: true });
  }
});

it.each([
  [[], 0],
  [[3], 3],
  [[5, 1, 3], 3],
  [[4, 1, 3, 2], 2],
])('the median of %j is %d', (values, median) => {
  expect(medianOf(values)).toBe(median);
});
