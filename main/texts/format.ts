/** Figures in a language: numbers, shares, bytes, plurals, times. */

/** A count in words: `#` in the chosen form becomes the number. */
export function plural(language: string, count: number, forms: { one: string; other: string }): string {
  const form = new Intl.PluralRules(language).select(count) === 'one' ? forms.one : forms.other;
  return form.replace('#', new Intl.NumberFormat(language).format(count));
}

const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'] as const;

/** Bytes in the unit that fits, as the windows show them: `1.2 GB`. */
export function bytes(language: string, count: number): string {
  let value = Math.max(0, count);
  let size = 0;
  while (value >= 999.5 && size < units.length - 1) {
    value /= 1000;
    size++;
  }
  const isRough = size < 2 || value >= 100 || (value >= 10 && size < 3);
  return new Intl.NumberFormat(language, {
    style: 'unit',
    unit: units[size] ?? 'byte',
    unitDisplay: 'short',
    maximumFractionDigits: isRough ? 0 : 1,
  }).format(value);
}

/** A share from 0 to 1 in whole percent; never 100 before it is whole. */
export function percent(language: string, share: number): string {
  return new Intl.NumberFormat(language, { style: 'percent', maximumFractionDigits: 0 }).format(
    Math.floor(Math.min(1, Math.max(0, share)) * 100) / 100,
  );
}

/** Day and time of an ISO 8601 date, in the time zone of this machine. */
export function dayAndTime(language: string, iso: string): string {
  return new Intl.DateTimeFormat(language, { dateStyle: 'short', timeStyle: 'short' }).format(new Date(iso));
}
