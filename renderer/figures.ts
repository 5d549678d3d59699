/** Sizes, durations and dates as people read them, by the browser's own rules for the locale. */

const sizes = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'] as const;
const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;

export interface Figures {
  /** `1.4 GB`, with three digits at most. */
  bytes(count: number): string;
  /** `12 sec`, `3 min`: the largest unit that fits. */
  duration(seconds: number): string;
  /** `5 min. ago`; undefined for less than a minute, for which there is a better word. */
  ago(iso: string, now: number): string | undefined;
  /** `14:02`. */
  time(iso: string): string;
  /** `21 November 2026 at 14:02`. */
  moment(iso: string): string;
  /** `Saturday, 21 November`. */
  day(iso: string): string;
}

export function makeFigures(locale: string): Figures {
  const number = (unit: string, digits: number) =>
    new Intl.NumberFormat(locale, {
      style: 'unit',
      unit,
      unitDisplay: 'short',
      maximumFractionDigits: digits,
    });
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' });
  const time = new Intl.DateTimeFormat(locale, { timeStyle: 'short' });
  const moment = new Intl.DateTimeFormat(locale, { dateStyle: 'long', timeStyle: 'short' });
  const longDay = new Intl.DateTimeFormat(locale, { weekday: 'long', day: 'numeric', month: 'long' });

  return {
    bytes(count) {
      let value = Math.max(0, count);
      // Nothing is "0 MB", as what stands beside it.
      let size = count <= 0 ? 2 : 0;
      while (value >= 999.5 && size < sizes.length - 1) {
        value /= 1000;
        size++;
      }
      const digits = size < 2 || value >= 100 ? 0 : value >= 10 && size < 3 ? 0 : 1;
      return number(sizes[size] ?? 'byte', digits).format(value);
    },
    duration(seconds) {
      const whole = Math.ceil(seconds);
      if (whole < minute) return number('second', 0).format(whole);
      if (seconds < hour) return number('minute', 0).format(Math.round(seconds / minute));
      return number('hour', 1).format(seconds / hour);
    },
    ago(iso, now) {
      const passed = Math.max(0, (now - Date.parse(iso)) / 1000);
      if (Number.isNaN(passed) || passed < minute) return undefined;
      if (passed < hour) return relative.format(-Math.floor(passed / minute), 'minute');
      if (passed < day) return relative.format(-Math.floor(passed / hour), 'hour');
      return relative.format(-Math.floor(passed / day), 'day');
    },
    time: (iso) => time.format(new Date(iso)),
    moment: (iso) => moment.format(new Date(iso)),
    day: (iso) => longDay.format(new Date(iso)),
  };
}
