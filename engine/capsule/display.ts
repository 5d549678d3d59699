/**
 * The number of a capsule's X display. The X server in a capsule listens on a path that only the capsule sees, but
 * clients of libxcb before 1.16 first try the abstract socket of that number, which the whole network namespace has in
 * common: with the number of the desktop's own X server, or of one that another user runs, the application would talk to
 * that. So it gets a number that nobody uses.
 */
import { randomInt } from 'node:crypto';

/** Desktops count from 0, virtual screens and ssh from 10 or 99; nothing is known to come so far. */
const lowest = 1000;
/** Where X servers that listen to TCP as well would run out of ports: 6000 and the number. */
const above = 59_000;

/** A display number that no X server of this machine listens to. Pure but for chance. */
export function chooseDisplay(procNetUnix: string): number {
  const used = new Set(
    [...procNetUnix.matchAll(/@\/tmp\/\.X11-unix\/X(\d+)$/gm)].map((match) => Number(match[1])),
  );
  for (;;) {
    const number = randomInt(lowest, above);
    if (!used.has(number)) return number;
  }
}
