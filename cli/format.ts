/** Figures and tables for people. */
import type { Finding, IntervalState, Workload } from '../api/types.ts';
import { duration } from './duration.ts';

/** Bytes with a binary prefix, three digits at most: `93.1 MiB`. */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** The bytes that a word such as `20G`, `1.5 TiB` or `4096` means, or undefined where it means none. */
export function parseBytes(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?$/i.exec(text) ?? [];
  const power = ['', 'K', 'M', 'G', 'T'].indexOf(unit.toUpperCase());
  return number === undefined ? undefined : Math.round(Number(number) * 1024 ** power);
}

/** Milliseconds as `0.35 s`. */
export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(2)} s`;
}

/** How long ago, in the largest unit that fits. */
export function ago(iso: string, now = Date.now()): string {
  const passed = Math.max(0, (now - Date.parse(iso)) / 1000);
  for (const [unit, length] of [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
  ] as const) {
    if (passed >= length) return `${Math.floor(passed / length)} ${unit}`;
  }
  return `${Math.floor(passed)} s`;
}

/** Text without control characters, which names and command lines may hold and which would confuse a terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) => JSON.stringify(character).slice(1, -1));
}

/** Columns, as wide as their widest cell. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows].map((row) => row.map(printable));
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Findings, the worst first. */
export function findingsText(findings: readonly Finding[]): string {
  const order = ['blocking', 'degraded', 'handled'];
  return [...findings]
    .sort((a, b) => order.indexOf(a.verdict) - order.indexOf(b.verdict))
    .map(({ verdict, what, hint, by }) => {
      const who = verdict === 'handled' && by !== '' ? ` (by ${by})` : '';
      return `  ${verdict}${who}: ${printable(what)}${hint === '' ? '' : `\n      ${printable(hint)}`}`;
    })
    .join('\n');
}

/** What is to be known of the snapshots that are taken of a workload at an interval. */
export function intervalText(name: string, interval: IntervalState, now = Date.now()): string {
  const { everySeconds, keepLast, nextAt, failures, problem } = interval;
  const inSeconds = nextAt === undefined ? undefined : (Date.parse(nextAt) - now) / 1000;
  const next =
    inSeconds === undefined
      ? 'when it runs again'
      : inSeconds <= 0
        ? 'one is being taken'
        : `the next one in ${duration(Math.ceil(inSeconds))}`;
  const trouble =
    problem === undefined
      ? []
      : [
          failures > 1
            ? `  The last ${failures} turns failed. ${ago(problem.at, now)} ago: `
            : `  ${ago(problem.at, now)} ago: `,
        ].map((head) => `${head}${printable(problem.what)}`);
  return [
    `${printable(name)}: a snapshot every ${duration(everySeconds)}, ${next}; the last ${keepLast} are there.`,
    ...trouble,
  ].join('\n');
}

/** A workload in JSON: what it has not is null, so that every field is always there. */
export function workloadJson(workload: Workload): object {
  return {
    ...workload,
    snapshot: workload.snapshot ?? null,
    application: workload.application ?? null,
    exit: workload.exit ?? null,
    note: workload.note ?? null,
  };
}
