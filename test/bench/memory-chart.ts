/** The chart of docs/benchmark.md: what a user waits for and what it takes on disk, Torpor beside plain criu. */
import { type Chart, drawChart, type Group } from './chart.ts';
import { mebibytes, milliseconds } from './figures.ts';
import { plainDurableMs, type Result } from './result.ts';

const shown = (value: number, label: (value: number) => string) => ({ value, label: label(value) });

export function memoryChart(results: readonly Result[]): string {
  const groups = (
    torpor: (result: Result) => number,
    plain: (result: Result) => number,
    third: (result: Result) => number | undefined,
    label = milliseconds,
  ): Group[] =>
    results.map((result) => {
      const last = third(result);
      return {
        name: result.name,
        bars: [
          shown(torpor(result), label),
          shown(plain(result), label),
          last === undefined ? undefined : shown(last, label),
        ],
      };
    });
  const withZstd = (result: Result) => plainDurableMs(result) + result.plain.zstd.compressMs;
  const chart: Chart = {
    title: 'Torpor beside plain criu',
    series: ['Torpor', 'plain criu', 'criu and zstd -1 (suspend, disk); criu lazy-pages (resume)'],
    panels: [
      {
        title: 'Suspend: until it is durable',
        groups: groups(({ torpor }) => torpor.first.durableMs, plainDurableMs, withZstd),
      },
      {
        title: 'Resume from a cold cache: until it reacts',
        groups: groups(
          ({ torpor }) => torpor.reactMs,
          ({ plain }) => plain.reactMs,
          ({ plain }) => plain.lazy?.reactMs,
        ),
      },
      {
        title: 'Resume: until all of its memory is there',
        groups: groups(
          ({ torpor }) => torpor.residentMs,
          ({ plain }) => plain.restoreMs,
          ({ plain }) => plain.lazy?.residentMs,
        ),
      },
      {
        title: 'Bytes on disk, once settled',
        groups: groups(
          ({ torpor }) => torpor.first.settledBytes,
          ({ plain }) => plain.dump.bytes,
          ({ plain }) => plain.zstd.bytes,
          mebibytes,
        ),
      },
    ],
  };
  return drawChart(chart);
}
