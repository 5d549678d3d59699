/** Lengths of time as users write and read them. */

const unitSeconds = { s: 1, m: 60, min: 60, h: 3600, d: 86_400 } as const;

/** Seconds of `90s`, `10m`, `1h 30m` or `2d`; undefined of anything else. */
export function parseDuration(text: string): number | undefined {
  const form = /^(?:\s*\d{1,7}\s*(?:s|min|m|h|d))+\s*$/;
  if (!form.test(text)) return undefined;
  return [...text.matchAll(/(\d+)\s*(s|min|m|h|d)/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * unitSeconds[unit as keyof typeof unitSeconds],
    0,
  );
}

/** Seconds as `10 min` or `1 h 30 min`: at most two units. */
export function duration(seconds: number): string {
  let left = Math.round(seconds);
  const parts: string[] = [];
  for (const [unit, length] of [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count > 0) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(' ') || '0 s';
}
