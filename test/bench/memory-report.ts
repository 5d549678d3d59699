/** The tables of docs/benchmark.md about memory: suspend, resume, disk, second suspend, cost. */
import { type Aim, aims } from './aims.ts';
import { markdownTable, mebibytes, milliseconds, ratio } from './figures.ts';
import { plainDurableMs, type Result } from './result.ts';

const none = '–';
const seconds = (value: number) => `${value.toFixed(1)} s`;
const orNone = (value: number | undefined, show: (value: number) => string) =>
  value === undefined ? none : show(value);

type Column = [head: string, cell: (result: Result) => string];

const table = (results: readonly Result[], columns: readonly Column[]) =>
  markdownTable(
    ['', ...columns.map(([head]) => head)],
    results.map((result) => [result.name, ...columns.map(([, cell]) => cell(result))]),
  );

const suspendColumns: Column[] = [
  ['resident', ({ torpor }) => mebibytes(torpor.memoryBytes)],
  ['memory free', ({ torpor }) => milliseconds(torpor.first.freeMs)],
  ['plain criu', ({ plain }) => milliseconds(plain.dump.freeMs)],
  ['ratio', ({ torpor, plain }) => ratio(torpor.first.freeMs / plain.dump.freeMs)],
  ['durable', ({ torpor }) => milliseconds(torpor.first.durableMs)],
  ['plain criu + fsync', (result) => milliseconds(plainDurableMs(result))],
  ['ratio', (result) => ratio(result.torpor.first.durableMs / plainDurableMs(result))],
  ['criu, then zstd -1', (result) => milliseconds(plainDurableMs(result) + result.plain.zstd.compressMs)],
  ['stood still', ({ torpor }) => milliseconds(torpor.first.standstillMs)],
  ["medium's write of Torpor's bytes", ({ torpor }) => milliseconds(torpor.medium.writeMs)],
  ["of criu's bytes", ({ plain }) => milliseconds(plain.medium.writeMs)],
];

const resumeColumns: Column[] = [
  ['reacts', ({ torpor }) => milliseconds(torpor.reactMs)],
  ['plain criu', ({ plain }) => milliseconds(plain.reactMs)],
  ['ratio', ({ torpor, plain }) => ratio(torpor.reactMs / plain.reactMs)],
  ['criu lazy-pages', ({ plain }) => orNone(plain.lazy?.reactMs, milliseconds)],
  ['call returns', ({ torpor }) => milliseconds(torpor.resumeMs)],
  ['fully resident', ({ torpor }) => milliseconds(torpor.residentMs)],
  ['plain criu', ({ plain }) => milliseconds(plain.restoreMs)],
  ['criu lazy-pages', ({ plain }) => orNone(plain.lazy?.residentMs, milliseconds)],
  ["medium's read of Torpor's bytes", ({ torpor }) => milliseconds(torpor.medium.readMs)],
  ["of criu's bytes", ({ plain }) => milliseconds(plain.medium.readMs)],
  ['decompression, all cores', ({ plain }) => milliseconds(plain.zstd.decompressMs)],
];

const diskColumns: Column[] = [
  ['resident', ({ torpor }) => mebibytes(torpor.memoryBytes)],
  ['plain criu', ({ plain }) => mebibytes(plain.dump.bytes)],
  ['criu, zstd -1', ({ plain }) => mebibytes(plain.zstd.bytes)],
  ['Torpor, at once', ({ torpor }) => mebibytes(torpor.first.bytes)],
  ['settled', (result) => mebibytes(result.torpor.first.settledBytes)],
  ['of resident', (result) => ratio(result.torpor.first.settledBytes / result.torpor.memoryBytes)],
  ['settling took', ({ torpor }) => milliseconds(torpor.first.settleMs)],
];

const secondColumns: Column[] = [
  ['durable', ({ torpor }) => milliseconds(torpor.second.durableMs)],
  ['of the first', ({ torpor: { first, second } }) => ratio(second.durableMs / first.durableMs)],
  ['memory free', ({ torpor }) => milliseconds(torpor.second.freeMs)],
  ['stood still', ({ torpor }) => milliseconds(torpor.second.standstillMs)],
  ['bytes, at once', ({ torpor }) => mebibytes(torpor.second.bytes)],
  ['settled', ({ torpor: { second } }) => mebibytes(second.settledBytes)],
  ['of the first', (result) => ratio(result.torpor.second.settledBytes / result.torpor.first.settledBytes)],
];

const helperMemory = (name: 'torpor-pages' | 'torpor-pager'): Column => [
  `${name}, own memory (with files)`,
  ({ torpor: { helpers } }) => {
    const memory = helpers[name];
    return memory === undefined ? none : `${mebibytes(memory.anonymous)} (${mebibytes(memory.peak)})`;
  },
];

const costColumns: Column[] = [
  helperMemory('torpor-pages'),
  helperMemory('torpor-pager'),
  ['CPU, suspend', ({ torpor }) => seconds(torpor.first.cpuSeconds)],
  ['plain criu', ({ plain }) => seconds(plain.dumpCpuSeconds)],
  ['and zstd -1', ({ plain }) => seconds(plain.dumpCpuSeconds + plain.zstd.cpuSeconds)],
  ['CPU, second suspend', ({ torpor }) => seconds(torpor.second.cpuSeconds)],
  ['CPU, resume', ({ torpor }) => seconds(torpor.resumeCpuSeconds)],
  ['plain criu', ({ plain }) => seconds(plain.restoreCpuSeconds)],
  ['criu lazy-pages', ({ plain }) => orNone(plain.lazy?.cpuSeconds, seconds)],
];

const verdict = ({ isReached }: Aim) =>
  isReached === undefined ? 'not measured' : isReached ? 'reached' : 'NOT reached';

/** @param notes what was left out, and why */
export function memoryReport(results: readonly Result[], notes: readonly string[], chart: string): string {
  const damaged = results.filter(({ torpor, plain }) => !torpor.isIntact || !plain.isIntact);
  return [
    '## Aims',
    '',
    markdownTable(
      ['aim', '', 'figure'],
      aims(results).map((each) => [each.aim, verdict(each), each.figure]),
    ),
    '',
    damaged.length === 0
      ? 'The memory of every process was the same after each resume, by checksum.'
      : `MEMORY WAS NOT THE SAME after the resume: ${damaged.map(({ name }) => name).join('; ')}.`,
    '',
    ...notes.flatMap((note) => [`- ${note}`]),
    ...(notes.length === 0 ? [] : ['']),
    `![Torpor beside plain criu, in bars](${chart})`,
    '',
    '## Suspend',
    '',
    table(results, suspendColumns),
    '',
    '## Resume, from a cold page cache',
    '',
    table(results, resumeColumns),
    '',
    '## On disk',
    '',
    table(results, diskColumns),
    '',
    '## Second suspend',
    '',
    table(results, secondColumns),
    '',
    '## Cost',
    '',
    table(results, costColumns),
  ].join('\n');
}
