/** Medians, ratios and tables for the benchmark. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? 0)
    : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/**
 * The medians of all figures of several rounds; what was so in one round only, as `false` or a figure that is missing,
 * is so in the result.
 */
export function mediansOf<T>(rounds: readonly T[]): T {
  const [first] = rounds;
  const all = (holds: (value: unknown) => boolean) => rounds.every(holds);
  if (all((value) => typeof value === 'number')) return median(rounds as readonly number[]) as T;
  if (all((value) => typeof value === 'boolean')) return all((value) => value === true) as T;
  if (!all((value) => typeof value === 'object' && value !== null)) return undefined as T;
  const keys = Object.keys(first as object) as (keyof T)[];
  return Object.fromEntries(keys.map((key) => [key, mediansOf(rounds.map((round) => round[key]))])) as T;
}

/** A table in Markdown. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

export const milliseconds = (value: number): string =>
  value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;

export const mebibytes = (value: number): string => {
  const amount = value / 1024 ** 2;
  return `${amount < 10 ? amount.toFixed(1) : amount.toFixed(0)} MiB`;
};

export const ratio = (value: number): string => (value < 0.1 ? value.toFixed(3) : value.toFixed(2));
