/** The aims of the page store and the lazy resume, each with what was measured. */
import { mebibytes, milliseconds, ratio } from './figures.ts';
import { plainDurableMs, type Result } from './result.ts';

export interface Aim {
  aim: string;
  /** Undefined where nothing that it speaks of was measured. */
  isReached: boolean | undefined;
  figure: string;
}

interface Measured {
  name: string;
  value: number;
}

const helperLimitBytes = 64 * 1024 ** 2;
const windowLimitMs = 300;
/** Where the application has less memory than this, what a suspend does beside writing memory is most of it. */
const largeMib = 512;

/** Reached when it holds for all; tells the worst, and how many there were. */
function atMost(aim: string, limit: number, measured: readonly Measured[], show = ratio): Aim {
  const worst = measured.toSorted((a, b) => b.value - a.value)[0];
  if (worst === undefined) return { aim, isReached: undefined, figure: 'not measured' };
  const best = Math.min(...measured.map(({ value }) => value));
  const inside = measured.filter(({ value }) => value <= limit).length;
  const figure =
    measured.length === 1
      ? `${show(worst.value)} (${worst.name})`
      : `${inside} of ${measured.length} cases; ${show(best)} to ${show(worst.value)}, the worst: ${worst.name}`;
  return { aim, isReached: worst.value <= limit, figure };
}

export function aims(results: readonly Result[]): Aim[] {
  const fast = results.filter(({ isSlow }) => !isSlow);
  const slow = results.filter(({ isSlow }) => isSlow);
  const memory = fast.filter(({ kind }) => kind === 'memory');
  const applications = fast.filter(({ kind }) => kind === 'application');
  const isLarge = ({ kind, mib }: Result) => kind === 'application' || (mib ?? 0) >= largeMib;
  const values = (of: readonly Result[], value: (result: Result) => number): Measured[] =>
    of.map((result) => ({ name: result.name, value: value(result) }));
  // The 4 GiB process beside the smallest of the same kind.
  const ofKind = (mib: number) => memory.find((each) => each.mib === mib && /mixed, private/.test(each.name));
  const [small, large] = [ofKind(64), ofKind(4096)];
  const readLimitMs = ({ torpor, plain }: Result) => Math.max(torpor.medium.readMs, plain.zstd.decompressMs);
  return [
    atMost(
      'Durable on a fast disk within 0.8 of plain criu plus fsync',
      0.8,
      values(fast, (each) => each.torpor.first.durableMs / plainDurableMs(each)),
    ),
    atMost(
      `The same, of ${largeMib} MiB and more, and of applications`,
      0.8,
      values(fast.filter(isLarge), (each) => each.torpor.first.durableMs / plainDurableMs(each)),
    ),
    atMost(
      "Durable on a slow disk within 1.15 of the medium's own time for the bytes written",
      1.15,
      values(slow, ({ torpor: { first, medium } }) => first.durableMs / medium.writeMs),
    ),
    atMost(
      'Memory free at least as soon as with plain criu',
      1,
      values(fast, ({ torpor, plain }) => torpor.first.freeMs / plain.dump.freeMs),
    ),
    atMost(
      'Bytes on disk, once settled, at most 0.35 of resident memory for the applications',
      0.35,
      values(applications, (each) => each.torpor.first.settledBytes / each.torpor.memoryBytes),
    ),
    atMost(
      'A second snapshot at most 0.1 of the first, once settled',
      0.1,
      values(fast, ({ torpor: { first, second } }) => second.settledBytes / first.settledBytes),
    ),
    atMost(
      'First reaction of the 4 GiB process within 1.3 times that of the 64 MiB one',
      1.3,
      small && large ? [{ name: large.name, value: large.torpor.reactMs / small.torpor.reactMs }] : [],
    ),
    atMost(
      "First reaction of the 4 GiB process within a tenth of plain criu's from a cold cache",
      0.1,
      large ? [{ name: large.name, value: large.torpor.reactMs / large.plain.reactMs }] : [],
    ),
    atMost(
      `A GIMP window reacts within ${windowLimitMs} ms`,
      windowLimitMs,
      values(
        applications.filter(({ name }) => name.startsWith('GIMP')),
        ({ torpor }) => torpor.reactMs,
      ),
      milliseconds,
    ),
    atMost(
      "Fully resident within 1.2 times the medium's read of the bytes on disk, or the cores' decompression of them, whichever is longer",
      1.2,
      values(fast.filter(isLarge), (each) => each.torpor.residentMs / readLimitMs(each)),
    ),
    atMost(
      `A second suspend with 5% changed in at most a fifth of the first, of ${largeMib} MiB and more`,
      0.2,
      values(memory.filter(isLarge), ({ torpor: { first, second } }) => second.durableMs / first.durableMs),
    ),
    atMost(
      "The helpers' own memory under 64 MiB whatever the application's size",
      helperLimitBytes,
      results.flatMap(({ name, torpor: { helpers } }) =>
        Object.entries(helpers).map(([helper, { anonymous }]) => ({
          name: `${helper}, ${name}`,
          value: anonymous,
        })),
      ),
      mebibytes,
    ),
  ];
}
