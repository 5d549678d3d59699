import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { durationText, findingOf, restoreClocks, standstillOf } from '../../engine/clocks/clocks.ts';
import { moveClocks, moveProcessTimers, moveTimerDescriptors } from '../../engine/clocks/images.ts';
import { makeImage, readImage } from '../../proto/images.ts';
import { encode, message, optional, repeated, required } from '../../proto/wire.ts';

const timespec = message('timespec', { seconds: required(1, 'uint64'), nanoseconds: required(2, 'uint64') });
const timens = message('timens_entry', { monotonic: required(1, timespec), boottime: required(2, timespec) });
const timerfd = message('timerfd_entry', {
  id: required(1, 'uint32'),
  clock: required(4, 'uint32'),
  ticks: required(5, 'uint64'),
  flags: required(6, 'uint32'),
  seconds: required(7, 'uint64'),
  nanoseconds: required(8, 'uint64'),
  every: required(9, 'uint64'),
});
const file = message('file_entry', {
  type: required(1, 'enum'),
  id: required(2, 'uint32'),
  timerfd: optional(12, timerfd),
  later: optional(60, 'string'),
});
const timers = message('task_timers_entry', {
  real: required(
    1,
    message('itimer_entry', {
      everySeconds: required(1, 'uint64'),
      seconds: required(3, 'uint64'),
      microseconds: required(4, 'uint64'),
    }),
  ),
  posix: repeated(
    4,
    message('posix_timer_entry', {
      id: required(1, 'uint32'),
      clock: required(2, 'uint32'),
      seconds: required(9, 'uint64'),
      nanoseconds: required(10, 'uint64'),
      thread: optional(11, 'sint32'),
    }),
  ),
});
const core = message('core_entry', {
  machine: required(1, 'enum'),
  task: optional(
    3,
    message('task_core_entry', {
      state: required(1, 'uint32'),
      exitCode: required(2, 'uint32'),
      comm: required(6, 'string'),
      timers: optional(7, timers),
    }),
  ),
});

const second = 1_000_000_000n;

function descriptor(clock: number, flags: number, seconds: bigint, nanoseconds = 5n) {
  const timer = { id: 3, clock, ticks: 0n, flags, seconds, nanoseconds, every: 60n };
  return { type: 17, id: 3, timerfd: timer, later: 'kept' };
}

describe('clocks of a time namespace', () => {
  it('are moved on, over the end of a second too', () => {
    const image = makeImage(
      'timens',
      encode(timens, {
        monotonic: { seconds: 7n, nanoseconds: 600_000_000n },
        boottime: { seconds: 9n, nanoseconds: 0n },
      }),
    );
    expect(readImage('timens', timens, moveClocks(image, second / 2n))).toEqual([
      {
        monotonic: { seconds: 8n, nanoseconds: 100_000_000n },
        boottime: { seconds: 9n, nanoseconds: second / 2n },
      },
    ]);
  });
});

describe('timers of descriptors', () => {
  const image = makeImage(
    'files',
    encode(file, { type: 1, id: 1 }),
    ...[descriptor(1, 0, 30n), descriptor(0, 1, 30n), descriptor(0, 0, 30n), descriptor(0, 1, 3n)].map(
      (each) => encode(file, each),
    ),
    encode(file, descriptor(1, 0, 0n, 0n)),
  );
  const left = (moved: Buffer) =>
    readImage('files', file, moved).map(
      (each) => each.timerfd && [each.timerfd.seconds, each.timerfd.nanoseconds],
    );

  it('that are set to a time of the day have less left, the others as much as they had', () => {
    const moved = moveTimerDescriptors(image, { wall: 10n * second, own: 0n });
    expect(left(moved)).toEqual([undefined, [30n, 5n], [20n, 5n], [30n, 5n], [0n, 1n], [0n, 0n]]);
    expect(readImage('files', file, moved)[2]).toEqual({
      ...descriptor(0, 1, 20n),
    });
  });

  it.each(['keep', 'advance'] as const)(
    'that are set to a time of the day go off at that also where the date was put back (%s)',
    async (choice) => {
      const folder = await mkdtemp(join(tmpdir(), 'torpor-clocks-'));
      try {
        await writeFile(join(folder, 'files.img'), image);
        const rewritten = new Map<string, Buffer>();
        // It was suspended in what is an hour from now.
        const takenAt = new Date(Date.now() + 3_600_000).toISOString();
        await restoreClocks({ takenAt, standstillMs: 0 }, folder, rewritten, choice);
        const moved = left(rewritten.get('files.img') ?? image).map((each) => each?.[0]);
        const [first, timeOfDay = 0n, ...others] = moved.slice(1);
        expect([first, ...others]).toEqual([30n, 30n, moved[4], 0n]);
        for (const [seconds, was] of [
          [timeOfDay, 30n],
          [moved[4] ?? 0n, 3n],
        ] as const) {
          expect(seconds).toBeLessThanOrEqual(was + 3600n);
          // A machine with much else to do may have taken its time.
          expect(seconds).toBeGreaterThan(was + 3000n);
        }
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  );

  it('all have less left, if any, where time has passed', () => {
    const moved = moveTimerDescriptors(image, { wall: 10n * second, own: 10n * second });
    expect(left(moved)).toEqual([undefined, [20n, 5n], [20n, 5n], [20n, 5n], [0n, 1n], [0n, 0n]]);
  });

  it('stay byte for byte where there is nothing to move', () => {
    const other = makeImage(
      'files',
      encode(file, { type: 1, id: 1, later: 'x' }),
      encode(file, descriptor(1, 1, 30n)),
    );
    expect(moveTimerDescriptors(other, { wall: second, own: 0n })).toEqual(other);
  });
});

describe('timers of a process', () => {
  it('have less left, but those of processor time', () => {
    const posix = (clock: number, seconds: bigint) => ({
      id: 1,
      clock,
      seconds,
      nanoseconds: 0n,
      thread: -1,
    });
    const image = makeImage(
      'core',
      encode(core, {
        machine: 1,
        task: {
          state: 1,
          exitCode: 0,
          comm: 'x',
          timers: {
            real: { everySeconds: 4n, seconds: 20n, microseconds: 7n },
            posix: [posix(1, 20n), posix(2, 20n), posix(0, 2n), posix(7, 0n)],
          },
        },
      }),
      encode(core, { machine: 1 }),
    );
    const [first, thread] = readImage('core', core, moveProcessTimers(image, 10n * second));
    expect(first?.task?.timers?.real).toEqual({ everySeconds: 4n, seconds: 10n, microseconds: 7n });
    expect(first?.task?.timers?.posix.map(({ seconds, nanoseconds }) => [seconds, nanoseconds])).toEqual([
      [10n, 0n],
      [20n, 0n],
      [0n, 1n],
      [0n, 0n],
    ]);
    expect(thread).toEqual({ machine: 1 });
  });
});

describe('the time that something stood still', () => {
  it('counts from the freeze on', () => {
    const manifest = { takenAt: '2026-11-22T10:00:01.000Z', standstillMs: 400 };
    expect(standstillOf(manifest, Date.parse('2026-11-22T10:01:01.000Z'))).toBe(60_400);
  });

  it.each([
    [0, 'less than a second'],
    [1999, '1 second'],
    [60_000, '1 minute'],
    [7_320_000, '2 hours 2 minutes'],
    [3 * 86_400_000 + 59_000, '3 days'],
  ])('of %d milliseconds is told as %s', (milliseconds, text) => {
    expect(durationText(milliseconds)).toBe(text);
  });

  it('is not told where the date was put back', () => {
    const finding = findingOf(-7_200_000, 'advance');
    expect(finding.verdict).toBe('degraded');
    expect(finding.what).toContain('2 hours behind');
    expect(finding.what).toContain('go on where they were');
  });
});
