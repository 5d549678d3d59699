/** Reading what stands in options. */
import { TorporError } from '../api/errors.ts';

/** `K=V` words as an environment. @throws TorporError `usage` naming the word that is none. */
export function environmentOf(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const at = word.indexOf('=');
      if (at < 1) {
        throw new TorporError(
          'usage',
          `--env "${word}" is not of the form K=V.`,
          'For example: --env LANG=de_DE.UTF-8',
        );
      }
      return [word.slice(0, at), word.slice(at + 1)];
    }),
  );
}

/** The environment that the command itself was given. */
export function ownEnvironment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}
