/** Which words of Electron's command line are the app's. Pure. */
import { resolve } from 'node:path';

const known = ['--tray', '--browser', '--quit', '--place'];

/**
 * What was meant for the app: behind the program, and where it is run from a script, behind that; without Chromium's own
 * switches, which may be anywhere before `--`.
 * @param script the app's, absolute; undefined where it is a part of the program
 */
export function ownWords(argv: readonly string[], script: string | undefined): string[] {
  const at =
    script === undefined ? 0 : argv.findIndex((word, index) => index > 0 && resolve(word) === script);
  const words = argv.slice(Math.max(0, at) + 1);
  const end = words.indexOf('--');
  const isOwn = (word: string) => !word.startsWith('--') || known.some((name) => word.split('=')[0] === name);
  return end < 0 ? words.filter(isOwn) : [...words.slice(0, end).filter(isOwn), ...words.slice(end)];
}
