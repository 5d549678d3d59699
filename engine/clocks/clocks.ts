/**
 * Time in a resume. What is resumed has monotonic clocks of its own (a time namespace: a capsule from its start, a job from
 * CRIU), which CRIU lets go on where they were: for the application no time has passed. Or, where the user has chosen
 * so, they go on by as much as it stood still, and timers that were due meanwhile go off at once. The clock on the wall is
 * nobody's own: it shows the time that it is, and a timer that was set to a time of the day goes off at that.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClockChoice, Finding } from '../../api/types.ts';
import type { Manifest } from '../../proto/manifest.ts';
import { moveClocks, moveProcessTimers, moveTimerDescriptors } from './images.ts';

const nanosecondsPerMillisecond = 1_000_000n;

/**
 * @param rewritten images that CRIU shall read instead of those in the snapshot, by name; those that must be changed are
 * put there.
 * @returns what there is to say of the time that it stood still.
 */
export async function restoreClocks(
  manifest: Pick<Manifest, 'takenAt' | 'standstillMs'>,
  imagesDir: string,
  rewritten: Map<string, Buffer>,
  choice: ClockChoice,
): Promise<Finding> {
  const standstill = standstillOf(manifest, Date.now());
  const wall = BigInt(Math.round(standstill)) * nanosecondsPerMillisecond;
  // Where the date was put back nobody knows how long it stood still.
  const nanoseconds = wall > 0n ? wall : 0n;
  const change = async (name: string, how: (image: Buffer) => Buffer) => {
    const image = rewritten.get(name) ?? (await readFile(join(imagesDir, name)));
    const changed = how(image);
    if (!changed.equals(image)) rewritten.set(name, changed);
  };
  const advances = choice === 'advance';
  await change('files.img', (image) =>
    moveTimerDescriptors(image, { wall, own: advances ? nanoseconds : 0n }),
  );
  for (const name of advances ? await readdir(imagesDir) : []) {
    if (/^timens-\d+\.img$/.test(name)) await change(name, (image) => moveClocks(image, nanoseconds));
    if (/^core-\d+\.img$/.test(name)) await change(name, (image) => moveProcessTimers(image, nanoseconds));
  }
  return findingOf(standstill, choice);
}

/** In milliseconds, from the freeze on. Less than none where the clock on the wall was put back. Pure. */
export function standstillOf(
  { takenAt, standstillMs }: Pick<Manifest, 'takenAt' | 'standstillMs'>,
  now: number,
): number {
  return now - Date.parse(takenAt) + standstillMs;
}

/** Pure. */
export function findingOf(standstillMs: number, choice: ClockChoice): Finding {
  const isKnown = standstillMs >= 0;
  const what = isKnown
    ? `It stood still for ${durationText(standstillMs)}`
    : `The machine’s date and time are ${durationText(-standstillMs)} behind those of its suspend, so nobody knows how long it stood still`;
  const how =
    choice === 'advance' && isKnown
      ? 'its monotonic clock has gone on by that, and timers that were due meanwhile go off now'
      : 'its monotonic clock and its timers go on where they were';
  return {
    tie: 'clock',
    verdict: isKnown ? 'handled' : 'degraded',
    by: 'engine',
    what: `${what}: ${how}.`,
    hint: 'The clock on the wall shows the time that it is; a timer of a descriptor (timerfd) that was set to a time of the day goes off at that.',
  };
}

const units: readonly (readonly [milliseconds: number, name: string])[] = [
  [86_400_000, 'day'],
  [3_600_000, 'hour'],
  [60_000, 'minute'],
  [1000, 'second'],
];

/** `3 days 4 hours`: in the two largest units that it has. Pure. */
export function durationText(milliseconds: number): string {
  const first = units.findIndex(([length]) => milliseconds >= length);
  if (first < 0) return 'less than a second';
  let rest = milliseconds;
  const parts = units.slice(first, first + 2).map(([length, name]) => {
    const count = Math.floor(rest / length);
    rest -= count * length;
    return count === 0 ? '' : `${count} ${name}${count === 1 ? '' : 's'}`;
  });
  return parts.filter(Boolean).join(' ');
}
