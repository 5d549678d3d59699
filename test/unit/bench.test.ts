/** What the benchmark makes of its measurements: medians, aims, chart. */
import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { expect, test } from 'vitest';
import { aims } from '../bench/aims.ts';
import { type Chart, drawChart } from '../bench/chart.ts';
import { mediansOf } from '../bench/figures.ts';
import { memoryChart } from '../bench/memory-chart.ts';
import { memoryReport } from '../bench/memory-report.ts';
import type { Result } from '../bench/result.ts';

const mebibyte = 1024 ** 2;

function result(name: string, mib: number, { torporMs = 100, isSlow = false } = {}): Result {
  const suspend = {
    freeMs: torporMs,
    durableMs: torporMs,
    standstillMs: torporMs,
    bytes: mib * mebibyte,
    settledBytes: (mib * mebibyte) / 4,
    settleMs: 10,
    cpuSeconds: 1,
  };
  return {
    name,
    kind: 'memory',
    mib,
    isSlow,
    rounds: 1,
    torpor: {
      memoryBytes: mib * mebibyte,
      first: suspend,
      second: { ...suspend, durableMs: torporMs / 10, settledBytes: (mib * mebibyte) / 80 },
      resumeMs: 50,
      reactMs: 60,
      residentMs: torporMs,
      resumeCpuSeconds: 1,
      medium: { writeMs: 100, readMs: 100 },
      helpers: { 'torpor-pages': { peak: 70 * mebibyte, anonymous: 20 * mebibyte } },
      isIntact: true,
    },
    plain: {
      dump: { dumpMs: 150, freeMs: 150, syncMs: 50, bytes: mib * mebibyte },
      dumpCpuSeconds: 1,
      zstd: { compressMs: 300, bytes: (mib * mebibyte) / 3, cpuSeconds: 1, decompressMs: 20 },
      restoreMs: 700,
      reactMs: 700,
      restoreCpuSeconds: 1,
      lazy: undefined,
      medium: { writeMs: 100, readMs: 100 },
      isIntact: true,
    },
  };
}

const results = [
  result('64 MiB mixed, private', 64),
  result('4 GiB mixed, private', 4096),
  result('512 MiB & more, slow disk', 512, { isSlow: true, torporMs: 200 }),
];

test('medians go down to the figures, and one round without one is enough', () => {
  const rounds = [
    { ms: 3, inner: { bytes: 1 }, isIntact: true, lazy: { ms: 1 }, left: undefined },
    { ms: 1, inner: { bytes: 9 }, isIntact: false, lazy: undefined, left: undefined },
    { ms: 2, inner: { bytes: 5 }, isIntact: true, lazy: { ms: 2 }, left: undefined },
  ];
  expect(mediansOf(rounds)).toEqual({
    ms: 2,
    inner: { bytes: 5 },
    isIntact: false,
    lazy: undefined,
    left: undefined,
  });
});

test('an aim is reached when it is in the worst case, and not when nothing was measured', () => {
  const found = aims(results);
  const of = (text: string) => found.find(({ aim }) => aim.includes(text));
  expect(of('plain criu plus fsync')).toMatchObject({
    isReached: true,
    figure: expect.stringContaining('2 of 2'),
  });
  expect(of('slow disk')).toMatchObject({ isReached: false, figure: expect.stringMatching(/^2\.00 /) });
  expect(of('1.3 times')).toMatchObject({ isReached: true, figure: '1.00 (4 GiB mixed, private)' });
  expect(of('tenth')).toMatchObject({ isReached: true });
  expect(of('GIMP')).toMatchObject({ isReached: undefined, figure: 'not measured' });
  expect(of('64 MiB whatever')).toMatchObject({ isReached: true });
  const [first, ...rest] = results;
  if (first === undefined) throw new Error('no results');
  const missed = aims([
    { ...first, torpor: { ...first.torpor, first: { ...first.torpor.first, durableMs: 170 } } },
    ...rest,
  ]);
  expect(missed[0]).toMatchObject({ isReached: false, figure: expect.stringContaining('1 of 2') });
});

test('the report names what it says nothing of, and memory that was not the same', () => {
  const report = memoryReport(results, ['Firefox is not installed.'], 'chart.svg');
  expect(report).toContain('- Firefox is not installed.');
  expect(report).toContain('NOT reached');
  expect(report).toContain('| not measured |');
  expect(report).toContain('was the same after each resume');
  const [first] = results;
  if (first === undefined) throw new Error('no results');
  const damaged = { ...first, torpor: { ...first.torpor, isIntact: false } };
  expect(memoryReport([damaged], [], 'chart.svg')).toContain('MEMORY WAS NOT THE SAME');
});

test('the chart is well-formed, has a bar for each value, and is as wide as its longest bar', () => {
  const chart = memoryChart(results);
  expect(XMLValidator.validate(chart)).toBe(true);
  const parsed = new XMLParser({ ignoreAttributes: false }).parse(chart) as { svg: { '@_viewBox': string } };
  const width = Number(parsed.svg['@_viewBox'].split(' ')[2]);
  const bars = [...chart.matchAll(/<rect class="s\d" x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="11"/g)];
  // In four panels: no lazy restore was measured in two of them.
  expect(bars).toHaveLength(3 * (3 + 2 + 2 + 3));
  for (const [, x, length] of bars) expect(Number(x) + Number(length)).toBeLessThan(width);
  expect(chart).toContain('512 MiB &amp; more, slow disk');
  expect(chart).toContain('prefers-color-scheme:dark');
});

test('bars are in proportion, and the smallest is seen', () => {
  const chart: Chart = {
    title: 'A title',
    series: ['one', 'two'],
    panels: [
      {
        title: 'A panel',
        groups: [
          {
            name: 'a',
            bars: [
              { value: 1000, label: '1000' },
              { value: 500, label: '500' },
            ],
          },
          { name: 'b', bars: [{ value: 0.001, label: '0' }, undefined] },
        ],
      },
    ],
  };
  const widths = [...drawChart(chart).matchAll(/width="([\d.]+)" height="11"/g)].map(([, width]) =>
    Number(width),
  );
  expect(widths).toHaveLength(3);
  expect(widths[1]).toBeCloseTo((widths[0] ?? 0) / 2, 0);
  expect(widths[2]).toBe(1);
  expect(() => drawChart({ ...chart, series: ['one'] })).toThrow('one bar for each series');
  expect(() => drawChart({ ...chart, series: ['1', '2', '3', '4'] })).toThrow(RangeError);
});
